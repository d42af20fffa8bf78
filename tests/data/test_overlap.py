"""Test clips that are trained on."""

import pytest

from avssl.core.manifest import Manifest
from avssl.data.overlap import find_overlap


def rows(root, *paths, **columns):
    return Manifest.from_columns({"id": list(paths), "path": list(paths), **columns}, root)


def test_the_same_segment_is_found_whatever_its_name(tmp_path):
    train = rows(tmp_path, "a/aaaaaaaaaaa_000030.mp4", "b/Ybbbbbbbbbbb_10000_20000.mkv", "cccccccccccc.mp4")
    names = ("frames/aaaaaaaaaaa_30.jpg", "bbbbbbbbbbb_10.wav", "aaaaaaaaaaa_31.mp4", "ddddddddddd_000030.mp4")
    found = find_overlap(train, rows(tmp_path, *names))
    assert (found.by_name, found.by_content, found.contents_compared) == (list(names[:2]), [], False)
    assert str(found).startswith("2 of 4 test clips (50.0 %) are trained on: 2 by name, 0 by content (names alone")
    assert "The first: frames/aaaaaaaaaaa_30.jpg, bbbbbbbbbbb_10.wav." in str(found)


def test_official_names_count_and_chance_names_do_not(tmp_path):
    train = rows(tmp_path, "1.mp4", "2.mp4", "3.mp4", "my_video_01.mp4", official_id=["aaaaaaaaaaa_9", "x", None, None])
    test = rows(
        tmp_path, "3.mp4", "q/2.mp4", "z.mp4", "t/my_video_01.mp4", official_id=[None, "x", "aaaaaaaaaaa_000009", None]
    )
    assert find_overlap(train, test).by_name == ["q/2.mp4", "z.mp4"]


def test_a_whole_video_holds_all_of_its_segments(tmp_path):
    whole = rows(tmp_path, "v.mp4", official_id=["aaaaaaaaaaa"])
    part = rows(tmp_path, "w.mp4", "x.mp4", official_id=["aaaaaaaaaaa_000030", "bbbbbbbbbbb_000030"])
    assert find_overlap(whole, part).by_name == ["w.mp4"]
    assert find_overlap(part, whole).by_name == ["v.mp4"]


def test_flickr_ids_are_found_in_frames_and_audio(tmp_path):
    train = rows(tmp_path, "144k/10000130166.jpg", "144k/5.jpg")
    assert find_overlap(train, rows(tmp_path, "test/10000130166.png", "test/5.jpg")).by_name == ["test/10000130166.png"]


def test_a_copy_is_found_by_its_content_and_time(tmp_path):
    (tmp_path / "train.mp4").write_bytes(b"content" * 100)
    (tmp_path / "copy.mp4").write_bytes(b"content" * 100)
    (tmp_path / "other.mp4").write_bytes(b"konTent" * 100)
    train = rows(tmp_path, "train.mp4", start_seconds=[0.0], stop_seconds=[10.0])
    assert find_overlap(train, rows(tmp_path, "copy.mp4", "other.mp4")).by_content == ["copy.mp4"]
    later = Manifest.from_columns(
        {
            "id": ["later", "across", "gone"],
            "path": ["copy.mp4", "copy.mp4", "gone.mp4"],
            "start_seconds": [10.0, 9.0, None],
            "stop_seconds": [20.0, 12.0, None],
        },
        tmp_path,
    )
    found = find_overlap(train, later)
    assert (found.by_content, found.contents_compared, found.share) == (["across"], True, pytest.approx(1 / 3))


def test_none_is_said_too(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    (tmp_path / "b.mp4").write_bytes(b"b")
    found = find_overlap(rows(tmp_path, "a.mp4"), rows(tmp_path, "b.mp4"))
    assert str(found) == "none of 1 test clips is trained on (names and contents compared)"
