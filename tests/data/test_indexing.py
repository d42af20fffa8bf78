import math
import os

import pytest
import torch

from avssl.data.indexing import index_folder, walk_media
from avssl.manifest import ManifestError
from avssl.media import write_video


def make_video(path, seconds, sound=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = torch.zeros(round(seconds * 4), 3, 32, 32, dtype=torch.uint8)
    audio = torch.sin(torch.arange(round(seconds * 8000)) * 0.1)[None] if sound else None
    write_video(path, frames, 4.0, audio, 8000)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    make_video(folder / "b.mp4", 3)
    make_video(folder / "a" / "short.MP4", 2)
    make_video(folder / "a" / "long.mp4", 34)
    make_video(folder / "silent.mp4", 2, sound=False)
    (folder / "text.mp4").write_text("no video")
    (folder / "notes.txt").write_text("no media by name")
    make_video(folder / ".hidden" / "x.mp4", 1)
    (folder / "._b.mp4").write_text("what macOS leaves")
    return folder


def test_walk_is_sorted_and_survives_a_loop_of_links(tmp_path):
    for name in ("z.mp4", "a/m.webm", "a/b/n.MKV", "c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "a", tmp_path / "elsewhere" / "again")
    assert [str(path) for path in walk_media(tmp_path)] == ["z.mp4", "a/m.webm", "a/b/n.MKV"]


def test_rows_and_ids(corpus):
    found = index_folder(corpus)
    assert list(found.manifest["id"]) == [
        "a/long.mp4#0.000-10.000",
        "a/long.mp4#10.000-20.000",
        "a/long.mp4#20.000-30.000",
        "a/short.MP4",
        "b.mp4",
    ]
    assert found.manifest.file(0) == corpus / "a" / "long.mp4"
    assert found.manifest["duration_seconds"][0] == 10
    assert found.manifest["start_seconds"][1] == 10
    assert math.isclose(found.manifest["duration_seconds"][4], 3, abs_tol=0.05)
    assert found.manifest["width"][0] == 32


def test_a_rest_of_half_a_segment_is_a_row_and_a_shorter_one_is_not(corpus):
    found = index_folder(corpus / "a", segment_seconds=8, segment_over_seconds=10)
    assert [i for i in found.manifest["id"] if "long" in i][-1] == "long.mp4#24.000-32.000"  # 2 s are left
    found = index_folder(corpus / "a", segment_seconds=14, segment_over_seconds=20)
    last = [i for i in found.manifest["id"] if "long" in i][-1]  # 6 s are left
    assert last == "long.mp4#14.000-28.000"
    found = index_folder(corpus / "a", segment_seconds=12, segment_over_seconds=33)
    last = [i for i in found.manifest["id"] if "long" in i][-1]  # 10 s are left
    assert last.startswith("long.mp4#24.000-34.")


def test_failures_are_kept_by_reason(corpus):
    found = index_folder(corpus)
    assert {path: error.reason for path, error in found.failures.items()} == {
        "silent.mp4": "no_audio",
        "text.mp4": "not_media",
    }
    assert found.bad_fraction == pytest.approx(2 / 5)
    assert found.failures_table().column_names == ["id", "path", "stream", "reason", "message"]
    assert "3 files, 5 rows" in found.summary()
    assert "1 cannot be used: no_audio" in found.summary()


def test_nothing_is_written_into_the_folder(corpus):
    before = sorted(corpus.rglob("*"))
    index_folder(corpus)
    assert sorted(corpus.rglob("*")) == before


def test_root_above_the_folder_prefixes_the_ids(corpus):
    assert list(index_folder(corpus / "a", root=corpus).manifest["id"])[-1] == "a/short.MP4"
    with pytest.raises(ManifestError, match="is not inside"):
        index_folder(corpus, root=corpus / "a")


def test_names_that_no_csv_can_hold_are_failures(tmp_path):
    make_video(tmp_path / "good.mp4", 1)
    (tmp_path / "two\nlines.mp4").touch()
    open(os.fsencode(tmp_path) + b"/\xff.mp4", "wb").close()
    found = index_folder(tmp_path)
    assert list(found.manifest["id"]) == ["good.mp4"]
    assert sorted(error.reason for error in found.failures.values()) == ["unreadable", "unreadable"]


def test_empty_and_missing_folders_are_errors(tmp_path):
    with pytest.raises(ManifestError, match="no media files"):
        index_folder(tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        index_folder(tmp_path / "none")
