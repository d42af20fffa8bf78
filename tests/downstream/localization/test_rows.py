"""Which instants are scored, and what the truth is there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.official.box_truth import TruthBox, TruthFrame, write_boxes
from avssl.downstream.localization.instants import shapes_instant
from avssl.downstream.localization.rows import find_instants, groups_of, mask_truth, sources_of
from avssl.media import MediaError
from avssl.synthetic import Truth


def shapes_truth(events, sounding, shown_from=0):
    """2 s at 4 frames a second: object 0 on the right is silent, object 1 on the left is shown from a frame on."""
    masks = np.zeros((8, 2, 4, 6), dtype=bool)
    masks[:, 0, 1:3, 4:] = True
    masks[shown_from:, 1, :2, :3] = True
    return Truth(
        video_fps=4.0,
        masks=masks,
        boxes=np.zeros((8, 2, 4), dtype=np.int16),
        kinds=["ring", "star"],
        actions=["bounce", "spin"],
        sounding=np.array(sounding),
        heard_kinds=[],
        nuisance="none",
        event_seconds=np.array(events),
        event_object=np.ones(len(events), dtype=np.int64),
        event_strength=np.ones(len(events)),
    )


def test_the_instant_is_the_event_nearest_to_the_middle():
    instant = shapes_instant(shapes_truth([0.25, 0.9, 1.5], [False, True]), 3, window_seconds=1.0)
    assert (instant.row, instant.seconds, instant.hw, instant.is_positive) == (3, pytest.approx(0.9), (4, 6), True)
    expected = torch.zeros(4, 6)
    expected[:2, :3] = 1
    assert torch.equal(instant.truth(), expected)
    assert instant.objects().sum(dim=(1, 2)).tolist() == [6, 4]  # the sounding one first


def test_windows_stay_in_the_clip_and_their_middle_is_scored():
    # Around 1.9 s a window of 1 s would end at 2.4 s: it ends with the clip, and its middle is 1.5 s.
    assert shapes_instant(shapes_truth([1.9], [False, True]), 0, 1.0).seconds == pytest.approx(1.5)


def test_events_of_hidden_sources_are_passed_over():
    hidden_until_one = shapes_truth([0.9, 1.4], [False, True], shown_from=4)
    assert shapes_instant(hidden_until_one, 0, 0.5).seconds == pytest.approx(1.4)
    assert shapes_instant(shapes_truth([0.9], [False, True], shown_from=8), 0, 0.5) is None


def test_clips_without_a_visible_source_are_negatives_in_their_middle():
    instant = shapes_instant(shapes_truth([0.25], [False, False]), 0, 0.5)
    assert (instant.seconds, instant.is_positive) == (1.0, False)
    assert not instant.truth().any()
    assert instant.objects().any(dim=(1, 2)).all()


def test_a_corpus_of_shapes_is_told_apart(shapes):
    instants, left_out = find_instants(shapes, window_seconds=0.5)
    splits = shapes["split"]
    assert all(instant.is_positive == (splits[instant.row] != "absent") for instant in instants)
    assert len(instants) + sum(left_out.values()) == len(shapes)
    assert {instant.hw for instant in instants} == {(48, 64)}
    groups = [group for group in groups_of(shapes, instants) if group]
    assert len(groups) == 4
    assert len(set(groups)) == 2


def test_boxes_of_several_annotators_are_votes(corpus):
    corpus.row("x", "x", [(0, 0, 0.5, 1), (0, 0, 0.25, 1)], num_annotators=3)
    (instant,), _ = find_instants(corpus.manifest(), 1.0)
    columns = instant.truth()[0]
    assert (instant.hw, columns.shape[0]) == ((224, 224), 224)
    assert columns.unique_consecutive().tolist() == [1, 0.5, 0]
    assert [(columns == value).sum().item() for value in (1, 0.5, 0)] == [56, 56, 112]


def test_boxes_of_stills_are_whole_pixels_and_those_of_videos_are_cut(tmp_path):
    # 61/224 * 224 is 60.99999 in double: pixel 61 of a picture of 224, but cut to 60 where shares were drawn.
    box = TruthBox((61 / 224, 0, 1, 1))
    assert 61 / 224 * 224 < 61
    columns = {"id": ["still", "video"], "path": ["a.png", "a.mp4"]}
    columns["truth"] = [
        write_boxes(tmp_path, "x", name, [TruthFrame(at, [box])]) for name, at in (("still", None), ("video", 5.0))
    ]
    still, video = find_instants(Manifest.from_columns(columns, tmp_path), 1.0)[0]
    assert still.truth()[0].sum() == 224 - 61
    assert video.truth()[0].sum() == 224 - 60


def test_a_box_without_area_is_a_source_that_nobody_hits(corpus):
    corpus.row("x", "x", [(0.5, 0.5, 0.5, 0.9)])
    (instant,), _ = find_instants(corpus.manifest(), 1.0)
    assert instant.is_positive
    assert not instant.truth().any()


def test_masks_are_white_where_something_sounds(tmp_path, picture_maker):
    pixels = np.zeros((112, 56, 3), dtype=np.uint8)
    pixels[:56, :28] = (0, 0, 1)
    Image.fromarray(pixels).save(tmp_path / "m0.png")
    Image.fromarray(np.zeros_like(pixels)).save(tmp_path / "m1.png")
    frames = [TruthFrame(number + 0.9, mask=f"m{number}.png", image=f"f{number}.png") for number in (0, 1)]
    columns = {"id": ["v"], "path": ["v.mp4"], "truth": [write_boxes(tmp_path, "s4", "v", frames)]}
    instants, left_out = find_instants(Manifest.from_columns(columns, tmp_path), 1.0)
    assert [(i.number, i.seconds, i.is_positive) for i in instants] == [(0, 0.9, True), (1, 1.9, False)]
    assert instants[0].truth().sum() == 112 * 112  # a quarter of 224 x 224
    assert instants[0].truth()[:112, :112].all()
    assert instants[1].picture == tmp_path / "f1.png"
    assert not left_out
    with pytest.raises(MediaError, match="cannot be opened"):
        mask_truth(tmp_path / "m2.png")


def test_sounds_of_one_picture_are_its_objects(pairs):
    pairs.row("c0", "c", [(0, 0, 1, 1)], pair="c")  # a pair of one is none
    manifest = pairs.manifest()
    instants, _ = find_instants(manifest, 1.0)
    assert groups_of(manifest, instants) == ["a", "a", "b", "b", None]
    assert sources_of(manifest, instants) == ["pair a", "pair a", "pair b", "pair b", "file c.png"]
    assert instants[0].objects().float().mean(dim=(1, 2)).tolist() == [0.5, 0.5]
    assert torch.equal(instants[1].objects()[0], instants[0].truth() > 0)
    assert instants[4].objects is None


def test_rows_without_truth_are_counted(corpus):
    corpus.row("x", "x", [(0, 0, 1, 1)])
    corpus.row("y", "y", [(0, 0, 1, 1)], truth=None)
    instants, left_out = find_instants(corpus.manifest(), 1.0)
    assert len(instants) == 1
    assert dict(left_out) == {"no truth": 1}


def test_what_cannot_be_scored_is_refused(corpus, tmp_path, shapes):
    corpus.row("x", "x", [(0, 0, 1, 1)], truth=None)
    with pytest.raises(ManifestError, match=r"none of 1 rows has a truth.*avssl synthesize"):
        find_instants(corpus.manifest(), 1.0)
    corpus.rows[0]["truth"] = "truth/boxes/gone.json"
    with pytest.raises(ManifestError, match=r"gone\.json: no such truth file, but the row 'x' names it"):
        find_instants(corpus.manifest(), 1.0)
    (tmp_path / "truth.txt").write_text("?")
    corpus.rows[0]["truth"] = "truth.txt"
    with pytest.raises(ManifestError, match=r"truth is read from \.npz"):
        find_instants(corpus.manifest(), 1.0)
    corpus.row("y", "y", [])
    with pytest.raises(ManifestError, match="nothing visible sounds in any of 1 rows"):
        find_instants(corpus.manifest().select(np.array([1])), 1.0)
    mask = write_boxes(tmp_path, "x", "escape", [TruthFrame(1.0, mask="../../etc/x.png")])
    corpus.rows[0]["truth"] = mask
    with pytest.raises(ManifestError, match="must be relative and stay inside"):
        find_instants(corpus.manifest(), 1.0)


def test_truths_of_two_sizes_are_refused(corpus, shapes, tmp_path):
    corpus.row("x", "x", [(0, 0, 1, 1)])
    (tmp_path / "y.npz").write_bytes(shapes.truth_file(0).read_bytes())
    corpus.row("y", "y", [], truth="y.npz")
    with pytest.raises(ManifestError, match=r"truths of sizes \[\(48, 64\), \(224, 224\)\] cannot be scored together"):
        find_instants(corpus.manifest(), 0.5)
