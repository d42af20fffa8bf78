"""Start or resume a run on labeled rows: claim its run directory, divide its rows, number its classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

import pyarrow as pa
import torch

from avssl.config import ConfigError, FinetuneConfig
from avssl.core import distributed
from avssl.core.manifest import Manifest, read_manifest
from avssl.core.outputs import ClaimedFolder
from avssl.data.file_stamps import stamped
from avssl.data.splits import Division, Labels, choose_divisions, divide, encode_labels
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
    config: _Config,
    directory: RunDirectory,
    device: torch.device,
    claim: ClaimedFolder | None = None,
    *,
    resume: bool = False,
    fold: str | None = None,
) -> ClassifierRun[_Config]:
    """Read the rows and write them to the run directory; a resumed run keeps the rows that it started with.

    Every rank calls it.

    Args:
        config: Every setting.
        directory: The run directory.
        device: Device of the run.
        claim: From :meth:`RunDirectory.claimed`, on rank 0.
        resume: Read the rows that are there.
        fold: The split or fold that is requested, if not all.

    Raises:
        ConfigError: If no manifest is named.
        ManifestError: If a column, a split, a fold or the training rows of a class are missing.
        RunDirectoryError: If the run was stopped before its rows were written.
    """
    if not config.data.source:
        raise ConfigError("name a manifest with labels, for example one written by datasets/ or avssl index.")
    config = resolved(config)
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
    choose_divisions(divisions, fold)  # an unknown fold is an error before anything is replaced
    if not resume and claim is not None:
        claim.begin()
        directory.write_rows(manifest, _NO_FILES)
        directory.write_environment(environment_report(device) | {"manifest_hash": manifest.hash()})
        directory.write_config(config)  # last: a run that has it can be resumed
    distributed.barrier()
    return ClassifierRun(directory, config, manifest, divisions, labels)
