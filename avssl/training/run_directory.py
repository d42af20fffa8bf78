"""The directory of a run: its files, and when it may be written.

::

    runs/<name>/
    ├── config.yaml         every setting, resolved: the fitted batch size, the measured precision
    ├── history.jsonl       settings that a resume changed: step, setting, old and new value
    ├── environment.json    versions, device, commit
    ├── manifest.csv        the rows of the run, relative to data.source; manifest.arrow if that is a Parquet file
    ├── held_out.csv        the monitors' gallery, if it is kept out of training
    ├── unusable_files.csv  files that gave no row, and why
    ├── metrics.jsonl       and tensorboard/; trackers.json, the ids of the run in other trackers
    ├── checkpoints/        training state, a folder each with FSDP; best.pt, the weights with the best retrieval;
    │                       frozen.safetensors, once for all of them, the weights that are not trained
    ├── weights/            the release
    ├── weights_best/       the release of best.pt, if rows are held out
    ├── dropped_files.csv   unusable files, and rows that could not be read in training
    ├── folds/              of a classifier: a folder per fold, with checkpoints, release and predictions
    └── results.json        of a classifier: the numbers of all folds
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import torch

from avssl.config import Config, load_run_config, to_yaml
from avssl.config.resumed import CHANGEABLE, changed_settings, with_settings
from avssl.core import distributed
from avssl.core.lock import OutputError
from avssl.core.manifest import Manifest, is_url, read_manifest
from avssl.core.output_records import Command
from avssl.core.outputs import ClaimedFolder, FolderKind, claimed_folder
from avssl.core.tables import MAX_TABLE_BYTES, parse_table, write_table
from avssl.core.user_files import read_bytes, read_text
from avssl.core.whole_file import write_json, write_text
from avssl.data.ledger import Failure, failures_table
from avssl.data.packed.sources import is_named, is_packed, packed_root
from avssl.engine import environment_report, set_threads
from avssl.media.backends import resolve_backend

_RELEASE = ("model.safetensors", "config.json", "README.md", "training_world.safetensors")
_TRAINING = (
    "metrics.jsonl",
    "trackers.json",
    "tensorboard/events.out.tfevents.*",
    "checkpoints/step-*.pt",
    *(f"checkpoints/{start}step-*/{name}" for start in ("", ".") for name in ("state.pt", "shard*")),
    "checkpoints/best.pt",
    "checkpoints/frozen.safetensors",
    "dropped_files.csv",
    *(f"{folder}/{name}" for folder in ("weights", "weights_best") for name in _RELEASE),
)
_FOLD = (*_TRAINING, "predictions.npz", "report.html", "report.json", "results.json")
_START = ("config.yaml", "environment.json", "manifest.csv", "manifest.arrow", "held_out.csv", "unusable_files.csv")
FILES = (*_START, "history.jsonl", *_TRAINING, "results.json", *(f"folds/fold-*/{name}" for name in _FOLD))
"""Patterns of all files of a run, which --overwrite removes."""

_MAX_HISTORY_BYTES = 2**24
_Root = TypeVar("_Root")


class RunDirectoryError(OutputError):
    """A run directory that must not be written, or a run that cannot be continued."""


class RunDirectory:
    """Paths and files of one run.

    Args:
        path: The directory, created by :meth:`claimed`.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.weights = self.path / "weights"
        self.weights_best = self.path / "weights_best"
        self.dropped_files = self.path / "dropped_files.csv"
        self.config_file = self.path / "config.yaml"
        self._history = self.path / "history.jsonl"
        self._manifest = self.path / "manifest.csv"
        self._mapped = self.path / "manifest.arrow"
        self._held_out = self.path / "held_out.csv"
        self._unusable = self.path / "unusable_files.csv"

    @contextmanager
    def claimed(
        self, verb: str, *, overwrite: bool = False, resume: bool = False, reads: Sequence[str | None] = ()
    ) -> Iterator[ClaimedFolder | None]:
        """Within the context, be the only run that writes here; yields None on ranks that write nothing.

        A run that was stopped before its config.yaml was written may be started again.

        Raises:
            RunDirectoryError: If the directory holds a run and ``overwrite`` is False, holds other files, or holds no
                run to resume.
            OutputError: If a living process writes it.
        """
        if not distributed.is_main():
            yield None
            return
        if resume:
            self._check_begun()
        advice = (
            f"Continue it with --resume {self.path}, replace it with --overwrite, or name another directory with --out."
        )
        kind = FolderKind("a run", FILES, self.config_file.name, False, advice, RunDirectoryError)
        with claimed_folder(
            self.path, Command.of(verb), kind, overwrite=overwrite, resume=resume, reads=reads
        ) as claim:
            if resume:
                claim.adopt()
            yield claim

    def _check_begun(self) -> None:
        if not self.config_file.exists():
            raise RunDirectoryError(
                f"{self.path}: no run to continue here (no config.yaml). If it was stopped while it started, start it "
                "again without --resume."
            )

    def read_config(self, root: type[_Root] = Config) -> _Root:  # type: ignore[assignment]
        """Return the settings of the run.

        Raises:
            ConfigError: If another version of avssl or another verb wrote them.
            RunDirectoryError: If there is no run.
        """
        self._check_begun()
        return load_run_config(self.path, root)

    def write_config(self, config: Any) -> None:
        """Write every setting."""
        write_text(self.config_file, to_yaml(config))

    def note_changes(self, config: Any, step: int | None, fold: str | None = None) -> dict[str, tuple[Any, Any]]:
        """Write the settings that a resume changes to config.yaml and history.jsonl; return (old, new) by name.

        Args:
            config: Settings of the resumed run.
            step: Steps done before the change; None if the run is finished.
            fold: Fold of a classifier to which the step belongs.

        Raises:
            RunDirectoryError: If the run is finished, so that a setting of its training changes nothing.
        """
        before = self.read_config(type(config))
        found = changed_settings(before, config)
        changes = {name: values for name, values in found.items() if name in CHANGEABLE and values[1] is not None}
        of_training = [name for name in changes if name.startswith(("optim.", "schedule."))]
        if step is None and of_training:
            raise RunDirectoryError(
                f"{self.path}: is finished, so another --{of_training[0].replace('_', '-')} would change nothing. "
                "Leave it out, or start a new run."
            )
        if changes and step is not None:
            text = read_text(self._history, _MAX_HISTORY_BYTES) if self._history.exists() else ""
            at: dict[str, Any] = {"step": step} | ({"fold": fold} if fold is not None else {})
            for name, (old, new) in changes.items():
                text += json.dumps({**at, "setting": name, "old": old, "new": new}) + "\n"
            write_text(self._history, text)
            self.write_config(with_settings(before, {name: new for name, (_, new) in changes.items()}))
        return changes

    def record(self, config: Any, manifest: Manifest, device: torch.device) -> None:
        """Write the resolved settings and the environment, on rank 0."""
        if distributed.is_main():
            self.write_config(config)
            about = {"manifest_hash": manifest.hash(), "rows": len(manifest)}
            self.write_environment(environment_report(device) | about)

    def write_environment(self, report: Mapping[str, Any]) -> None:
        """Write what a result depends on beside the settings."""
        write_json(self.path / "environment.json", report)

    def write_rows(
        self, manifest: Manifest, unusable: pa.Table, held_out: Manifest | None = None, *, mapped: bool = False
    ) -> None:
        """Write the training rows, the files that gave no row, and the rows held out of training.

        With ``mapped`` the training rows are a file that all processes of a machine map into their memory.
        """
        write_table(unusable, self._unusable)
        if held_out is not None:
            write_table(held_out.table, self._held_out)
        if mapped:
            manifest.write_mapped(self._mapped)
        else:
            write_table(manifest.table, self._manifest)

    def read_rows(self, source: Path | str) -> tuple[Manifest, pa.Table]:
        """Return the training rows and the unusable files. Paths are relative to ``source``, or to its folder.

        Raises:
            RunDirectoryError: If the run was stopped before its rows were found.
        """
        rows = self.rows_file()
        if rows is None:
            raise RunDirectoryError(
                f"{self.path}: stopped before its rows were found. Start it again without --resume."
            )
        return read_manifest(rows, _root(source), mapped=True), _read_strings(self._unusable)

    def rows_file(self) -> Path | None:
        """Return the file of the training rows, or None if there is none."""
        return next((path for path in (self._mapped, self._manifest) if path.is_file()), None)

    def read_held_out(self, source: Path | str) -> Manifest | None:
        """Return the rows held out of training, or None."""
        return read_manifest(self._held_out, _root(source)) if self._held_out.exists() else None

    def write_dropped(self, unusable: pa.Table, failed: Iterable[Failure]) -> None:
        """Write ``dropped_files.csv``: files without a row, then rows that failed in training."""
        write_table(pa.concat_tables([unusable, failures_table(failed)]), self.dropped_files)


def default_directory(source: str, ending: str = "") -> Path:
    """Return ``runs/videos`` for a folder ``videos``, ``runs/corpus`` for ``corpus/manifest.csv``, plus the ending.

    The name is that of the folder itself, not of a link to it or of ``..``.
    """
    if is_packed(source) and not Path(source).is_dir():  # shards-{000..010}.tar, hf:name
        words = re.findall(r"[\w-]*\w", re.sub(r"\{.*?\}|\.tar$|^hf:", "", source).rpartition("/")[2])
        return Path("runs") / (("-".join(words) or "run") + ending)
    path = Path(source.partition("://")[2].strip("/")) if is_url(source) else Path(source).resolve()
    name = path.name if path.is_dir() else re.sub(r"\.(csv|parquet)$", "", path.name, flags=re.IGNORECASE)
    if path.name.lower() in ("manifest.csv", "manifest.parquet") and not path.is_dir():
        name = path.parent.name
    return Path("runs") / ((name or "run") + ending)


def resolved(config: _Root) -> _Root:
    """Return the settings with absolute source, named backend and number of threads, which a resume must not change."""
    either: Any = config
    source = either.data.source
    source = source if is_url(source) or is_named(source) else str(Path(source).resolve())
    data = replace(either.data, source=source, backend=resolve_backend(either.data.backend))
    result: _Root = replace(either, data=data, train=replace(either.train, threads=set_threads(either.train.threads)))
    return result


def _root(source: Path | str) -> Path | str:
    """Return the folder to which paths are relative: the source, or the folder of a manifest or of archives."""
    if is_packed(source):
        return packed_root(source)
    return source if not is_url(source) and Path(source).is_dir() else str(source).rpartition("/")[0]


def _read_strings(path: Path) -> pa.Table:
    """Read a CSV whose columns are all strings, also if they are empty."""
    return parse_table(read_bytes(path, MAX_TABLE_BYTES), str(path), {})
