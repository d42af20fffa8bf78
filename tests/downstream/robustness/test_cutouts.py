import numpy as np
import pytest
import torch

from avssl.core.batch import Clip
from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling
from avssl.data.official.box_truth import TruthBox, TruthFrame, write_boxes
from avssl.downstream.robustness import find_cutouts
from avssl.synthetic import read_truth

SAMPLING = ClipSampling(num_frames=4, frames_per_second=4.0, audio_seconds=1.0, sample_rate_hz=8000)


def make_clip(row=0, start=2.0, hw=(20, 40)) -> Clip:
    video = torch.zeros(4, 3, *hw, dtype=torch.uint8)
    return Clip(str(row), row, 0, video, start, torch.zeros(8000), start)


def test_objects_are_the_visible_pixels_of_the_sounding_object_at_the_frames(shapes):
    cutouts = find_cutouts(shapes, shapes["label"], 4.0)
    assert cutouts.objects == shapes["label"].tolist()  # the label is the sounding kind
    clip = ClipDataset(shapes, SAMPLING).read_even(5, 1)[0]
    truth = read_truth(shapes.truth_file(5))
    assert cutouts.scenes[5] == {*truth.kinds, *truth.heard_kinds}
    for i, mask in enumerate(cutouts.mask(clip)):
        frame = int((clip.video_start_seconds + i / 4) * 8)
        assert np.array_equal(mask.numpy(), truth.masks[frame][truth.sounding].any(0))


def test_masks_have_the_size_that_clips_are_decoded_at(shapes):
    small = ClipSampling(num_frames=4, frames_per_second=4.0, audio_seconds=1.0, sample_rate_hz=8000, short_side=16)
    cutouts = find_cutouts(shapes, shapes["label"], 4.0)
    clip = ClipDataset(shapes, small).read_even(5, 1)[0]
    full = cutouts.mask(ClipDataset(shapes, SAMPLING).read_even(5, 1)[0])
    mask = cutouts.mask(clip)
    assert mask.shape == (4, 16, 24)
    assert mask.float().mean().item() == pytest.approx(full.float().mean().item(), abs=0.02)


def test_boxes_are_the_largest_of_the_nearest_frame(tmp_path):
    small, large = TruthBox((0.0, 0.0, 0.1, 0.1)), TruthBox((0.25, 0.5, 0.75, 1.0))
    frames = [TruthFrame(0.0, [TruthBox((0, 0, 1, 1))]), TruthFrame(0.6, [small, large]), TruthFrame(0.5)]
    truth = [write_boxes(tmp_path, "set", name, of) for name, of in (("a", frames), ("b", [TruthFrame(1.0)]))]
    manifest = Manifest.from_columns(
        {"id": ["a", "b"], "path": ["a.mp4", "b.mp4"], "start_seconds": [2.0, 0.0], "truth": truth}, tmp_path
    )
    cutouts = find_cutouts(manifest, ["cat", "dog"], 4.0)
    assert "box" in cutouts.description
    assert list(cutouts.objects) == ["cat", ""]  # b has no box
    mask = cutouts.mask(make_clip(start=2.0))  # its middle is 0.5 s after the start of the row
    expected = torch.zeros(20, 40, dtype=torch.bool)
    expected[10:20, 10:30] = True
    assert torch.equal(mask, expected.expand(4, -1, -1))


def test_without_truth_a_patch_is_cut_and_described_as_one(tmp_path):
    manifest = Manifest.from_columns({"id": ["a", "b"], "path": ["a.mp4", "b.mp4"]}, tmp_path)
    cutouts = find_cutouts(manifest, ["cat", "dog"], 4.0)
    assert "because 2 of 2 rows have no truth file" in cutouts.description
    assert (list(cutouts.objects), cutouts.scenes) == (["cat", "dog"], [{"cat"}, {"dog"}])
    mask = cutouts.mask(make_clip(hw=(100, 200)))
    assert mask.float().mean().item() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(mask, mask.flip(1, 2))  # in the middle


def test_a_missing_truth_file_gives_patches_for_all_clips(shapes, tmp_path):
    elsewhere = Manifest(shapes.table, tmp_path)
    assert "12 of 12 rows have no truth file" in find_cutouts(elsewhere, shapes["label"], 4.0).description


def test_a_damaged_truth_file_is_named(tmp_path):
    (tmp_path / "a.npz").write_text("no truth")
    manifest = Manifest.from_columns({"id": ["a"], "path": ["a.mp4"], "truth": ["a.npz"]}, tmp_path)
    with pytest.raises(ValueError, match=r"a\.npz: not a truth file"):
        find_cutouts(manifest, ["cat"], 4.0)
