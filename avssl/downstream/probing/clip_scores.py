"""Scores of a protocol for each test clip, clean or corrupted; the training clips stay clean.

Dimensions: n readable rows, M of them for testing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.batch import Modality
from avssl.core.errors import RunError
from avssl.core.manifest import Manifest
from avssl.data.splits import Division, labeled_rows
from avssl.downstream.probing.protocol import ProbeData, ProbeProtocol, ProbeSettings, ResultRow
from avssl.downstream.probing.run import choose_rows, positions
from avssl.features.extract import Features, extract_features
from avssl.hub.pretrained import PretrainedModel
from avssl.transforms.corruptions import Corruption

_STREAMS: dict[str, tuple[Modality, ...]] = {"video": ("video",), "audio": ("audio",)}


@dataclass(frozen=True, eq=False)
class ProtocolClips:
    """A protocol whose headline is a mean over test clips; built by :func:`protocol_clips`."""

    protocol: ProbeProtocol
    pretrained: PretrainedModel
    manifest: Manifest
    """The n rows that are read, training rows included."""
    data: ProbeData
    """Features of the clean clips."""
    about: dict[str, Any]
    num_workers: int = 0
    cache_folder: Path | str | None = None
    progress: bool = False

    @property
    def rows(self) -> np.ndarray:
        return self.data.features.rows[self.data.test]

    @property
    def streams(self) -> Mapping[str, Collection[Modality]]:
        return {name: _STREAMS.get(name, ("video", "audio")) for name in self.run(None)}

    @property
    def baselines(self) -> Mapping[str, Mapping[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for row in self.protocol.baselines(self.data):
            numbers = [row.modality] if row.modality else list(self.streams)
            found.setdefault(row.model, {}).update(dict.fromkeys(numbers, row.numbers[self.protocol.headline]))
        return found

    def run(self, corruption: Corruption | None) -> dict[str, np.ndarray]:
        """Return the (M,) values of the headline by modality, or by direction of cross-modal retrieval."""
        data = self.data if corruption is None else replace(self.data, features=self._corrupted(corruption))
        return {row.modality: _per_clip(row) for row in self.protocol.measure(data)}

    def scores(
        self, runs: Mapping[Corruption | None, Mapping[str, np.ndarray]]
    ) -> dict[Corruption | None, dict[str, np.ndarray]]:
        return {corruption: dict(run) for corruption, run in runs.items()}

    def _corrupted(self, corruption: Corruption) -> Features:
        """Return the features with those of the test rows replaced."""
        clean = self.data.features
        found = extract_features(
            self.pretrained,
            self.manifest.select(self.rows),
            windows_per_clip=clean.at_seconds.shape[1],
            num_workers=self.num_workers,
            cache_folder=self.cache_folder,
            corruption=corruption,
            progress=self.progress,
            title=str(corruption),
            **self.protocol.extraction(self.pretrained, self.data.settings),
        )
        for failure in found.failures:
            raise RunError(f"a file that could be read before cannot be read now: {failure.message}")

        def replaced(values: np.ndarray, new: np.ndarray) -> np.ndarray:
            values = values.copy()
            values[self.data.test] = new
            return values

        stages = {
            side: {name: replaced(values, found.stages[side][name]) for name, values in maps.items()}
            for side, maps in clean.stages.items()
        }
        return replace(
            clean, video=replaced(clean.video, found.video), audio=replaced(clean.audio, found.audio), stages=stages
        )


def protocol_clips(
    protocol: ProbeProtocol,
    pretrained: PretrainedModel,
    manifest: Manifest,
    division: Division,
    label_column: str,
    settings: ProbeSettings,
    *,
    num_workers: int = 0,
    cache_folder: Path | str | None = None,
    progress: bool = False,
) -> ProtocolClips:
    """Extract the features of the clean clips, as :func:`avssl.downstream.probing.run_protocol` does.

    Raises:
        ValueError: As :func:`avssl.features.extract.extract_features`.
    """
    division = choose_rows(protocol, manifest, [division], label_column, settings)
    used = labeled_rows([division])
    rows = manifest.select(used)
    windows = settings.windows_per_clip or protocol.windows
    features = extract_features(
        pretrained,
        rows,
        windows_per_clip=windows,
        num_workers=num_workers,
        cache_folder=cache_folder,
        progress=progress,
        **protocol.extraction(pretrained, settings),
    )
    labels = rows[label_column][features.rows]
    data = ProbeData(features, labels, *positions(features, used, division), settings, pretrained.device)
    about = {
        "name": protocol.title,
        "headline": protocol.headline,
        "label_column": label_column,
        "num_classes": len(np.unique(labels[data.test].astype(str))),
        "n_train": len(data.train),
        "n_test": len(data.test),
        "unreadable": len(features.failures),
        "unlabeled": len(division.unlabeled_test),
        "windows_per_clip": windows,
        "clip_list": rows.hash(),
        "seed": settings.seed,
        "checkpoint": pretrained.source,
        "weights": pretrained.weights_hash(),
    }
    return ProtocolClips(protocol, pretrained, rows, data, about, num_workers, cache_folder, progress)


def _per_clip(row: ResultRow) -> np.ndarray:
    assert row.per_clip is not None, "only for protocols whose headline is a mean over clips"
    return row.per_clip.astype(np.float64)
