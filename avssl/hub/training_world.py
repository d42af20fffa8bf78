"""Statistics of the clips a model was trained on, stored beside its weights, so that it can tell foreign videos.

A clip is described by the mean and the standard deviation of every channel of an encoder's last map, over all cells:
textures, colors and timbres move them, even where the pooled features stay where they are.

A model of several corpora has statistics of each: one Gaussian over all of them would also cover what lies between.

Dimensions: B clips, C channels, S steps of an audio query, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from avssl.core.batch import Batch, Modality
from avssl.core.user_files import regular_file
from avssl.core.whole_file import whole_file
from avssl.evaluation.novelty import DIRECTIONS, Novelty, fit_novelty
from avssl.hub.release import WORLD_NAME, HubError
from avssl.models import ClipEncoder

MOST_CLIPS = 512
"""Training clips that are looked at, half to fit the statistics and half to set their thresholds."""
FEWEST_CLIPS = 32
"""With fewer readable clips no statistics are stored."""
MOST_SOUNDS = 32
"""Clips whose audio is kept as queries of the model, to compare a video's own audio with."""
FALSE_ALARMS = 0.005
"""Accepted share of clips of the training world that are called foreign by a stream; two streams make 1 %."""
_MAX_BYTES = 64 * 2**20
_STREAMS: tuple[Modality, Modality] = ("video", "audio")


@dataclass(frozen=True, eq=False)
class TrainingWorld:
    """Statistics of the training clips of one corpus in the features of their model."""

    streams: dict[Modality, Novelty]
    """Gaussians of the (2 C,) descriptions of the frames and of the audio."""
    queries: Tensor
    """(K, D, S) audio queries of held-out clips."""


@torch.no_grad()
def describe_clips(encoder: ClipEncoder, modality: Modality, x: Tensor) -> Tensor:
    """Return the (B, 2 C) float32 channel means and deviations of the last map, for model input of one modality."""
    model = encoder.model
    network = model.video_encoder if modality == "video" else model.audio_encoder
    cells = network.forward_features(x).float().flatten(2)  # (B, C, cells)
    return torch.cat([cells.mean(dim=2), cells.std(dim=2, correction=0)], dim=1).cpu()


@torch.no_grad()
def measure_world(encoder: ClipEncoder, fitted: Iterable[Batch], held_out: Iterable[Batch]) -> TrainingWorld | None:
    """Describe raw training clips, and other clips of the same corpus that set the thresholds.

    Args:
        encoder: The model with the preprocessing of its own evaluation crop, in float32.
        fitted: Raw batches of one clip a row.
        held_out: The same, of other rows.

    Returns:
        The statistics; None with fewer than :data:`FEWEST_CLIPS` clips in all, or if a feature is not finite.
    """
    parts: dict[tuple[bool, Modality], list[Tensor]] = {(held, m): [] for held in (False, True) for m in _STREAMS}
    queries: list[Tensor] = []
    for is_held, batches in ((False, fitted), (True, held_out)):
        for batch in batches:
            for modality in _STREAMS:
                x = encoder.model_input(batch, modality)
                parts[is_held, modality].append(describe_clips(encoder, modality, x))
                if is_held and modality == "audio" and sum(map(len, queries)) < MOST_SOUNDS:
                    queries.append(encoder.queries(x).float().cpu())
    rows = {key: torch.cat(found) for key, found in parts.items() if found}
    if len(rows) < len(parts) or not all(bool(found.isfinite().all()) for found in rows.values()):
        return None
    num_fitted, num_held = len(rows[False, "video"]), len(rows[True, "video"])
    if num_fitted + num_held < FEWEST_CLIPS or min(num_fitted, num_held) < FEWEST_CLIPS // 4:
        return None
    streams = {m: fit_novelty(rows[False, m], rows[True, m], FALSE_ALARMS) for m in _STREAMS}
    return TrainingWorld(streams, torch.cat(queries)[:MOST_SOUNDS])


def save_worlds(folder: Path, worlds: Sequence[TrainingWorld]) -> None:
    """Write the statistics of each corpus beside the weights of a release; none removes those of an earlier release."""
    path = folder / WORLD_NAME
    if not worlds:
        path.unlink(missing_ok=True)
        return
    tensors: dict[str, Tensor] = {}
    for number, world in enumerate(worlds):
        prefix = _prefix(number)
        tensors[f"{prefix}queries"] = world.queries
        for name, novelty in world.streams.items():
            tensors |= {f"{prefix}{name}.{field.name}": getattr(novelty, field.name) for field in fields(novelty)}
    tensors = {name: value.contiguous() for name, value in tensors.items()}
    with whole_file(path, num_bytes=sum(value.nbytes for value in tensors.values())) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})


def load_worlds(folder: Path) -> tuple[TrainingWorld, ...]:
    """Read the statistics of a release, by corpus; none if it has none, as releases of earlier versions.

    Raises:
        HubError: If the file is damaged, too large, or of other shapes.
    """
    path = folder / WORLD_NAME
    if not path.exists():
        return ()
    try:
        with safe_open(regular_file(path, _MAX_BYTES), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        count = sum(name.endswith("queries") for name in tensors)
        worlds = tuple(_world(_prefix(number), tensors) for number in range(count))
        if tensors or not worlds:
            raise ValueError(f"it holds other tensors: {', '.join(sorted(tensors)) or 'none at all'}")
    except Exception as error:  # safetensors raises its own errors
        raise HubError(
            f"{path}: not the statistics of training clips: {error}. Without this file the model works and cannot tell "
            "foreign videos; fetch the release again, or remove the file."
        ) from error
    return worlds


def _prefix(number: int) -> str:
    """Return what the names of a corpus's tensors begin with: nothing for the first."""
    return f"{number}." if number else ""


def _world(prefix: str, tensors: dict[str, Tensor]) -> TrainingWorld:
    world = TrainingWorld(
        {name: _novelty(f"{prefix}{name}", tensors) for name in _STREAMS}, tensors.pop(f"{prefix}queries")
    )
    if world.queries.ndim != 3 or not bool(world.queries.isfinite().all()):
        raise ValueError(f"{prefix}queries are {tuple(world.queries.shape)}, or not finite")
    return world


def _novelty(stream: str, tensors: dict[str, Tensor]) -> Novelty:
    found = Novelty(**{field.name: tensors.pop(f"{stream}.{field.name}") for field in fields(Novelty)})
    count, size = len(found.variances), len(found.mean)
    shapes = {"mean": (size,), "directions": (count, size), "variances": (count,)}
    for field in fields(found):
        value = getattr(found, field.name)
        if tuple(value.shape) != shapes.get(field.name, ()) or not bool(value.isfinite().all()) or count > DIRECTIONS:
            raise ValueError(f"{stream}.{field.name} is {tuple(value.shape)}, or not finite")
    if not bool((found.variances > 0).all() and found.residual > 0):
        raise ValueError(f"{stream} has variances that are not positive")
    return found
