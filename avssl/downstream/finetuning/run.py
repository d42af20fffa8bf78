"""Start or resume a run on labeled rows: claim its run directory, divide its rows, number its classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import pyarrow as pa
import torch

from avssl.config import ConfigError, FinetuneConfig
from avssl.core import distributed
from avssl.core.manifest import Manifest, read_manifest
from avssl.data.file_stamps import stamped
from avssl.data.splits import Division, Labels, divide, encode_labels
from avssl.engine import environment_report
from avssl.training.run_directory import RunDirectory, resolved

_Config = TypeVar("_Config", bound=FinetuneConfig)
_NO_FILES = pa.table({name: pa.array([], pa.string()) for name in ("id", "path", "stream", "reason", "message")})


@dataclass(frozen=True, eq=False)
class ClassifierRun(Generic[_Config]):
    """Everything that the folds of a run share."""

    directory: RunDirectory
    config: _Config
    """Settings, with decoding backend, threads and source resolved."""
    manifest: Manifest
    """All rows."""
    divisions: list[Division]
    """All folds, in order."""
    labels: Labels
    """Classes of all rows."""


def start_run(
    config: _Config, out: Path | str, device: torch.device, *, resume: bool = False, overwrite: bool = False
) -> ClassifierRun[_Config]:
    """Read the rows and claim the run directory; a resumed run keeps the rows that it started with.

    Every rank calls it.

    Raises:
        ConfigError: If no manifest is named.
        ManifestError: If a column, a split, a fold or the training rows of a class are missing.
        RunDirectoryError: If ``out`` must not be written, or cannot be resumed.
    """
    if not config.data.source:
        raise ConfigError("name a manifest with labels, for example one written by datasets/ or avssl index.")
    directory, config = RunDirectory(out), resolved(config)
    if resume:
        manifest = stamped(directory.read_rows(config.data.source)[0], again=True)
    else:
        manifest = stamped(read_manifest(config.data.source))
    columns = config.labels
    divisions = divide(
        manifest,
        columns.label_column,
        split_columns=columns.split_column,
        train_split=columns.train_split,
        test_split=columns.test_split,
        fold_column=columns.fold_column,
        multi_label=columns.multi_label,
    )
    labels = encode_labels(manifest, columns.label_column, divisions, columns.multi_label)
    if not resume and distributed.is_main():
        directory.claim(overwrite)
        directory.write_rows(manifest, _NO_FILES)
        directory.write_config(config)
        directory.write_environment(environment_report(device) | {"manifest_hash": manifest.hash()})
    distributed.barrier()
    return ClassifierRun(directory, config, manifest, divisions, labels)
