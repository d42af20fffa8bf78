"""Start or resume a run on labeled rows: claim its run directory, divide its rows, number its classes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Generic, TypeVar

import pyarrow as pa
import torch

from avssl.config import ConfigError, FinetuneConfig
from avssl.core import distributed
from avssl.core.manifest import Manifest
from avssl.core.outputs import ClaimedFolder
from avssl.data.conditions import rows_where
from avssl.data.file_stamps import stamped
from avssl.data.splits import Division, Labels, choose_divisions, divide, encode_labels
from avssl.downstream.finetuning.row_check import check_headers
from avssl.engine import environment_report
from avssl.training.labeled_source import LabeledSource, is_folder, read_labeled_source
from avssl.training.rows import reasons
from avssl.training.run_directory import RunDirectory, resolved

_Config = TypeVar("_Config", bound=FinetuneConfig)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ClassifierRun(Generic[_Config]):
    """Everything that the folds of a run share."""

    directory: RunDirectory
    config: _Config
    """Settings, with decoding backend, threads and source resolved."""
    manifest: Manifest
    """All rows."""
    unusable: pa.Table
    """Files of a folder that gave no row."""
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
    progress: bool = False,
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
        progress: Show a progress bar while the files of a folder are checked.

    Raises:
        ConfigError: If no source is named.
        ManifestError: If a folder has no class folders that can be trained on, or a column,
            a split, a fold or the training rows of a class are missing.
        RunDirectoryError: If the run was stopped before its rows were written.
        TooManyBadFiles: If too many of the training rows that are looked at cannot be read.
        InputError: If none of the test rows that are looked at can be read.
    """
    if not config.data.source:
        raise ConfigError(
            "name a manifest with labels, such as one of datasets/ or avssl index, or a folder of class folders."
        )
    config = resolved(config)
    if resume:
        manifest, unusable = directory.read_rows(config.data.source)
    else:
        found = _find_rows(config, progress)
        manifest, unusable = rows_where(found.manifest, config.data.where), found.unusable
    manifest = stamped(manifest, again=resume)
    columns = config.labels
    divisions = divide(
        manifest,
        columns.label_column,
        split_columns=columns.split_column,
        train_split=columns.train_split,
        test_split=columns.test_split,
        fold_column=columns.fold_column,
        multi_label=columns.multi_label,
        val_split=columns.val_split,
        unknown_classes=columns.unknown_classes,
    )
    labels = encode_labels(manifest, columns.label_column, divisions, columns.multi_label)
    choose_divisions(divisions, fold)  # an unknown fold is an error before anything is replaced
    if not resume and claim is not None:
        check_headers(config, manifest, divisions)
        claim.begin()
        directory.write_rows(manifest, unusable)
        directory.write_environment(environment_report(device) | {"manifest_hash": manifest.hash()})
        directory.write_config(config)  # last: a run that has it can be resumed
    distributed.barrier()
    return ClassifierRun(directory, config, manifest, unusable, divisions, labels)


def _find_rows(config: FinetuneConfig, progress: bool) -> LabeledSource:
    """Read the manifest, or look at the files of a folder on rank 0."""
    data, labels = config.data, config.labels
    if not is_folder(data.source):
        if labels.split_shares is not None:
            raise ConfigError(
                f"labels.split_shares divides a folder of class folders, but {data.source} is a manifest."
            )
        return read_labeled_source(data.source)
    found = None
    if distributed.is_main():
        found = read_labeled_source(
            data.source,
            inputs=config.classifier.inputs,
            shares=labels.split_shares,
            seed=labels.split_seed,
            unknown_classes=labels.unknown_classes,
            audio_seconds=config.sampling.audio_seconds,
            max_bad_fraction=data.max_bad_fraction,
            backend=data.backend,
            limits=config.limits,
            progress=progress,
        )
        if len(found.unusable):
            _log.warning(
                "%d files cannot be used (%s); the first: %s",
                len(found.unusable),
                ", ".join(reasons(found.unusable)),
                found.unusable["message"][0],
            )
    shared = distributed.broadcast_object(found)
    assert shared is not None, "rank 0 found it"
    return shared
