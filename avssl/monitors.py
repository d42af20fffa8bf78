"""Numbers during training that the loss does not tell."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from avssl.batch import Batch
from avssl.evaluation import cross_modal_retrieval, effective_rank

COLLAPSE_RANK = 1.2
"""Embeddings that use no more dimensions than this, twice in a row, have collapsed. Untrained ones
begin not far above it, as they share a large mean; healthy ones use tens."""


class RetrievalMonitor:
    """Cross-modal retrieval among a fixed set of clips, and the effective rank of the embeddings.

    The clips are seen without augmentation. They are read once and kept as raw batches (one of 16
    frames of 128 x 128 takes 0.8 MB).

    Args:
        read_clips: Gives the raw batches; called at the first measurement.
        every_steps: Steps between measurements, >= 1.
        autocast: Makes the context the model runs in, such as a bf16 autocast; none by default.

    Reports ``retrieval/v2a_R@1`` and ``retrieval/a2v_R@1`` beside ``retrieval/chance_R@1``, and
    ``rank/video`` and ``rank/audio``. Warns once when a rank stays at :data:`COLLAPSE_RANK`.
    """

    def __init__(
        self,
        read_clips: Callable[[], Iterable[Batch]],
        every_steps: int,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        if every_steps < 1:
            raise ValueError(f"every_steps ({every_steps}) must be at least 1.")
        self.every_steps = every_steps
        self._read_clips, self._autocast = read_clips, autocast
        self._batches: list[Batch] | None = None
        self._times_low = 0

    @torch.no_grad()
    def run(self, task: Any) -> dict[str, float]:
        """Measures; leaves the task in eval mode."""
        if self._batches is None:
            self._batches = list(self._read_clips())
        if sum(map(len, self._batches)) < 2:
            return {}
        video, audio = self._embed(task)
        found = cross_modal_retrieval(video, audio, ks=(1,))
        numbers = {f"retrieval/{name}": found[name] for name in ("v2a_R@1", "a2v_R@1", "chance_R@1")}
        ranks = {"rank/video": effective_rank(video), "rank/audio": effective_rank(audio)}
        self._warn_of_collapse(ranks)
        return numbers | ranks

    def _embed(self, task: Any) -> tuple[Tensor, Tensor]:
        """(N, D) float32 embeddings of the clips, on the CPU."""
        task.eval()
        model = getattr(task.model, "module", task.model)  # DDP's forward is for training
        device = next(model.parameters()).device
        videos, audios = [], []
        for batch in self._batches or []:
            views = task.transform(batch.to(device))
            with self._autocast():
                embeddings = model(views.video, views.audio)
            videos.append(embeddings.video.float().cpu())
            audios.append(embeddings.audio.float().cpu())
        return torch.cat(videos), torch.cat(audios)

    def _warn_of_collapse(self, ranks: dict[str, float]) -> None:
        lowest = min(ranks, key=lambda name: ranks[name])
        self._times_low = self._times_low + 1 if ranks[lowest] <= COLLAPSE_RANK else 0
        if self._times_low == 2:
            warnings.warn(
                f"{lowest.removeprefix('rank/')} embeddings have collapsed: their effective rank stays at "
                f"{ranks[lowest]:.1f}. Lower optim.lr, or check that the clips differ.",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        return {"times_low": self._times_low}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._times_low = state["times_low"]
