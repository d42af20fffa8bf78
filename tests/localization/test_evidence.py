import pytest
import torch
from torch import nn

from avssl.localization.evidence import evidence_offset


class Displaced(nn.Module):
    """One cell for 4 x 4 pixels, or 2 x 4 x 4 with time; its embedding is the mean of a patch that lies beside it."""

    num_heads = 1

    def __init__(self, move, frames=1):
        super().__init__()
        self.move, self.frames = move, frames

    def visual_cells(self, video):
        moved = video.roll(tuple(-step for step in self.move), dims=(2, 3, 4))
        return nn.functional.avg_pool3d(moved, (self.frames, 4, 4))

    def sound_queries(self, audio):
        return audio[..., None]


def clips():
    """A red square on dark green ground in the middle of the frame, at all times; the audio asks for red."""
    video = torch.zeros(2, 3, 8, 32, 32)
    video[:, 1] = 0.1
    video[:, 0, :, 12:16, 16:20] = 1.0
    return video, torch.tensor([[1.0, 0.0, 0.0]]).repeat(2, 1)


@pytest.mark.parametrize(
    ("move", "frames", "expected"),
    [
        ((0, 0, 0), 1, (0, 0, 0)),
        ((0, 4, 0), 1, (0, 1, 0)),
        ((0, -6, 2), 1, (0, -1.5, 0.5)),
        ((2, 0, 0), 1, (2, 0, 0)),
        ((1, 0, -4), 2, (0.5, 0, -1)),
    ],
)
def test_evidence_of_a_displaced_map_lies_where_it_looks(move, frames, expected):
    found = evidence_offset(Displaced(move, frames), *clips())
    assert found.shape == (2, 3)
    torch.testing.assert_close(found, torch.tensor([expected], dtype=torch.float32).expand(2, 3), atol=1e-4, rtol=0)


def test_evidence_leaves_gradients_and_gradient_mode_alone():
    model = Displaced((0, 0, 0))
    model.weight = nn.Parameter(torch.ones(()))
    with torch.no_grad():
        evidence_offset(model, *clips())
        assert not torch.is_grad_enabled()
    assert model.weight.grad is None
