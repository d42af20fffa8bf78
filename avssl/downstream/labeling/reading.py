"""Rows of a manifest as the arrays that strategies look at."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avssl.core.manifest import Manifest
from avssl.evaluation import NEED_BOTH
from avssl.features.extract import Pretrained, What, extract_features
from avssl.training.build import default_workers

MODALITIES = {"both": ("video", "audio"), "video": ("video",), "audio": ("audio",)}


@dataclass(frozen=True)
class Reading:
    """How rows become features."""

    modality: str = "both"
    """Of :data:`MODALITIES`."""
    windows_per_clip: int = 1
    """Evenly spaced windows that are averaged."""
    num_workers: int | None = None
    """Decoding processes; one for each core by default."""
    cache_folder: Path | str | None = None
    """Where features are kept; nowhere by default."""
    progress: bool = True
    """Show bars."""


@dataclass(frozen=True, eq=False)
class Readable:
    """The rows that could be read, and what a model makes of them."""

    rows: Manifest
    """N rows."""
    features: dict[str, np.ndarray]
    """(N, C) by modality."""
    embeddings: dict[str, np.ndarray]
    """(N, D) by modality, where a strategy needs them."""
    num_failures: int
    """Rows left out."""


def read_rows(pretrained: Pretrained, manifest: Manifest, strategies: Sequence[str], reading: Reading) -> Readable:
    """Features of every readable row, and embeddings where a strategy may need them.

    Raises:
        ValueError: If no row can be read.
    """
    wanted: list[What] = ["features"]
    if set(NEED_BOTH) & set(strategies):
        wanted.append("embeddings")
    with ExitStack() as stack:
        # One pass gives features and embeddings: those asked for second come from the cache.
        cache = reading.cache_folder or stack.enter_context(tempfile.TemporaryDirectory(prefix="avssl-features-"))
        features, *embeddings = (
            extract_features(
                pretrained,
                manifest,
                windows_per_clip=reading.windows_per_clip,
                what=what,
                num_workers=default_workers() if reading.num_workers is None else reading.num_workers,
                cache_folder=cache,
                progress=reading.progress,
            )
            for what in wanted
        )
    names = MODALITIES[reading.modality]
    return Readable(
        manifest.select(features.rows),
        {name: getattr(features, name) for name in names},
        {name: getattr(part, name) for part in embeddings for name in ("video", "audio")},
        len(features.failures),
    )
