import pytest
import torch

from avssl.core.batch import BatchIndex, Clip
from avssl.data import collate


def clip(row, height, width, frames=2, samples=5):
    video = torch.full((frames, 3, height, width), row + 1, dtype=torch.uint8)
    return Clip(str(row), row, 0, video, 0.0, torch.full((samples,), row / 10), 0.0)


def index(*rows):
    return BatchIndex(*(torch.tensor(rows) for _ in range(3)))


def test_collate_lays_clips_of_different_shapes_on_one_canvas():
    batch = collate([clip(0, 4, 6), clip(1, 8, 3)], index(0, 1))
    assert batch.video.shape == (2, 2, 3, 8, 6)
    assert batch.valid_hw.tolist() == [[4, 6], [8, 3]]
    for i, (height, width) in enumerate(batch.valid_hw.tolist()):
        assert (batch.video[i, :, :, :height, :width] == i + 1).all()
        rest = batch.video[i].clone()
        rest[:, :, :height, :width] = 0
        assert not rest.any()
    assert torch.equal(batch.audio[1], torch.full((5,), 0.1))


def test_collate_rejects_clips_of_different_length_and_another_index():
    with pytest.raises(ValueError, match=r"equal \(frames, planes, samples\), got \[\(2, 3, 5\), \(3, 3, 5\)\]"):
        collate([clip(0, 4, 4), clip(1, 4, 4, frames=3)], index(0, 1))
    with pytest.raises(ValueError, match=r"rows \[1, 0\], but the clips are of rows \[0, 1\]"):
        collate([clip(0, 4, 4), clip(1, 4, 4)], index(1, 0))
