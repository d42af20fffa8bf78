"""Features and embeddings of the readable rows of a manifest, for the strategies."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avssl.core.cpus import decoding_workers
from avssl.core.manifest import Manifest
from avssl.evaluation import NEED_BOTH
from avssl.features.extract import extract_features
from avssl.hub.pretrained import PretrainedModel
from avssl.models import What

MODALITIES = {"both": ("video", "audio"), "video": ("video",), "audio": ("audio",)}


@dataclass(frozen=True)
class FeatureSettings:
    """Settings of the feature extraction."""

    modality: str = "both"
    """A name of :data:`MODALITIES`."""
    windows_per_clip: int = 1
    """Evenly spaced windows whose features are averaged."""
    num_workers: int | None = None
    """Decoding processes; None for one per core."""
    cache_folder: Path | str | None = None
    """Directory to cache features in; None for no cache."""
    progress: bool = True
    """Show progress bars."""


@dataclass(frozen=True, eq=False)
class RowFeatures:
    """Features of the readable rows of a manifest."""

    rows: np.ndarray
    """(N,) int64 rows of the manifest that could be read."""
    features: dict[str, np.ndarray]
    """(N, C) by modality."""
    embeddings: dict[str, np.ndarray]
    """(N, D) by modality; empty if no strategy needs them."""
    num_failures: int
    """Number of rows that could not be read."""


def extract_row_features(
    pretrained: PretrainedModel, manifest: Manifest, strategies: Sequence[str], settings: FeatureSettings
) -> RowFeatures:
    """Extract features of every readable row, and embeddings if a strategy needs them.

    Raises:
        ValueError: If no row can be read.
    """
    wanted: list[What] = ["features"]
    if set(NEED_BOTH) & set(strategies):
        wanted.append("embeddings")
    with ExitStack() as stack:
        # One pass over the files gives features and embeddings: the second call reads the cache.
        cache = settings.cache_folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="avssl-features-"))
        features, *embeddings = (
            extract_features(
                pretrained,
                manifest,
                windows_per_clip=settings.windows_per_clip,
                what=what,
                num_workers=decoding_workers(settings.num_workers),
                cache_folder=cache,
                progress=settings.progress,
            )
            for what in wanted
        )
    names = MODALITIES[settings.modality]
    return RowFeatures(
        features.rows,
        {name: getattr(features, name) for name in names},
        {name: getattr(part, name) for part in embeddings for name in ("video", "audio")},
        len(features.failures),
    )
