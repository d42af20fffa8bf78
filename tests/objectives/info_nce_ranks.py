"""Run by torchrun from test_info_nce.py: one step of a tiny DDP model, saved to FOLDER/rank<r>.pt.

The test loads this file too, and calls :func:`step` on all clips in one process.
"""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from avssl import distributed
from avssl.batch import BatchIndex, Embeddings
from avssl.objectives import create_objective

NUM_CLIPS = 6
POOLINGS = ("pooled", "max", "both")


class TinyModel(nn.Module):
    """Linear heads on given features; the pooled video embedding is the mean of the map's."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.video_head = nn.Linear(6, 5)
        self.audio_head = nn.Linear(4, 5)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def forward(self, video: Tensor, audio: Tensor) -> Embeddings:
        cells = self.video_head(video)  # (B, T, H, W, D)
        return Embeddings(cells.mean((1, 2, 3)), self.audio_head(audio), video_map=cells.movedim(-1, 1))


def clips() -> tuple[Tensor, Tensor]:
    """(N, T, H, W, 6) and (N, 4) features of the global batch."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(NUM_CLIPS, 2, 3, 3, 6, generator=generator), torch.randn(NUM_CLIPS, 4, generator=generator)


def step(model: nn.Module, rows: slice, pooling: str) -> dict[str, Any]:
    """Loss, terms and parameter gradients of the clips in ``rows``."""
    model.zero_grad()
    video, audio = (features[rows] for features in clips())
    index = BatchIndex(*(torch.arange(len(audio)) for _ in range(3)))
    result = create_objective("info_nce", temperature=0.2, pooling=pooling)(model(video, audio), None, index)
    result.total.backward()
    gradients = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    return {"total": result.total.detach(), "terms": result.terms, "gradients": gradients}


def main(folder: Path) -> None:
    distributed.start("cpu")
    rank, share = distributed.rank(), NUM_CLIPS // distributed.world_size()
    rows = slice(rank * share, (rank + 1) * share)
    model = DistributedDataParallel(TinyModel(), broadcast_buffers=False)
    torch.save({pooling: step(model, rows, pooling) for pooling in POOLINGS}, folder / f"rank{rank}.pt")
    distributed.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
