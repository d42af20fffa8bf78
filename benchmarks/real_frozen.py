"""Training on top of a frozen image network for `benchmarks/real.py`: its maps of a few frames are computed once.

A frozen network gives the same map for the same frame in every epoch. So two whole frames of a clip go through it once,
without random crops, and trainings read the map of the nearest one. Windows of audio still begin at random times.

Dimensions: N training clips, K frames of a clip with a map, B clips of a batch, C channels, h and w cells of a map.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from shapes_in_memory import Shapes
from torch import Tensor, nn

from avssl.core.progress import Bar
from avssl.models.foreign.backbone import Tokens
from avssl.training.tasks import PretrainTask
from avssl.transforms import VideoEval

EVERY = 16
"""Frames of a clip from one map to the next, 2 s."""
CHUNK = 16
HIGHEST = 6.0
"""Largest value of a ReLU6; maps are kept in 8 bits."""


@dataclass(frozen=True)
class Addresses:
    """Stands for the frames of clips: each is one pixel, whose three values name the clip and its map."""

    num_maps: int

    def __getitem__(self, row: int) -> Address:
        return Address(int(row), self.num_maps)


@dataclass(frozen=True)
class Address:
    """Stands for the frames of a clip."""

    row: int
    num_maps: int

    def __getitem__(self, frames: np.ndarray) -> np.ndarray:
        """Return (T, 3, 1, 1) uint8."""
        nearest = np.minimum((frames + EVERY // 2) // EVERY, self.num_maps - 1)
        values = [np.full(len(frames), self.row // 256), np.full(len(frames), self.row % 256), nearest]
        return np.stack(values, axis=1).astype(np.uint8)[:, :, None, None]


class KeptPixels(nn.Module):
    """Transform of (B, T, 3, 1, 1) addresses, which leaves their values as they are."""

    def forward(self, video: Tensor, *others: Any) -> Tensor:
        """Return (B, 3, T, 1, 1) float32."""
        return video.transpose(1, 2).float()

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Ignore the format: addresses are no images."""


@torch.inference_mode()
def frame_maps(file: Path, task: PretrainTask, world: Shapes, whole: VideoEval) -> np.ndarray:
    """Return the (N, K, C, h, w) uint8 maps of the training clips, computed on the first call and then read."""
    if file.exists():
        return cast(np.ndarray, np.load(file, mmap_mode="r"))
    rows, encoder = world.rows("train"), task.model.video_encoder.eval()
    if not np.array_equal(rows, np.arange(len(rows))):
        raise ValueError("the training clips must be the first ones.")
    found: np.ndarray | None = None
    unfinished = file.with_suffix(".part")
    for first in Bar(range(0, len(rows), CHUNK), desc="maps", unit="batch"):
        frames = torch.from_numpy(np.stack([world.video[row][::EVERY] for row in rows[first : first + CHUNK]]))
        sizes = torch.tensor([frames.shape[-2:]]).expand(len(frames), 2)
        with torch.autocast("cpu", torch.bfloat16):
            maps = encoder.forward_features(whole(frames, sizes)).transpose(1, 2)
        if found is None:
            file.parent.mkdir(parents=True, exist_ok=True)
            found = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (len(rows), *maps.shape[1:]))
        found[first : first + CHUNK] = (maps.float() * 255 / HIGHEST).round().numpy()
    unfinished.rename(file)
    return cast(np.ndarray, np.load(file, mmap_mode="r"))


@contextmanager
def reading(task: PretrainTask, world: Shapes, maps: np.ndarray) -> Iterator[Shapes]:
    """Yield clips with addresses in place of frames; inside of the block, the task's encoder reads their maps."""
    encoder: Any = task.model.video_encoder
    augment: Any = task.transform.video_augment

    def tokens(x: Tensor) -> Tokens:
        place = x.float()[..., 0, 0].transpose(1, 2).long().numpy()  # (B, T, 3)
        chosen = torch.from_numpy(maps[place[..., 0] * 256 + place[..., 1], place[..., 2]])
        return Tokens((chosen.float() * HIGHEST / 255).transpose(1, 2))

    task.transform.video_augment, encoder.tokens = cast(Any, KeptPixels()), tokens
    try:
        yield replace(world, video=cast(Any, Addresses(maps.shape[1])))
    finally:
        del encoder.tokens
        task.transform.video_augment = augment
