"""Read the features of every stage, or block, of one or more models, batch by batch, on the same rows.

The last stage of both modalities is the embedding, in the space they share.

Each model encodes the middle window of a row with its own preprocessing. Models with the same clip shape share the
decoding; a row that one of them cannot read is left out for all.

Dimensions: n clips of a batch, C channels; T', H', W' (video) or T', F' (audio) cells of a map.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor

from avssl.core.batch import Batch, Modality
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.progress import Bar
from avssl.data.dataset import ClipDataset
from avssl.data.eval_loader import EvalLoader
from avssl.data.ledger import Failure
from avssl.data.sampling import ClipSampling
from avssl.hub.pretrained import PretrainedModel
from avssl.media.backends import BackendName
from avssl.models import StagePooling
from avssl.models.blocks import Detail
from avssl.models.heads import HEAD

T = TypeVar("T")

MODALITIES: tuple[Modality, ...] = get_args(Modality)
"""Video before audio."""

_CLIPS_AT_A_TIME = 32  # through a model; batches of features may be larger


class Stage(NamedTuple):
    """One stage of one model."""

    model: str
    modality: Modality
    name: str

    def __str__(self) -> str:
        return f"{self.model} {self.modality} {self.name}"


def places_of(stages: Sequence[Stage], model: str, modality: Modality) -> list[int]:
    """Return the places of one encoder's stages in a list of stages, from input to output."""
    return [i for i, stage in enumerate(stages) if (stage.model, stage.modality) == (model, modality)]


class StageBatch(NamedTuple):
    """Features of n clips at every stage."""

    rows: np.ndarray
    """(n,) int64 positions in the manifest, ascending."""
    features: dict[Stage, Tensor]
    """(n, F) float32, by model, then video before audio, then from input to output."""


class StageReader:
    """Iterate over the readable rows in order, in batches of ``batch_size``; the last one may be smaller.

    Args:
        models: Models by name, all on one device.
        manifest: The rows.
        batch_size: Rows per batch, >= 1; no more are held in memory.
        max_features: Each map is averaged over the finest grid whose C x cells is at most this, with as many cells
            along time as along each side, and flattened. A coarser map is flattened as it is; 1 leaves its mean.
        detail: ``"stages"`` of the encoders, or ``"blocks"`` for their blocks and the layers of the heads.
        backend: Reader of media files.
        num_workers: Decoding processes; 0 decodes in this one.
        progress: Show a progress bar.

    Raises:
        InputError: If there is no model, or a number is below 1.

    Example:
        >>> from avssl.hub.pretrained import from_pretrained
        >>> manifest = avssl.read_manifest("corpus/manifest.csv")
        >>> reader = StageReader({"A": from_pretrained("runs/first")}, manifest, batch_size=4, max_features=64)
        >>> for rows, features in reader:
        ...     print(rows.tolist(), all(len(x) == 4 for x in features.values()))
        [0, 1, 2, 3] True
        [4, 5, 6, 7] True
    """

    def __init__(
        self,
        models: Mapping[str, PretrainedModel],
        manifest: Manifest,
        *,
        batch_size: int = 256,
        max_features: int,
        detail: Detail = "stages",
        backend: BackendName = "auto",
        num_workers: int = 0,
        progress: bool = False,
    ) -> None:
        if not models or min(batch_size, max_features) < 1:
            raise InputError(
                f"models ({len(models)}), batch_size ({batch_size}) and max_features ({max_features}) "
                "must be at least 1."
            )
        self.shapes: dict[Stage, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        """Shape of each stage, (C, T', H', W'), (C, T', F') or (D,), and its kept shape; known after a batch."""
        self._encoders, self._manifest = {name: model.encoder() for name, model in models.items()}, manifest
        self._batch_size, self._max_features, self._progress = batch_size, max_features, progress
        self._detail = detail
        by_sampling: dict[ClipSampling, list[str]] = {}
        for name, model in models.items():
            by_sampling.setdefault(model.sampling, []).append(name)
        self._loaders = [
            (
                EvalLoader(
                    ClipDataset(manifest, sampling, backend=backend),
                    min(batch_size, _CLIPS_AT_A_TIME),
                    num_workers=num_workers,
                ),
                names,
            )
            for sampling, names in by_sampling.items()
        ]

    @property
    def failures(self) -> list[Failure]:
        """Rows that a model could not read, so far."""
        found = {failure.id: failure for loader, _ in self._loaders for failure in loader.ledger}
        return list(found.values())

    def cell_mean(self, stage: Stage, features: Tensor) -> Tensor:
        """Return (n, C) means over the cells of (n, F) features of a batch; those of a head's layer as they are."""
        _, kept = self.shapes[stage]
        return features.unflatten(1, kept).flatten(2).mean(dim=2) if len(kept) > 1 else features

    def __iter__(self) -> Iterator[StageBatch]:
        rows: list[int] = []
        clips: list[dict[Stage, Tensor]] = []
        streams = [self._clips(loader, names) for loader, names in self._loaders]
        with Bar(desc="stages", total=len(self._manifest), unit="row", delay=1.0, show=self._progress) as bar:
            for row, parts in in_step(streams):
                rows.append(row)
                clips.append({stage: x for part in parts for stage, x in part.items()})
                bar.update(row + 1 - bar.n)
                if len(rows) == self._batch_size:
                    yield self._batch(rows, clips)
                    rows, clips = [], []
            bar.update(len(self._manifest) - bar.n)
        if rows:
            yield self._batch(rows, clips)

    def _batch(self, rows: Sequence[int], clips: Sequence[Mapping[Stage, Tensor]]) -> StageBatch:
        """Stack clips, in the order of the models, whichever loader they share."""
        stages = sorted(clips[0], key=lambda stage: list(self._encoders).index(stage.model))
        features = {stage: torch.stack([clip[stage] for clip in clips]) for stage in stages}
        return StageBatch(np.asarray(rows, dtype=np.int64), features)

    def _clips(self, loader: EvalLoader, names: Sequence[str]) -> Iterator[tuple[int, dict[Stage, Tensor]]]:
        """Yield the row and the (F,) features of one clip after the other."""
        for raw, rows, _ in loader:
            found = {stage: x for name in names for stage, x in self._encode(name, raw).items()}
            for place, row in enumerate(rows.tolist()):
                yield row, {stage: x[place] for stage, x in found.items()}

    def _encode(self, name: str, raw: Batch) -> dict[Stage, Tensor]:
        """Return (b, F) of every stage of one model."""
        found: dict[Stage, Tensor] = {}
        pooling = StagePooling(how="mean", max_features=self._max_features, keep_time=True)
        for modality in MODALITIES:
            encoding = self._encoders[name].encode_batch(raw, modality, detail=self._detail)
            for stage_name, values in {**encoding.stages, HEAD: encoding.embedding}.items():
                stage = Stage(name, modality, stage_name)
                found[stage] = self._kept(stage, values, pooling.pool(modality, values))
        return found

    def _kept(self, stage: Stage, values: Tensor, kept: Tensor) -> Tensor:
        self.shapes[stage] = tuple(values.shape[1:]), tuple(kept.shape[1:])
        return kept.flatten(1)


def in_step(streams: Sequence[Iterator[tuple[int, T]]]) -> Iterator[tuple[int, list[T]]]:
    """Yield the items whose ascending number all streams have, skipping the others; stop with the first that ends."""
    try:
        heads = [next(stream) for stream in streams]
        while True:
            number = max(head[0] for head in heads)
            if all(head[0] == number for head in heads):
                yield number, [head[1] for head in heads]
                heads = [next(stream) for stream in streams]
            else:
                heads = [
                    head if head[0] == number else next(stream) for head, stream in zip(heads, streams, strict=True)
                ]
    except StopIteration:
        return
