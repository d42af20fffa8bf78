"""AudioSet, VGGSound and VGG-SS: pieces of YouTube videos."""

import json

import pytest

CLASSES = """\
index,mid,display_name
0,/m/09x0r,"Speech"
1,/m/0284vy3,"Train horn"
2,/t/dd00088,"Gush"
3,/m/0ytgt,"Child speech, kid speaking"
"""
BALANCED = """\
# Segments csv created Sun Mar  5 10:54:31 2017
# num_ytids=3, num_segs=3, num_unique_labels=3, num_positive_labels=4
# YTID, start_seconds, end_seconds, positive_labels
--PJHxphWEs, 30.000, 40.000, "/m/09x0r,/t/dd00088"
YhevVpy1sQ_, 0.000, 10.000, "/m/0284vy3"
aE2O5G5WEaa, 500.000, 510.000, "/m/0ytgt"
"""
EVAL = """\
# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=1, num_segs=1, num_unique_labels=1, num_positive_labels=1
# YTID, start_seconds, end_seconds, positive_labels
-0RWZT-miFs, 420.000, 430.000, "/m/09x0r"
"""


@pytest.fixture
def audioset(write):
    write("class_labels_indices.csv", CLASSES)
    write("balanced_train_segments.csv", BALANCED)
    write("eval_segments.csv", EVAL)


def test_audioset_rows(run, audioset, touch):
    touch("bal/Y--PJHxphWEs_30.000.mp4", "YYhevVpy1sQ_.mp4", "x/aE2O5G5WEaa_500000_510000.mp4", "e/-0RWZT-miFs_420.mp4")
    done = run("audioset")
    assert done.rows("id", "label", "split", "subset") == [
        ("bal/Y--PJHxphWEs_30.000.mp4", "Speech|Gush", "train", "balanced"),
        ("YYhevVpy1sQ_.mp4", "Train horn", "train", "balanced"),
        ("x/aE2O5G5WEaa_500000_510000.mp4", "Child speech, kid speaking", "train", "balanced"),
        ("e/-0RWZT-miFs_420.mp4", "Speech", "test", "eval"),
    ]
    assert done.missing == []
    assert ["train", "3", "0", "3", "22160"] in [line.split() for line in done.out.splitlines()]
    assert ["test", "1", "0", "1", "20371"] in [line.split() for line in done.out.splitlines()]


def test_audioset_subset_and_missing(run, audioset, touch):
    touch("-0RWZT-miFs.mp4")
    done = run("audioset", "--subset", "eval", "--untrimmed")
    assert done.rows("id", "start_seconds", "stop_seconds") == [("-0RWZT-miFs.mp4#420.000-430.000", 420.0, 430.0)]
    done = run("audioset")
    assert [row["id"] for row in done.missing] == ["--PJHxphWEs_30.000", "YhevVpy1sQ__0.000", "aE2O5G5WEaa_500.000"]
    assert done.missing[0]["label"] == "Speech|Gush"


def test_audioset_100k_is_the_same_list_whatever_is_there(run, write, touch, monkeypatch):
    ids = [f"video{number:06}" for number in range(40)]
    write("class_labels_indices.csv", CLASSES)
    write("unbalanced_train_segments.csv", "".join(f'{name}, 0.000, 10.000, "/m/09x0r"\n' for name in ids))
    touch("video000022.mp4", "video000031.mp4", "video000000.mp4")
    done = run("audioset", "--subset", "unbalanced-100k")
    assert len(done.manifest) == 3
    assert ["train", "3", "37", "40", "100000"] in [line.split() for line in done.out.splitlines()]
    monkeypatch.setattr("audioset.NUM_SAMPLES", 5)
    done = run("audioset", "--subset", "unbalanced-100k")
    # "printf video000022 | sha256sum" starts with 02; the digests of 19, 35, 31 and 24 come next.
    assert done.rows("id") == [("video000022.mp4",), ("video000031.mp4",)]
    assert [row["id"] for row in done.missing] == [f"video0000{number}_0.000" for number in (19, 24, 35)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('--PJHxphWEs, 30.000, 40.000, "/m/none"\n', "positive_labels is '/m/none', expected ids of class_labels"),
        ("--PJHxphWEs, 30.000, 40.000\n", "3 columns where 4"),
        ('--PJHxphWEs, 40.000, 30.000, "/m/09x0r"\n', "end_seconds is '30.000', expected more than start_seconds (40)"),
    ],
)
def test_audioset_in_another_format(run, audioset, write, line, message):
    write("balanced_train_segments.csv", "# YTID, start_seconds, end_seconds, positive_labels\n" + line)
    done = run("audioset")
    assert done.status == 1
    assert "balanced_train_segments.csv:2: " in done.error
    assert message in done.error


VGGSOUND = """\
---g-f_I2yQ,1,people marching,test
--0PQM4-hqg,30,"playing violin, fiddle",train
4z8HTrCvEsc,12,cow lowing,train
4z8HTrCvEsc,97,cow lowing,test
"""


def test_vggsound_rows(run, write, touch):
    write("data/vggsound.csv", VGGSOUND)
    touch("video/---g-f_I2yQ_000001.mp4", "video/--0PQM4-hqg_30.mp4", "4z8HTrCvEsc_97000_107000.mp4")
    done = run("vggsound")
    assert done.rows("id", "label", "split") == [
        ("video/---g-f_I2yQ_000001.mp4", "people marching", "test"),
        ("video/--0PQM4-hqg_30.mp4", "playing violin, fiddle", "train"),
        ("4z8HTrCvEsc_97000_107000.mp4", "cow lowing", "test"),
    ]
    assert [(row["id"], row["reason"]) for row in done.missing] == [
        ("4z8HTrCvEsc_000012", "only another second of this video: 4z8HTrCvEsc_97000_107000.mp4")
    ]


def test_a_file_that_may_be_either_of_two_clips_is_neither(run, write, touch):
    write("vggsound.csv", VGGSOUND)
    touch("---g-f_I2yQ.mp4", "4z8HTrCvEsc.mp4")
    done = run("vggsound")
    assert done.rows("id") == [("---g-f_I2yQ.mp4",)]
    assert [(row["id"], row["path"], row["split"]) for row in done.missing] == [
        ("--0PQM4-hqg_000030", "--0PQM4-hqg_000030.mp4", "train"),
        ("4z8HTrCvEsc_000012", "4z8HTrCvEsc.mp4", "train"),
        ("4z8HTrCvEsc_000097", "4z8HTrCvEsc.mp4", "test"),
    ]
    assert done.missing[1]["reason"].startswith("4z8HTrCvEsc.mp4 may be any of 2 listed clips")
    assert ["train", "0", "2", "2", "183730"] in [line.split() for line in done.out.splitlines()]
    done = run("vggsound", "--untrimmed")
    assert done.rows("id", "start_seconds", "stop_seconds")[1:] == [
        ("4z8HTrCvEsc.mp4#12.000-22.000", 12.0, 22.0),
        ("4z8HTrCvEsc.mp4#97.000-107.000", 97.0, 107.0),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("---g-f_I2yQ,1,people marching,eval\n", "split is 'eval', expected 'train' or 'test'"),
        ("---g-f_I2yQ,1,people marching\n", "3 columns where 4"),
        ("---g-f_I2yQ,1,people|marching,test\n", "holds '|'"),
    ],
)
def test_vggsound_in_another_format(run, write, touch, line, message):
    write("vggsound.csv", line)
    touch("---g-f_I2yQ.mp4")
    done = run("vggsound")
    assert done.status == 1
    assert message in done.error


def entry(**changes):
    return {
        "file": "r8EDAvs9gLg_000027",
        "class": "cow lowing",
        "bbox": [[0.5, 0.25, 1.25, -0.5], [0, 0.5, 0.5, 1]],
    } | changes


def test_vggss_rows_and_boxes(run, write, touch, root):
    entries = [entry(), entry(file="ABCDEFGHIJ__000030", **{"class": "playing violin, fiddle"})]
    write("metadata/vggss.json", json.dumps(entries))
    touch("video/r8EDAvs9gLg_000027.mp4")
    done = run("vggss", out="vggss.csv")
    assert done.rows("id", "label", "split", "truth") == [
        ("video/r8EDAvs9gLg_000027.mp4", "cow lowing", "test", "truth/vggss/r8EDAvs9gLg_000027.json")
    ]
    assert done.truth(0) == {
        "format": "avssl-boxes-1",
        "num_annotators": 1,
        "frames": [
            {
                "seconds": 5.0,
                "boxes": [
                    {"box": [0.5, 0.25, 1.0, 0.25], "annotator": 0},  # cut off at the border, and without area
                    {"box": [0.0, 0.5, 0.5, 1.0], "annotator": 0},
                ],
            }
        ],
    }
    assert [row["id"] for row in done.missing] == ["ABCDEFGHIJ__000030"]
    assert [path.name for path in (root / "truth/vggss").iterdir()] == ["r8EDAvs9gLg_000027.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file": "../../etc/x"}, "file is '../../etc/x', expected a name such as"),
        ({"bbox": [[0.1, 0.2, 0.3]]}, "bbox is [[0.1, 0.2, 0.3]], expected boxes (four numbers"),
        ({"bbox": None}, "bbox is None, expected a list"),
        ({"class": 3}, "class is 3, expected a str"),
    ],
)
def test_vggss_in_another_format(run, write, touch, changes, message):
    write("vggss.json", json.dumps([entry(), entry(**changes)]))
    touch("r8EDAvs9gLg_000027.mp4")
    done = run("vggss", out="vggss.csv")
    assert done.status == 1
    assert "vggss.json: entry 1: " in done.error
    assert message in done.error


def test_audioset_as_wav_and_with_a_line_of_titles(run, audioset, write, touch):
    write("eval_segments.csv", EVAL.replace("# YTID", "YTID").replace("# ", "# "))
    touch("eval/Y-0RWZT-miFs.wav", "eval/--PJHxphWEs_30.000.flac")
    done = run("audioset")
    assert done.rows("path", "split", "label") == [
        ("eval/--PJHxphWEs_30.000.flac", "train", "Speech|Gush"),
        ("eval/Y-0RWZT-miFs.wav", "test", "Speech"),
    ]
    assert "2 audio files alone" in done.out


def test_audioset_long_files_list_what_is_missing(run, write, touch, monkeypatch):
    monkeypatch.setattr("avssl.data.official.column_tables._BLOCK_BYTES", 200)
    monkeypatch.setattr("avssl.data.official.clip_list._PART_ROWS", 7)
    ids = [f"video{number:06}" for number in range(40)]
    write("class_labels_indices.csv", CLASSES)
    text = "".join(f'{name}, {n}.500, {n + 10}.000, "/m/0ytgt,/m/09x0r"\n' for n, name in enumerate(ids))
    write("unbalanced_train_segments.csv", f"# one\n# two\n{text}")
    touch("video000022_22.wav", "video000031_7.wav")
    done = run("audioset", "--subset", "unbalanced")
    assert done.rows("path", "official_id") == [("video000022_22.wav", "video000022_22.500")]
    assert len(done.missing) == 39
    assert done.missing[0] == {
        "id": "video000000_0.500",
        "path": "video000000_000000.mp4",
        "split": "train",
        "label": "Child speech, kid speaking|Speech",
        "reason": "not found",
    }
    assert {row["reason"] for row in done.missing} == {
        "not found",
        "only another second of this video: video000031_7.wav",
    }
    assert ["train", "1", "39", "40", "2041789"] in [line.split() for line in done.out.splitlines()]


def test_vggsound_training_list(run, write, touch):
    write("vggsound.csv", 'aaaaaaaaaaa,1,"people, marching",test\nbbbbbbbbbbb,30,x,train\nccccccccccc,5,x,train\n')
    write("metadata/vggss_144k.txt", "aaaaaaaaaaa_000001\nbbbbbbbbbbb_000030\nddddddddddd_000030\n")
    touch(*(f"frames/{v}.jpg" for v in ("aaaaaaaaaaa_000001", "bbbbbbbbbbb_000030")), "audio/aaaaaaaaaaa_000001.wav")
    done = run("vggsound", "--list", "train=vggss_144k.txt")
    assert done.rows("path", "audio_path", "split", "label", "official_id") == [
        (
            "frames/aaaaaaaaaaa_000001.jpg",
            "audio/aaaaaaaaaaa_000001.wav",
            "train",
            "people, marching",
            "aaaaaaaaaaa_000001",
        )
    ]
    assert [(row["id"], row["reason"]) for row in done.missing] == [("bbbbbbbbbbb_000030", "only its image exists")]
    assert (
        "vggss_144k.txt: 3 clips, 2 of them in the official files; 1 are unknown, the first is ddddddddddd" in done.out
    )


def test_vggss_subset_and_pairs_in_which_nothing_sounds(run, write, touch):
    names = ("aaaaaaaaaaa_000001", "bbbbbbbbbbb_000030")
    entries = [{"file": name, "class": "x", "bbox": [[0, 0, 0.5, 1]]} for name in names]
    write("vggss.json", json.dumps(entries))
    touch(*(path for name in names for path in (f"frames/{name}.jpg", f"audio/{name}.wav")))
    write("heard.csv", f"{names[1]}\n")
    assert run("vggss", "--list", "heard.csv", out="vggss.csv").rows("official_id") == [(names[1],)]
    write("plus_silent.csv", f"video,audio,label\n{names[0]},{names[1]},non-sounding\n{names[1]},{names[1]},x\n")
    done = run("vggss", "--list", "plus_silent.csv", out="vggss.csv")
    assert done.rows("id", "path", "audio_path") == [
        (f"frames/{names[1]}.jpg", f"frames/{names[1]}.jpg", f"audio/{names[1]}.wav"),
        (f"frames/{names[0]}.jpg+bbbbbbbbbbb@30", f"frames/{names[0]}.jpg", f"audio/{names[1]}.wav"),
    ]
    assert done.truth(1)["frames"] == [{"seconds": 5.0, "boxes": []}]


def test_where_no_clip_is_found_the_layouts_are_told(run, write, touch):
    write("vggss.json", json.dumps([{"file": "aaaaaaaaaaa_000001", "class": "x", "bbox": []}]))
    touch("frames/aaaaaaaaaaa_000001.npy", "x.npy")
    error = run("vggss", out="vggss.csv").error
    for part in (".mp4", "frames/NAME.jpg and audio/NAME.wav", "2 x .npy", "ID_START"):
        assert part in error


def test_vggsound_duet_rows(run, write, touch):
    names = ("aaaaaaaaaaa_000001", "bbbbbbbbbbb_000030", "ccccccccccc_000005")
    write("vggss.json", json.dumps([{"file": name, "class": "x", "bbox": [[0, 0, 0.5, 1]]} for name in names]))
    write("metadata/vggsound_duet_test.csv", f"{names[0]},elk_bugling,{names[1]},people_coughing\n")
    touch(f"frames/{names[0]}.jpg", f"audio/{names[0]}.wav", f"videos/{names[1]}.mp4")
    done = run("vggsound_duet", out="vggsound_duet.csv")
    assert done.rows("path", "audio_path", "mixed_audio_path", "label") == [
        (f"frames/{names[0]}.jpg", f"audio/{names[0]}.wav", f"videos/{names[1]}.mp4", "elk_bugling"),
        (f"videos/{names[1]}.mp4", None, f"audio/{names[0]}.wav", "people_coughing"),
    ]
    assert done.rows("duet") == [(f"{names[0]}+{names[1]}",)] * 2
    assert done.truth(0)["frames"] == [
        {"seconds": 5.0, "boxes": [{"box": [0, 0, 0.5, 1], "annotator": 0, "label": "elk_bugling"}]}
    ]
    write("metadata/vggsound_duet_test.csv", f"{names[0]},a,zzzzzzzzzzz_000001,b\n")
    assert (
        "vggsound_duet_test.csv:1: name2 is 'zzzzzzzzzzz_000001', expected a clip of vggss.json"
        in run("vggsound_duet").error
    )
