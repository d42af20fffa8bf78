"""The folder of one run: what is in it, and when it may be written.

::

    runs/<name>/
    ├── config.yaml         every setting, resolved: the batch that fits, the precision that was taken
    ├── environment.json    versions, device, commit
    ├── manifest.csv        the rows of the run, relative to data.source
    ├── held_out.csv        rows kept out of training for the monitors' gallery, where there are any
    ├── unusable_files.csv  files that gave no row, and why
    ├── metrics.jsonl       and tensorboard/
    ├── checkpoints/        training state; best.pt, the weights that retrieve best
    ├── weights/            the release
    ├── weights_best/       the same of best.pt, where rows are held out
    ├── dropped_files.csv   those, and the rows that could not be read in training
    ├── folds/              of a classifier: a folder a fold, with checkpoints, release and predictions
    └── results.json        and the numbers of all of them
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.csv as pa_csv
import torch

from avssl.config import Config, load_run_config, to_yaml
from avssl.core import distributed
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, is_url, read_manifest, write_table
from avssl.core.whole_file import is_unfinished, write_json, write_text
from avssl.data.ledger import Failure, failures_table
from avssl.engine import Checkpointer, environment_report, set_threads
from avssl.training.build import named_backend

_LOGGER = logging.getLogger(__name__)
_OURS = (
    "config.yaml",
    "environment.json",
    "manifest.csv",
    "held_out.csv",
    "unusable_files.csv",
    "metrics.jsonl",
    "tensorboard",
    "checkpoints",
    "weights",
    "weights_best",
    "dropped_files.csv",
    "folds",
    "results.json",
)

_Root = TypeVar("_Root")


class RunDirectoryError(InputError):
    """A run directory that must not be written, or cannot be continued."""


class RunDirectory:
    """Paths and files of one run.

    Args:
        path: The folder; made by :meth:`claim`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.weights = self.path / "weights"
        self.weights_best = self.path / "weights_best"
        self.dropped_files = self.path / "dropped_files.csv"
        self.config_file = self.path / "config.yaml"
        self._manifest = self.path / "manifest.csv"
        self._held_out = self.path / "held_out.csv"
        self._unusable = self.path / "unusable_files.csv"

    def check_free(self, overwrite: bool = False) -> None:
        """Makes sure that :meth:`claim` may write here.

        Raises:
            RunDirectoryError: If a run is there and ``overwrite`` is False, or other files are there.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path}: is a file; name a folder with --out.")
        foreign = [name for name in self._there() if name not in _OURS and not is_unfinished(name)]
        if foreign:
            raise RunDirectoryError(f"{self.path}: holds other files ({foreign[0]}); name a new folder with --out.")
        if self._there() and not overwrite:
            raise RunDirectoryError(
                f"{self.path}: a run is there already. Continue it with --resume {self.path}, replace it with "
                "--overwrite, or name another folder with --out."
            )

    def claim(self, overwrite: bool = False) -> None:
        """Makes the folder, or empties it of an earlier run: only files of a run, and only with ``overwrite``.

        Raises:
            RunDirectoryError: As :meth:`check_free`.
        """
        self.check_free(overwrite)
        for name in self._there():
            entry = self.path / name
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        self.path.mkdir(parents=True, exist_ok=True)

    def _there(self) -> list[str]:
        return sorted(entry.name for entry in self.path.iterdir()) if self.path.is_dir() else []

    def read_config(self, root: type[_Root] = Config) -> _Root:  # type: ignore[assignment]
        """Return the settings of the run.

        Raises:
            ConfigError: If another version of avssl or another verb wrote them.
            RunDirectoryError: If there is no run.
        """
        if not self.config_file.is_file():
            raise RunDirectoryError(f"{self.path}: no run to continue here (no config.yaml).")
        return load_run_config(self.path, root)

    def write_config(self, config: Any) -> None:
        """Writes every setting; a kill leaves the old file or the new one."""
        write_text(self.config_file, to_yaml(config))

    def is_fresh(self) -> bool:
        """Return True if there is no checkpoint to continue from; log the one there is.

        Raises:
            CheckpointError: If all checkpoints are damaged.
        """
        checkpoint = Checkpointer(self.checkpoints).latest()
        if checkpoint is not None and distributed.is_main():
            _LOGGER.info("resumes     %s", checkpoint)
        return checkpoint is None

    def record(self, config: Any, manifest: Manifest, device: torch.device) -> None:
        """Write the resolved settings and the environment, on rank 0."""
        if distributed.is_main():
            self.write_config(config)
            about = {"manifest_hash": manifest.hash(), "rows": len(manifest)}
            self.write_environment(environment_report(device) | about)

    def write_environment(self, report: Mapping[str, Any]) -> None:
        """Writes what a result depends on beside the settings."""
        write_json(self.path / "environment.json", report)

    def write_rows(self, manifest: Manifest, unusable: pa.Table, held_out: Manifest | None = None) -> None:
        """Keeps the rows of the run, the files that gave none, and the rows that training must not see."""
        write_table(unusable, self._unusable)
        if held_out is not None:
            write_table(held_out.table, self._held_out)
        write_table(manifest.table, self._manifest)

    def read_rows(self, source: Path | str) -> tuple[Manifest, pa.Table]:
        """What :meth:`write_rows` kept; files are looked for under ``source``, or beside it if it is a file.

        Raises:
            RunDirectoryError: If the run was stopped before its rows were known.
        """
        if not self._manifest.is_file():
            raise RunDirectoryError(
                f"{self.path}: stopped before its rows were found. Start it again with --overwrite."
            )
        return read_manifest(self._manifest, _root(source)), _read_strings(self._unusable)

    def read_held_out(self, source: Path | str) -> Manifest | None:
        """The rows kept out of training, or None where it is done on all of them."""
        return read_manifest(self._held_out, _root(source)) if self._held_out.is_file() else None

    def write_dropped(self, unusable: pa.Table, failed: Iterable[Failure]) -> None:
        """Writes ``dropped_files.csv``: files without a row, then rows that failed in training."""
        write_table(pa.concat_tables([unusable, failures_table(failed)]), self.dropped_files)


def default_directory(source: str, ending: str = "") -> Path:
    """``runs/videos`` for a folder ``videos``, ``runs/corpus`` for ``corpus/manifest.csv``, and an ending."""
    path = Path(source)
    return Path("runs") / ((path.parent.name if path.name == "manifest.csv" else path.stem or "run") + ending)


def resolved(config: _Root) -> _Root:
    """The settings with source, reader and number of threads by name, as a resume must not come upon others."""
    either: Any = config
    source = either.data.source
    source = source if is_url(source) else str(Path(source).resolve())
    data = replace(either.data, source=source, backend=named_backend(either.data.backend))
    result: _Root = replace(either, data=data, train=replace(either.train, threads=set_threads(either.train.threads)))
    return result


def _root(source: Path | str) -> Path | str:
    """What paths are relative to: a folder itself, or that of a manifest."""
    return source if not is_url(source) and Path(source).is_dir() else str(source).rpartition("/")[0]


def _read_strings(path: Path) -> pa.Table:
    """A CSV whose columns are all strings, empty ones too."""
    with path.open(encoding="utf-8") as file:
        names = [name.strip('"') for name in file.readline().strip().split(",")]
    return pa_csv.read_csv(path, convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string())))
