import pytest
import torch

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data.row_segments import consecutive_spans, segment_rows
from avssl.media import write_video


def test_spans_follow_each_other_and_a_short_rest_is_left_out():
    assert list(consecutive_spans(1.0, 8.0, 3.0)) == [(1.0, 4.0), (4.0, 7.0)]
    assert list(consecutive_spans(0.0, 8.0, 3.0)) == [(0.0, 3.0), (3.0, 6.0), (6.0, 8.0)]


def test_whole_videos_are_cut_and_keep_their_columns(tmp_path, real_media):
    for name, seconds in (("long", 5), ("short", 1), ("scored", 5)):
        frames = torch.zeros(10 * seconds, 3, 16, 16, dtype=torch.uint8)
        write_video(tmp_path / f"{name}.mp4", frames, 10, torch.zeros(1, 8000 * seconds), 8000)
    (tmp_path / "broken.mp4").write_text("no video")
    names = ["long", "short", "scored", "broken", "part"]
    columns = {
        "id": names,
        "path": [f"{name}.mp4" for name in names[:4]] + ["long.mp4"],
        "label": list("abcde"),
        "truth": [None, None, "truth/scored.json", None, None],
        "start_seconds": [None, None, None, None, 1.0],
    }
    rows, errors = segment_rows(Manifest.from_columns(columns, tmp_path), 2.0)
    assert rows["id"].tolist() == ["long#0.000-2.000", "long#2.000-4.000", "long#4.000-5.000", *names[1:]]
    assert rows["label"].tolist() == list("aaabcde")
    assert rows["start_seconds"][:2].tolist() == [0.0, 2.0]
    assert rows["duration_seconds"][:2].tolist() == [2.0, 2.0]
    assert [error.path for error in errors] == [str(tmp_path / "broken.mp4")]


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_length_that_is_none_is_an_error(tmp_path, seconds):
    with pytest.raises(InputError, match="segment_seconds"):
        segment_rows(Manifest.from_columns({"id": ["a"], "path": ["a"]}, tmp_path), seconds)
