"""The clips that monitors look at, again and again, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from avssl.core.batch import Batch
from avssl.training.tasks import PretrainTask

Autocast = Callable[[], AbstractContextManager[Any]]
"""Makes the context the model runs in, such as a bf16 autocast."""


class FixedClips:
    """Raw batches that are read once, at the first look, and kept: 128 clips of 8 frames of 128 x 128 take 50 MB.

    Args:
        read: Gives the batches.
    """

    def __init__(self, read: Callable[[], Iterable[Batch]]) -> None:
        self._read = read
        self._batches: list[Batch] | None = None

    def __iter__(self) -> Iterator[Batch]:
        if self._batches is None:
            self._batches = list(self._read())
        return iter(self._batches)

    def rows(self) -> Tensor:
        """(N,) int64: the manifest row of each clip."""
        return torch.cat([torch.empty(0, dtype=torch.int64), *(batch.index.row.cpu() for batch in self)])


@torch.no_grad()
def look(
    task: PretrainTask, clips: FixedClips, what: Literal["embeddings", "features"], autocast: Autocast = nullcontext
) -> tuple[Tensor, Tensor]:
    """What the model makes of the clips, seen without augmentation; leaves the task in eval mode.

    Args:
        task: A :class:`~avssl.engine.Task`.
        clips: At least one clip.
        what: ``"embeddings"`` after the heads, or ``"features"`` before them.
        autocast: The context the model runs in.

    Returns:
        Video and audio, (N, D) or (N, C) float32, on the CPU.
    """
    task.eval()
    model = getattr(task.model, "module", task.model)  # DDP's forward is for training
    device = next(model.parameters()).device
    videos, audios = [], []
    for batch in clips:
        views = task.transform(batch.to(device))
        with autocast():
            if what == "embeddings":
                found = model(views.video, views.audio)
                video, audio = found.video, found.audio
            else:
                video, audio = model.encode_video(views.video), model.encode_audio(views.audio)
        videos.append(video.float().cpu())
        audios.append(audio.float().cpu())
    return torch.cat(videos), torch.cat(audios)
