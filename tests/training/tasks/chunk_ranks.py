"""Run by torchrun from test_embed_chunks.py: one step of a DDP model in chunks, saved to FOLDER/rank<r>.pt."""

import sys
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avssl.core import distributed
from avssl.core.batch import Batch, BatchIndex
from avssl.engine.replicas import replicated
from avssl.models import AVModel, LogitScale, create_encoder, create_head
from avssl.objectives import InfoNCE
from avssl.training.tasks import PretrainTask
from avssl.transforms import NegativeSounds

NUM_CLIPS = 10


class Plain(nn.Module):
    """Raw batch to a transformed one, the shortest way, with silence and noise beside it."""

    def __init__(self, negative_sounds: int) -> None:
        super().__init__()
        self.negative_sounds = NegativeSounds(negative_sounds) if negative_sounds else None

    def forward(self, batch: Batch) -> Batch:
        video = batch.video.float().transpose(1, 2) / 255
        negative = None
        if self.negative_sounds is not None:
            negative = self.negative_sounds(batch.index.key, 256).unflatten(1, (1, 16, 16))
        return Batch(video, batch.audio.unflatten(1, (1, 16, 16)), batch.index, negative_audio=negative)


def create_task(
    batch_norm: str, chunk_size: int | None, pooling: str = "both", negative_sounds: int = 4
) -> PretrainTask:
    """The small pair with BatchNorm, and a learned temperature."""
    torch.manual_seed(0)
    video, audio = create_encoder("small_video", width=4), create_encoder("small_audio", width=4)
    heads = (create_head("mlp_bn", encoder.num_features, 8, 16) for encoder in (video, audio))
    model = AVModel(video, audio, *heads, logits=LogitScale(5.0))
    objective = InfoNCE(0.2, pooling, learn_temperature=True, negative_sounds=negative_sounds, max_over="cells")
    return PretrainTask(Plain(negative_sounds), model, objective, batch_norm, chunk_size).train()


def batch(rows: slice) -> Batch:
    generator = torch.Generator().manual_seed(1)
    video = torch.randint(0, 256, (NUM_CLIPS, 4, 3, 16, 16), dtype=torch.uint8, generator=generator)[rows]
    audio = torch.randn(NUM_CLIPS, 256, generator=generator)[rows]
    index = BatchIndex(*(torch.arange(NUM_CLIPS)[rows] for _ in range(3)))
    return Batch(video, audio, index, torch.full((len(video), 2), 16))


def step(task: PretrainTask, rows: slice) -> dict[str, Any]:
    total = task(batch(rows)).total
    total.backward()
    return {"total": total.detach(), "gradients": {n: p.grad.clone() for n, p in task.model.named_parameters()}}


def main(folder: Path) -> None:
    rank, share = distributed.rank(), NUM_CLIPS // distributed.world_size()
    task = create_task("eval", 2, negative_sounds=2)  # of 4 sounds in all
    with replicated(task, torch.device("cpu")):
        result = step(task, slice(rank * share, (rank + 1) * share))
    names = (name.removeprefix("module.") for name in result["gradients"])
    torch.save(
        {**result, "gradients": dict(zip(names, result["gradients"].values(), strict=True))}, folder / f"rank{rank}.pt"
    )


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
