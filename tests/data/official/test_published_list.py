"""Lists as papers publish them: the ids here are made up, the forms are real."""

import pytest

from avssl.core.manifest import ManifestError
from avssl.data.official.published_list import read_list, read_lists


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("aaaaaaaaaaa_000001\nbbbbbbbbbbb_000242\n", ["aaaaaaaaaaa@1", "bbbbbbbbbbb@242"]),
        ("aaaaaaaaaaa_1000_11000\n", ["aaaaaaaaaaa@1"]),
        ("aaaaaaaaaaa_000300.mp4,playing hammond organ\n", ["aaaaaaaaaaa@300"]),
        ("--4-0ihtnBU_000058_000068,10,4\n-3Mwkq-7TV4_2,10,23\n", ["--4-0ihtnBU@58", "-3Mwkq-7TV4@2"]),
        ('aaaaaaaaaaa,120,"bee, wasp, etc. buzzing",train\n', ["aaaaaaaaaaa@120"]),
        ("10000130166,202\n10007936344,0\n", ["10000130166", "10007936344"]),
        ("10000130166,child singing\n10007936344,playing tambourine\n", ["10000130166", "10007936344"]),
        ("/hdd/Annotations/dataset/2432219254.mp4\r\n2542659118.png\r\n\r\n", ["2432219254", "2542659118"]),
        ("\ufeff# of 2017\n5692223126.wav\n", ["5692223126"]),
        ("youtube_id,label\naaaaaaaaaaa_7,x\n", ["aaaaaaaaaaa@7"]),
    ],
)
def test_ids_are_read_in_all_forms(tmp_path, text, keys):
    (tmp_path / "list.txt").write_text(text, newline="")
    assert list(read_list(tmp_path / "list.txt").keys) == keys


def test_pairs_without_a_visible_source_are_apart(tmp_path):
    text = "video,audio,label\n111,222,non-sounding\n333,333,child singing\n333,333,child singing\n"
    (tmp_path / "plus_silent.csv").write_text(text)
    found = read_list(tmp_path / "plus_silent.csv")
    assert [(clip.key, clip.audio_key) for clip in found.silent] == [("111", "222")]
    assert (list(found.keys), found.num_repeated) == (["333"], 1)


def test_a_list_knows_which_of_its_clips_the_official_files_hold(tmp_path):
    (tmp_path / "list.txt").write_text("aaaaaaaaaaa_1\nbbbbbbbbbbb\nccccccccccc_9\n")
    found = read_list(tmp_path / "list.txt")
    assert [found.claim(key) for key in ("aaaaaaaaaaa@1", "aaaaaaaaaaa@2", "bbbbbbbbbbb@5")] == [True, False, True]
    assert found.unknown() == ["ccccccccccc_9"]


def test_lists_are_named_with_or_without_a_split(tmp_path):
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata/a.txt").write_text("1234567\n")
    lists = read_lists(["train=a.txt", str(tmp_path / "metadata/a.txt")], [tmp_path, tmp_path / "metadata"])
    assert [each.split for each in lists] == ["train", None]
    with pytest.raises(ManifestError, match=r"none\.txt: no such list"):
        read_lists(["none.txt"], [tmp_path])


@pytest.mark.parametrize(("text", "message"), [("", "no ids"), ('[{"file": "x"}]', "1: JSON"), (",x\n", "1: no id")])
def test_what_is_no_list_is_named(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(ManifestError, match=rf"list\.txt:? ?{message}"):
        read_list(tmp_path / "list.txt")
