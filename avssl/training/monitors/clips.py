"""The fixed clips of a monitor, and their embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import torch
from torch import Tensor

from avssl.core.batch import Batch, Modality
from avssl.engine import Precision
from avssl.engine.replicas import unwrapped
from avssl.models import ClipEncoder
from avssl.training.tasks import PretrainTask

FP32 = Precision()


class FixedClips:
    """Raw batches that are read at first use and kept: 128 clips of 8 frames of 128 x 128 take 50 MB.

    Args:
        read: Returns the batches.
    """

    def __init__(self, read: Callable[[], Iterable[Batch]]) -> None:
        self._read = read
        self._batches: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._batches is None:
            self._batches = list(self._read())
        return iter(self._batches)

    def rows(self) -> Tensor:
        """Return the manifest row of each clip, (N,) int64."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *(batch.index.row.cpu() for batch in self)])


def encode_clips(
    task: PretrainTask, clips: FixedClips, what: Literal["embeddings", "features"], precision: Precision
) -> tuple[Tensor, Tensor]:
    """Encode the clips without augmentation; the task is left in evaluation mode.

    Args:
        task: The model with its transform.
        clips: At least one clip.
        what: ``"embeddings"`` after the heads, not normalized, or ``"features"`` before them.

    Returns:
        Video and audio, (N, D) or (N, C) float32, on the CPU.
    """
    task.eval()
    encoder = ClipEncoder(unwrapped(task.model), task.transform, precision)
    parts: dict[Modality, list[Tensor]] = {"video": [], "audio": []}
    for batch in clips:
        for modality, blocks in parts.items():
            encoding = encoder.encode_batch(batch, modality)
            blocks.append((encoding.embedding if what == "embeddings" else encoding.features).float().cpu())
    return torch.cat(parts["video"]), torch.cat(parts["audio"])
