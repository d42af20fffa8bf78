"""GRID: the sentences and word times of talking faces."""

import importlib
from pathlib import Path

import pytest

ALIGNMENT = """\
0 23750 sil
23750 29500 bin
29500 34000 blue
34000 35500 at
35500 41000 f
41000 47250 two
47250 52000 sp
52000 53000 now
53000 74500 sil
"""
SENTENCES = {
    "bbaf2n": "bin blue at f two now",
    "lgizzs": "lay green in z zero soon",
    "prwk9a": "place red with k nine again",
}


def alignment(sentence: str) -> str:
    return "".join(f"{1000 * i} {1000 * (i + 1)} {word}\n" for i, word in enumerate(["sil", *sentence.split(), "sil"]))


@pytest.fixture
def speaker(write, touch):
    """Three clips of s1."""
    for name, sentence in SENTENCES.items():
        write(f"alignments/s1/{name}.align", alignment(sentence))
        touch(f"s1/{name}.mpg")


def test_grid_rows(run, write, touch):
    write("alignments/s1/bbaf2n.align", ALIGNMENT)
    write("s2/align/srbqzp.align", alignment("set red by q zero please"))
    touch("s1/bbaf2n.mp4", "s2/video/mpg_6000/srbqzp.mpg", "s2/video/mpg_vcd/srbqzp.mpg", "audio/s1/bbaf2n.wav")
    done = run("grid", "--test-clips", "0")
    columns = ["path", "split", "speaker", "words", "command", "color", "preposition", "letter", "digit", "adverb"]
    assert done.rows(*columns) == [
        ("s1/bbaf2n.mp4", "train", "s1", "bin blue at f two now", "bin", "blue", "at", "f", "two", "now"),
        (
            *("s2/video/mpg_6000/srbqzp.mpg", "train", "s2", "set red by q zero please"),
            *("set", "red", "by", "q", "zero", "please"),
        ),
    ]
    assert done.rows("word_seconds")[0] == ("0.95-1.18 1.18-1.36 1.36-1.42 1.42-1.64 1.64-1.89 2.08-2.12",)
    assert not done.missing


def test_grid_in_the_folder_of_one_speaker(run, root, write, touch):
    for name, sentence in SENTENCES.items():
        write(f"s1_processed/align/{name}.align", alignment(sentence))
        touch(f"s1_processed/{name}.mpg")
    assert run("grid", "--test-clips", "1").rows("speaker") == [("s1",)] * 3
    assert importlib.import_module("grid").key_of(root / "s1", Path("bbaf2n.mpg")) == ("s1", "bbaf2n")


def test_grid_splits(run, speaker, touch):
    splits = run("grid", "--test-clips", "1").rows("path", "split")
    assert sorted(split for _, split in splits) == ["test", "train", "train"]
    fewer = run("grid", "--test-clips", "1", "--train-clips", "1").rows("path", "split")
    assert sorted(split for _, split in fewer) == ["test", "train", "unused"]
    assert dict(fewer) | {path: "train" for path, split in fewer if split == "unused"} == dict(splits)


def test_grid_splits_by_speaker(run, speaker, touch, write):
    write("alignments/s2/bbaf2n.align", ALIGNMENT)
    touch("s2/bbaf2n.mpg")
    done = run("grid", "--test-speakers", "s2")
    assert done.rows("speaker", "split") == [("s1", "train")] * 3 + [("s2", "test")]


def test_grid_names_what_is_missing(run, write, touch, root):
    for name, sentence in SENTENCES.items():
        write(f"alignments/s1/{name}.align", alignment(sentence))
    write("alignments/s1/lgizzs.align", alignment("lay green in z one soon"))
    write("alignments/s1/swwp7n.align", "0 1000 set\n900 2000 white\n")
    touch("s1/lgizzs.mpg", "s1/prwk9a.mpg", "s1/swwp7n.mpg", "s1/bgbh4p.mpg", "s1/none.mpg")
    done = run("grid", "--test-clips", "1")
    assert done.rows("path") == [("s1/prwk9a.mpg",)]
    reasons = {row["id"]: row["reason"].replace(f"{root}/", "") for row in done.missing}
    assert reasons == {
        "s1/bbaf2n": "not found",
        "s1/bgbh4p": "its alignment is not found",
        "s1/lgizzs": "alignments/s1/lgizzs.align: the words are 'lay green in z one soon', and its name means "
        "'lay green in z zero soon'.",
        "s1/swwp7n": "alignments/s1/swwp7n.align:2: start is '900', expected a number of at least 1000, where the line "
        "before ends.",
    }
    assert run("grid", "--test-clips", "1", "--strict").status == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "s1 has 3 clips, fewer than 1 to train and 200 to test on. Lower --train-clips or --test-clips."),
        (["--test-clips", "2", "--train-clips", "2"], "s1 has 3 clips, fewer than 2 to train and 2 to test on"),
        (["--test-clips", "-1"], "--test-clips (-1) must be >= 0"),
        (["--test-speakers", "s3"], "--test-speakers: no clips of s3; there are s1."),
        (["--annotations", "s1"], "no sN/NAME.align, such as alignments/s1/bbaf2n.align, in"),
    ],
)
def test_grid_options_that_do_not_fit(run, root, speaker, words, message):
    words = [str(root / word) if word == "s1" else word for word in words]
    done = run("grid", *words)
    assert done.status == 1
    assert message in done.error


def test_grid_of_broken_alignments_alone_is_an_error(run, write, touch):
    write("alignments/s1/bbaf2n.align", "0 sil\n")
    touch("s1/bbaf2n.mpg")
    done = run("grid", "--test-clips", "0")
    assert done.status == 1
    assert "bbaf2n.align:1: 2 columns where 3 (start, stop, word) are expected" in done.error
