"""A measure of a model, clip by clip, and its scores under corruptions.

Dimensions: N scored clips.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from avssl.core.batch import Modality
from avssl.core.data_files import read_arrays
from avssl.core.manifest import Manifest
from avssl.core.progress import Bar
from avssl.core.whole_file import whole_file
from avssl.features.extract import rows_key
from avssl.transforms.corruptions import CORRUPTIONS, Corruption

ClipScores = dict[str, np.ndarray]
"""Name of a number -> (N,) float64, whose mean is the number."""
CONDITIONS = "conditions/*.npz"
"""Pattern of the files of :func:`run_conditions` in the folder of a report."""


class Measure(Protocol):
    """One way to score the same clips, clean or corrupted."""

    @property
    def about(self) -> dict[str, Any]:
        """Plain values on which the scores depend: name, sizes, checkpoint, weights, clip list and seed."""

    @property
    def manifest(self) -> Manifest: ...

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64 row of each scored clip in ``manifest``."""

    @property
    def streams(self) -> Mapping[str, Collection[Modality]]:
        """Name of a number -> modalities that it depends on."""

    @property
    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        """Name of a baseline, "chance" among them -> name of a number -> its value."""

    def run(self, corruption: Corruption | None) -> dict[str, np.ndarray]:
        """Run the model over the clips; None leaves them clean."""

    def scores(self, runs: Mapping[Corruption | None, Mapping[str, np.ndarray]]) -> dict[Corruption | None, ClipScores]:
        """Score what :meth:`run` returned, the clean run among them."""


def chosen_corruptions(
    measure: Measure, names: Sequence[str], severities: Sequence[int], seed: int
) -> list[Corruption]:
    """Return the corruptions of a modality that the measure depends on; no names means all."""
    reached = {stream for streams in measure.streams.values() for stream in streams}
    chosen = [name for name in CORRUPTIONS if (name in names or not names) and CORRUPTIONS[name].stream in reached]
    return [Corruption(name, severity, seed) for name in chosen for severity in sorted(set(severities))]


def run_conditions(
    measure: Measure, corruptions: Sequence[Corruption], folder: Path, *, progress: bool = False
) -> dict[Corruption | None, ClipScores]:
    """Score the clean clips (None) and those under each corruption.

    What the model returns is kept in ``folder/conditions``, so that an interrupted report continues there. The name of
    a file has a key of all that it depends on.
    """
    runs: dict[Corruption | None, Mapping[str, np.ndarray]] = {None: measure.run(None)}
    tested = measure.manifest.select(np.unique(measure.rows))
    with Bar(total=len(corruptions), desc="corrupt", unit="condition", show=progress) as bar:
        for corruption in corruptions:
            about = {"about": measure.about, "strength": corruption.strength, "seed": corruption.seed}
            key = rows_key(tested, about)
            file = folder / Path(CONDITIONS).parent / f"{corruption.name}-{corruption.severity}-{key}.npz"
            if file.exists():
                runs[corruption] = read_arrays(file)
            else:
                runs[corruption] = measure.run(corruption)
                with whole_file(file) as temporary, temporary.open("wb") as stream:
                    np.savez(stream, **runs[corruption])  # type: ignore[arg-type]
            bar.update()
    return measure.scores(runs)
