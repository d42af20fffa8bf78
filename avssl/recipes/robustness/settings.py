"""Settings of the verb ``robustness``, and the checks that need no model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avssl.core.manifest import Manifest, ManifestError
from avssl.core.ranges import Count, Seed, Severity, Workers, checked
from avssl.core.registry import entry
from avssl.transforms.corruptions import CORRUPTIONS

_MOST_GROUPS = 50
FEWEST_CLIPS = 10
"""Minimum number of test clips; intervals over fewer are meaningless."""


@checked
@dataclass(frozen=True)
class Settings:
    """Rows and numbers of the evaluation."""

    groups: tuple[str, ...] = ()
    """Columns of the manifest; the scores are reported for each of their values, with a permutation test of the gap
    between the best and the worst."""
    severities: tuple[Severity, ...] = ()
    """Also corrupt the clips at these severities, 1 to 5, such as 1 3 5; default: no corruptions."""
    corruptions: tuple[str, ...] = ()
    """Names of the corruptions: blur, brighter, darker, jpeg, pixel_noise, audio_noise, reverberation. Default: all."""
    label_column: str | None = None
    """Column of the labels. Rows without a label, or with several joined by "|", are left out. Default: the
    classifier's column, or "label"."""
    split_column: str = "split"
    """Column of the splits."""
    train_split: str = "train"
    """Rows that probes are trained on and that retrieval searches, undisturbed."""
    test_split: str = "test"
    """Rows that are scored and disturbed. For localization, a manifest without the column is used whole."""
    windows_per_clip: Count | None = None
    """Evenly spaced windows that are averaged. Default: as in the classifier's test, 10 for retrieval, or 1."""
    clips_per_class: Count = 5
    """av_retrieval: test clips of each class in the gallery."""
    seed: Seed = 0
    """Random seed of noise, rooms, positions, partner clips, resamples and the held-out part of the training rows."""
    num_workers: Workers | None = None
    """Decoding processes; default: one per core."""
    cache_folder: Path | str | None = None
    """Folder where features of clean clips are kept for later runs, also of ``avssl probe``."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one."""
    progress: bool = True
    """Show progress bars."""

    def __post_init__(self) -> None:
        for name in self.corruptions:
            entry("corruption", CORRUPTIONS, name)


def check_groups(tested: Manifest, settings: Settings) -> None:
    """Check the group columns before anything is computed."""
    for column in settings.groups:
        count = len({str(value) for value in tested[column]})
        if count > _MOST_GROUPS:
            raise ManifestError(
                f"the column {column!r} has {count} values in the test rows, but at most {_MOST_GROUPS} groups "
                "can be compared. Add a column with fewer, binned values."
            )


def check_count(rows: np.ndarray, settings: Settings) -> None:
    """Raise ManifestError if there are too few clips for intervals."""
    if len(rows) < FEWEST_CLIPS:
        raise ManifestError(
            f"{len(rows)} readable rows of the split {settings.test_split!r} can be scored; at least "
            f"{FEWEST_CLIPS} are needed for meaningful confidence intervals."
        )
