"""Run models over rows as they are, and without each of their residual blocks in turn, with one decoding.

Dimensions: n clips, C features, D embedding size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from avssl.core.batch import Batch, Modality
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.progress import Bar
from avssl.data.dataset import ClipDataset
from avssl.data.eval_loader import EvalLoader
from avssl.evaluation import cross_modal_retrieval, kept_neighbors
from avssl.features.stage_reader import MODALITIES
from avssl.hub.pretrained import PretrainedModel
from avssl.models import AVModel, ClipEncoder, Encoding
from avssl.models.blocks import delete_each_block
from avssl.models.encoder import Encoder

NEIGHBORS = 10
"""Nearest clips, and best matches of retrieval, that count."""
MIN_CLIPS = 2 * NEIGHBORS
"""With fewer clips the ten nearest of each are nearly all."""

RECALL, KEPT = f"R@{NEIGHBORS}", "neighbors"
"""Names of the scores."""

_CLIPS_AT_A_TIME = 32


@dataclass(frozen=True)
class BlockDeletions:
    """Scores of a model on n clips: whole, and without each block.

    The scores are ``R@10``, retrieval between video and audio, mean of both directions; and ``neighbors``, the share of
    a clip's ten nearest clips, by the features of the encoder, that are the same as those of the whole model.
    """

    num_clips: int
    """Clips that could be read."""
    whole: dict[str, float]
    """Scores of the whole model; ``neighbors`` is 1."""
    chance: dict[str, float]
    """Scores by chance."""
    shuffled: float
    """``R@10`` of the whole model where each clip is paired with the sound of another."""
    deleted: dict[Modality, dict[str, dict[str, float]]]
    """Scores without each block of the video or audio encoder, by its name."""


def delete_blocks(
    pretrained: PretrainedModel, rows: Manifest, *, num_workers: int = 0, progress: bool = False
) -> BlockDeletions:
    """Measure what each residual block of a model contributes; see :func:`~avssl.models.blocks.without_blocks`.

    Args:
        pretrained: The model; it is as before afterwards.
        rows: Clips; the model encodes the middle window of each. Those it cannot read are left out.
        num_workers: Decoding processes; 0 decodes in this one.
        progress: Show a progress bar.

    Raises:
        InputError: If fewer than :data:`MIN_CLIPS` rows can be read.

    Example:
        >>> from avssl.hub.pretrained import from_pretrained
        >>> rows = Manifest.from_columns({"id": list(map(str, range(20))), "path": ["video.mp4"] * 20}, ".")
        >>> found = delete_blocks(from_pretrained("runs/first"), rows)
        >>> found.num_clips, sorted(found.deleted)
        (20, ['audio', 'video'])
    """
    loader = EvalLoader(ClipDataset(rows, pretrained.sampling), _CLIPS_AT_A_TIME, num_workers=num_workers)
    encoder = pretrained.encoder()
    parts: dict[_Key, list[Encoding]] = defaultdict(list)
    with Bar(desc="delete blocks", total=len(rows), unit="row", delay=1.0, show=progress) as bar:
        for raw, place, _ in loader:
            for key, encoding in _encode(encoder, raw):
                parts[key].append(encoding)
            bar.update(int(place[-1]) + 1 - bar.n)
        bar.update(len(rows) - bar.n)
    num_clips = sum(len(part.features) for part in parts["video", ""]) if parts else 0
    if num_clips < MIN_CLIPS:
        first = f" The first failure: {failures[0].message}" if (failures := list(loader.ledger)) else ""
        raise InputError(
            f"{num_clips} of {len(rows)} rows can be read, but the effect of blocks needs {MIN_CLIPS} clips.{first}"
        )
    return _scores({key: _Vectors.joined(own) for key, own in parts.items()}, num_clips)


_Key = tuple[Modality, str]
"""Modality and deleted block, "" for none."""


class _Vectors(NamedTuple):
    """One modality of all clips."""

    features: np.ndarray
    """(n, C) float32."""
    embedding: Tensor
    """(n, D) float32."""

    @classmethod
    def joined(cls, parts: Sequence[Encoding]) -> _Vectors:
        features, embedding = (torch.cat(values).float().cpu() for values in _columns(parts))
        return cls(features.numpy(), embedding)


def _columns(parts: Sequence[Encoding]) -> tuple[list[Tensor], list[Tensor]]:
    return [part.features for part in parts], [part.embedding for part in parts]


def _encode(encoder: ClipEncoder, raw: Batch) -> Iterator[tuple[_Key, Encoding]]:
    """Yield the encodings of a batch."""
    for modality in MODALITIES:
        encode = partial(encoder.encode, modality, encoder.model_input(raw, modality))
        yield (modality, ""), encode()
        for block, encoding in delete_each_block(_network(encoder.model, modality), encode).items():
            yield (modality, block), encoding


def _network(model: AVModel, modality: Modality) -> Encoder:
    return model.video_encoder if modality == "video" else model.audio_encoder


def _scores(vectors: dict[_Key, _Vectors], num_clips: int) -> BlockDeletions:
    video, audio = (vectors[modality, ""].embedding for modality in MODALITIES)
    deleted: dict[Modality, dict[str, dict[str, float]]] = {modality: {} for modality in MODALITIES}
    for (modality, block), own in vectors.items():
        if block:
            pair = (own.embedding, audio) if modality == "video" else (video, own.embedding)
            kept = kept_neighbors(vectors[modality, ""].features, own.features, NEIGHBORS)
            deleted[modality][block] = {RECALL: _recall(*pair), KEPT: kept}
    return BlockDeletions(
        num_clips,
        whole={RECALL: _recall(video, audio), KEPT: 1.0},
        chance={RECALL: NEIGHBORS / num_clips, KEPT: NEIGHBORS / (num_clips - 1)},
        shuffled=_recall(video, audio.roll(num_clips // 2, dims=0)),
        deleted=deleted,
    )


def _recall(video: Tensor, audio: Tensor) -> float:
    """Return the mean of both directions."""
    found = cross_modal_retrieval(video, audio, ks=(NEIGHBORS,))
    return (found[f"v2a_R@{NEIGHBORS}"] + found[f"a2v_R@{NEIGHBORS}"]) / 2
