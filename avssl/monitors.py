"""Numbers during training that the loss does not tell."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.batch import Batch
from avssl.evaluation import cross_modal_retrieval, effective_rank

COLLAPSED_SPREAD = 0.01
"""Embeddings whose spread is no larger, twice in a row, have collapsed to one point. Untrained ones
begin between 0.05 and 0.5, as they share a large mean; trained ones come near 1."""


class RetrievalMonitor:
    """Cross-modal retrieval among a fixed set of clips, and how much of the space the embeddings use.

    The clips are seen without augmentation. They are read once and kept as raw batches (one of 16
    frames of 128 x 128 takes 0.8 MB).

    Args:
        read_clips: Gives the raw batches; called at the first measurement.
        every_steps: Steps between measurements, >= 1.
        autocast: Makes the context the model runs in, such as a bf16 autocast; none by default.

    Reports ``retrieval/v2a_R@1`` and ``retrieval/a2v_R@1`` beside ``retrieval/chance_R@1``; the
    effective rank, ``rank/video`` and ``rank/audio``; and ``spread/video`` and ``spread/audio``, the
    root mean square distance of the unit embeddings from their mean, in [0, 1]. Warns once when a
    spread stays below :data:`COLLAPSED_SPREAD`.
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
        spreads = {"spread/video": _spread(video), "spread/audio": _spread(audio)}
        self._warn_of_collapse(spreads)
        return numbers | ranks | spreads

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

    def _warn_of_collapse(self, spreads: dict[str, float]) -> None:
        lowest = min(spreads, key=lambda name: spreads[name])
        self._times_low = self._times_low + 1 if spreads[lowest] <= COLLAPSED_SPREAD else 0
        if self._times_low == 2:
            warnings.warn(
                f"{lowest.removeprefix('spread/')} embeddings have collapsed: their spread stays at "
                f"{spreads[lowest]:.1g}. Lower optim.lr, or check that the clips differ.",
                stacklevel=2,
            )

    def state_dict(self) -> dict[str, Any]:
        return {"times_low": self._times_low}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._times_low = state["times_low"]


def _spread(embeddings: Tensor) -> float:
    """Root mean square distance of (N, D) embeddings, normalized, from their mean; in [0, 1]."""
    unit = F.normalize(embeddings.double(), dim=1)
    return (unit - unit.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()
