"""The directory of a run: its files, and when it may be written.

::

    runs/<name>/
    ├── config.yaml         every setting, resolved: the fitted batch size, the measured precision
    ├── environment.json    versions, device, commit
    ├── manifest.csv        the rows of the run, relative to data.source
    ├── held_out.csv        the monitors' gallery, if it is kept out of training
    ├── unusable_files.csv  files that gave no row, and why
    ├── metrics.jsonl       and tensorboard/
    ├── checkpoints/        training state; best.pt, the weights with the best retrieval
    ├── weights/            the release
    ├── weights_best/       the release of best.pt, if rows are held out
    ├── dropped_files.csv   unusable files, and rows that could not be read in training
    ├── folds/              of a classifier: a folder per fold, with checkpoints, release and predictions
    └── results.json        of a classifier: the numbers of all folds
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch

from avssl.config import Config, load_run_config, to_yaml
from avssl.core import distributed
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, is_url, read_manifest
from avssl.core.tables import MAX_TABLE_BYTES, parse_table, write_table
from avssl.core.user_files import read_bytes
from avssl.core.whole_file import is_unfinished, write_json, write_text
from avssl.data.ledger import Failure, failures_table
from avssl.engine import environment_report, set_threads
from avssl.media.backends import resolve_backend

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
    """A run directory that must not be written, or a run that cannot be continued."""


class RunDirectory:
    """Paths and files of one run.

    Args:
        path: The directory, created by :meth:`claim`.
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
        """Check that :meth:`claim` may write here.

        Raises:
            RunDirectoryError: If the directory holds a run and ``overwrite`` is False, or holds other files.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunDirectoryError(f"{self.path}: is a file; name a directory with --out.")
        foreign = [name for name in self._there() if name not in _OURS and not is_unfinished(name)]
        if foreign:
            raise RunDirectoryError(f"{self.path}: holds other files ({foreign[0]}); name a new directory with --out.")
        if self._there() and not overwrite:
            raise RunDirectoryError(
                f"{self.path}: holds a run already. Continue it with --resume {self.path}, replace it with "
                "--overwrite, or name another directory with --out."
            )

    def claim(self, overwrite: bool = False) -> None:
        """Create the directory; with ``overwrite``, remove the files of an earlier run.

        Raises:
            RunDirectoryError: As in :meth:`check_free`.
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
        if not self.config_file.exists():
            raise RunDirectoryError(f"{self.path}: no run to continue here (no config.yaml).")
        return load_run_config(self.path, root)

    def write_config(self, config: Any) -> None:
        """Write every setting."""
        write_text(self.config_file, to_yaml(config))

    def record(self, config: Any, manifest: Manifest, device: torch.device) -> None:
        """Write the resolved settings and the environment, on rank 0."""
        if distributed.is_main():
            self.write_config(config)
            about = {"manifest_hash": manifest.hash(), "rows": len(manifest)}
            self.write_environment(environment_report(device) | about)

    def write_environment(self, report: Mapping[str, Any]) -> None:
        """Write what a result depends on beside the settings."""
        write_json(self.path / "environment.json", report)

    def write_rows(self, manifest: Manifest, unusable: pa.Table, held_out: Manifest | None = None) -> None:
        """Write the training rows, the files that gave no row, and the rows held out of training."""
        write_table(unusable, self._unusable)
        if held_out is not None:
            write_table(held_out.table, self._held_out)
        write_table(manifest.table, self._manifest)

    def read_rows(self, source: Path | str) -> tuple[Manifest, pa.Table]:
        """Return the training rows and the unusable files. Paths are relative to ``source``, or to its folder.

        Raises:
            RunDirectoryError: If the run was stopped before its rows were found.
        """
        if not self._manifest.exists():
            raise RunDirectoryError(
                f"{self.path}: stopped before its rows were found. Start it again with --overwrite."
            )
        return read_manifest(self._manifest, _root(source)), _read_strings(self._unusable)

    def read_held_out(self, source: Path | str) -> Manifest | None:
        """Return the rows held out of training, or None."""
        return read_manifest(self._held_out, _root(source)) if self._held_out.exists() else None

    def write_dropped(self, unusable: pa.Table, failed: Iterable[Failure]) -> None:
        """Write ``dropped_files.csv``: files without a row, then rows that failed in training."""
        write_table(pa.concat_tables([unusable, failures_table(failed)]), self.dropped_files)


def default_directory(source: str, ending: str = "") -> Path:
    """Return ``runs/videos`` for a folder ``videos``, ``runs/corpus`` for ``corpus/manifest.csv``, plus the ending."""
    path = Path(source)
    return Path("runs") / ((path.parent.name if path.name == "manifest.csv" else path.stem or "run") + ending)


def resolved(config: _Root) -> _Root:
    """Return the settings with absolute source, named backend and number of threads, which a resume must not change."""
    either: Any = config
    source = either.data.source
    source = source if is_url(source) else str(Path(source).resolve())
    data = replace(either.data, source=source, backend=resolve_backend(either.data.backend))
    result: _Root = replace(either, data=data, train=replace(either.train, threads=set_threads(either.train.threads)))
    return result


def _root(source: Path | str) -> Path | str:
    """Return the folder to which paths are relative: the source, or the folder of a manifest."""
    return source if not is_url(source) and Path(source).is_dir() else str(source).rpartition("/")[0]


def _read_strings(path: Path) -> pa.Table:
    """Read a CSV whose columns are all strings, also if they are empty."""
    return parse_table(read_bytes(path, MAX_TABLE_BYTES), str(path), {})
