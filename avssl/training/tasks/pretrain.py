"""Pretraining: raw batch → views → embeddings → loss, as one module that the loop calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from avssl.core import distributed
from avssl.core.batch import Batch, BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds, TemporalWindows
from avssl.engine import Task
from avssl.models import AVModel
from avssl.models.batch_norm import hold_statistics, synchronize_statistics
from avssl.models.momentum import MomentumModel
from avssl.objectives import Objective
from avssl.transforms import ClipTransform
from avssl.transforms.loudness import loud_parts


class PretrainTask(Task):
    """Transforms, model and objective.

    Only ``model`` holds trained parameters. It is called once per step with all views concatenated, and is the part
    that DDP wraps. ``target`` is its momentum copy if the objective needs one, else None. ``forward`` changes no
    lasting state: :meth:`after_step` moves banks and queues once, from the detached embeddings of the last forward.

    Args:
        transform: Raw :class:`Batch` → :class:`Batch` of all views, without gradient.
        model: Called as ``model(video, audio, needs_maps)``, with ``negative_audio`` where the transform
            makes it; returns :class:`Embeddings`.
        objective: Called as ``objective(online, target, index)``; returns :class:`LossTerms`.
        batch_norm: ``"eval"`` keeps BatchNorm's statistics fixed, so that results do not
            depend on how a batch is split over processes; ``"sync"`` takes those of the whole batch.
        embed_chunk_size: Clips (all views counted) to encode at a time, the model's ``chunk_size``; None encodes
            all at once. The loss still uses the whole batch, and its value and gradient are unchanged, except that
            BatchNorm in training uses the statistics of a chunk. It costs one more forward pass.

    Raises:
        ValueError: If the objective has parameters (they belong to the model), or ``embed_chunk_size`` is below 1.
    """

    transform: ClipTransform
    model: AVModel
    objective: Objective
    target: MomentumModel | None

    def __init__(
        self,
        transform: ClipTransform,
        model: AVModel,
        objective: Objective,
        batch_norm: Literal["train", "eval", "sync"] = "train",
        embed_chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        if any(True for _ in objective.parameters()):
            raise InputError(f"{type(objective).__name__} has parameters; an objective has buffers only.")
        if embed_chunk_size is not None and embed_chunk_size < 1:
            raise InputError(f"embed_chunk_size ({embed_chunk_size}) must be at least 1, or None.")
        if batch_norm == "sync":
            synchronize_statistics(model)
        self.transform = transform
        self.model = model
        self.objective = objective
        self.batch_norm = batch_norm
        self._model_options = {} if embed_chunk_size is None else {"chunk_size": embed_chunk_size}
        momentum = objective.needs.target_momentum
        self.target = None if momentum is None else MomentumModel(model, momentum, objective.needs.final_momentum)
        self._last: tuple[Embeddings, Embeddings | None, BatchIndex] | None = None

    def forward(self, batch: Batch) -> LossTerms:
        """Return the loss of a raw batch of B clips, on the device of the model."""
        needs = self.objective.needs
        views: Batch = self.transform(batch)
        options = {"needs_maps": needs.maps, **self._model_options}
        extra: dict[str, Any] = {}
        if views.negative_audio is not None:
            extra["negative_audio"] = views.negative_audio
        if views.other_audio is not None:
            extra["other_audio"] = views.other_audio
        if views.originals is not None:
            extra["originals"] = views.originals
        if views.local_video is not None and views.local_audio is not None:
            extra |= {"local_video": views.local_video, "local_audio": views.local_audio}
        if needs.masked is not None or needs.joint_dropout is not None:
            extra["keys"] = batch.index.key
        online: Embeddings = self.model(views.video, views.audio, **extra, **options)
        if needs.silence_dbfs is not None:
            online = _with_heard(online, batch.audio, needs)
        target: Embeddings | None = None
        if self.target is not None:
            patches = {} if needs.masked is None else {"needs_patches": True}
            target = self.target(views.video, views.audio, **patches, **options)
        self._last = (online.detach(), target, batch.index)
        terms: LossTerms = self.objective(online, target, batch.index)
        return terms

    def after_step(self) -> None:
        """Move banks and queues, then the momentum model; called once, after the optimizer."""
        assert self._last is not None, "after_step comes after forward"
        self.objective.update(*self._last)
        if self.target is not None:
            self.target.follow(self.model)
        self._last = None

    def on_epoch_start(self, number: int) -> None:
        """Tell the objective that epoch ``number`` starts; not called again on a resume within an epoch."""
        self.objective.on_epoch_start(number)

    def on_step_start(self, share_done: float) -> None:
        """Set the momentum of the target for this part of the run."""
        if self.target is not None:
            self.target.set_progress(share_done)

    def networks(self) -> list[nn.Module]:
        """Return the model and, if the objective needs it, its momentum copy."""
        return [self.model] if self.target is None else [self.model, self.target]

    def compilable(self) -> dict[Literal["model", "transforms"], list[nn.Module]]:
        """Return networks and transform, and the loss on one process: programs do not hold messages to others."""
        loss = [self.objective] if distributed.world_size() == 1 else []
        return {"model": [*self.networks(), *loss], "transforms": [self.transform]}

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Set the format of augmented frames."""
        self.transform.set_output(dtype, memory_format)

    def weights(self) -> dict[str, Any]:
        """Return the state of all but the objective, whose memory may be large."""
        parts = {name: part for name, part in self.named_children() if part is not self.objective}
        return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}

    def load_weights(self, state: Mapping[str, Any]) -> None:
        """Load what :meth:`weights` returned, or the part of a whole state; the objective is left as it is."""
        for name, part in self.named_children():
            if part is not self.objective:
                own = {key.removeprefix(f"{name}."): x for key, x in state.items() if key.startswith(f"{name}.")}
                part.load_state_dict(own)

    def train(self, mode: bool = True) -> Self:
        """Set the mode as PyTorch does, but keep fixed BatchNorm layers in evaluation mode."""
        super().train(mode)
        if self.batch_norm == "eval":
            hold_statistics(self.model, self.target)
        return self


def _with_heard(online: Embeddings, waveforms: Tensor, needs: ObjectiveNeeds) -> Embeddings:
    """Return embeddings with the audible time cells of (B, A * S) waveforms of A windows."""
    assert needs.silence_dbfs is not None, "called with a threshold"
    assert online.audio_map is not None, "silence_dbfs needs maps"
    windows = needs.windows or TemporalWindows()
    num_clips, num_cells = len(waveforms), online.audio_map.shape[2]
    each = waveforms.unflatten(1, (windows.num_audio, -1)).flatten(0, 1)  # (B * A, S)
    heard = loud_parts(each, num_cells, needs.silence_dbfs).unflatten(
        0, (num_clips, windows.num_views, 1 + windows.num_negatives)
    )  # (B, V, 1 + K, T')
    views = heard.transpose(0, 1).flatten(0, 1)  # (V * B, 1 + K, T')
    views = views.repeat(len(online.audio) // len(views), 1, 1)  # several augmentations of one window
    return replace(online, audio_heard=views[:, 0], other_heard=views[:, 1:] if windows.num_negatives else None)
