import pytest

from avssl.core.manifest import ManifestError
from avssl.data.official.clip_files import Match
from avssl.data.official.clip_list import ClipList


def test_rows_keep_their_cells_when_columns_come_late(tmp_path):
    clips = ClipList(tmp_path, "Set")
    assert clips.add("a", Match("a.mp4", "a.mp4"), label="x")
    assert clips.add("b", Match("b.mp4", "b.mp4"), split="test", fold="2", pair="p")
    assert not clips.add("c", Match(None, "c.mp4"), label=["x", "y"])
    assert "c" in clips
    manifest = clips.finish()
    cells = [{name: manifest.value(row, name) for name in manifest.table.column_names} for row in (0, 1)]
    assert cells == [
        {"id": "a.mp4", "path": "a.mp4", "label": "x", "split": None, "fold": None, "pair": None, "official_id": "a"},
        {"id": "b.mp4", "path": "b.mp4", "label": None, "split": "test", "fold": "2", "pair": "p", "official_id": "b"},
    ]
    assert clips.missing_table().to_pylist() == [
        {"id": "c", "path": "c.mp4", "split": None, "label": "x|y", "reason": "not found"}
    ]


def test_a_clip_that_is_listed_twice_counts_once(tmp_path):
    clips = ClipList(tmp_path, "Set", {"train": 9})
    clips.add("a", Match("a.mp4", "a.mp4"), split="train")
    assert not clips.add("a", Match("a.mp4", "a.mp4"), split="test")
    manifest = clips.finish()
    assert (len(manifest), clips.missing) == (1, [])
    assert clips.summary(manifest).splitlines() == [
        "Set: 1 of 1 listed clips found (100.0 %)",
        "split            found   missing    listed  official",
        "train                1         0         1         9",
        "1 clips are listed more than once; the first line counts",
        f"clip list: {manifest.hash()}",
    ]


def test_hash_names_the_clips_that_are_there(tmp_path):
    def listed(*names):
        clips = ClipList(tmp_path, "Set")
        for name in "abc":
            clips.add(name, Match(name if name in names else None, name))
        return clips.finish().hash()

    assert listed("a", "b") == listed("b", "a")
    assert listed("a", "b") != listed("a", "c")


def test_no_row_is_an_error(tmp_path):
    clips = ClipList(tmp_path, "Set", hint=" Names are such and such.")
    with pytest.raises(ManifestError, match="list no clip of Set"):
        clips.finish()
    clips.add("a", Match(None, "a.mp4"))
    with pytest.raises(
        ManifestError, match=r"none of the 1 .* a, was looked for as a\.mp4: not found\. Names are such"
    ):
        clips.finish()
