"""The beginning of a run on labeled rows: its folder, its rows, its folds and its classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa
import torch

from avssl.config import ConfigError, FinetuneConfig
from avssl.core import distributed
from avssl.core.manifest import Manifest, read_manifest
from avssl.data.splits.labels import Fold, Labels, find_folds, has_label, number_labels
from avssl.engine import environment_report
from avssl.training.run_directory import RunDirectory, resolved

_Config = TypeVar("_Config", bound=FinetuneConfig)
_NO_FILES = pa.table({name: pa.array([], pa.string()) for name in ("id", "path", "stream", "reason", "message")})


@dataclass(frozen=True, eq=False)
class Started(Generic[_Config]):
    """What every fold of a run shares."""

    run: RunDirectory
    """Where it writes."""
    config: _Config
    """Its settings, with reader, threads and source by name."""
    manifest: Manifest
    """All rows."""
    folds: list[Fold]
    """Every one, in order."""
    labels: Labels
    """Of all rows."""


def begin(
    config: _Config, out: Path | str, device: torch.device, *, resume: bool = False, overwrite: bool = False
) -> Started[_Config]:
    """Reads the rows and claims the run folder; a resumed run keeps the rows that it began with.

    Every rank calls it.

    Raises:
        ConfigError: If no manifest is named.
        ManifestError: If it cannot be used: a column, a split, a fold or a class's rows are missing.
        RunDirectoryError: If ``out`` must not be written, or cannot be continued.
    """
    if not config.data.source:
        raise ConfigError("name a manifest with labels, such as one of datasets/ or avssl index makes.")
    run = RunDirectory(out)
    config = resolved(config)
    manifest = run.read_rows(config.data.source)[0] if resume else read_manifest(config.data.source)
    labels = config.labels
    labeled = has_label(manifest, labels.column, labels.multi_label)
    folds = find_folds(
        manifest,
        labeled,
        split_columns=labels.split_columns,
        train_split=labels.train_split,
        test_split=labels.test_split,
        fold_column=labels.fold_column,
    )
    numbered = number_labels(manifest, labels.column, labeled, folds, labels.multi_label)
    if not resume and distributed.is_main():
        run.claim(overwrite)
        run.write_rows(manifest, _NO_FILES)
        run.write_config(config)
        run.write_environment(environment_report(device) | {"manifest_hash": manifest.hash()})
    distributed.barrier()
    return Started(run, config, manifest, folds, numbered)
