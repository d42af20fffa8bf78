"""Training state on disk: one file a checkpoint, whole or not there.

A file is written under a temporary name, flushed to the disk and renamed, so a kill or a power cut
at any moment leaves the previous checkpoint and never half of a new one. It holds tensors and plain
containers alone and is read with ``weights_only=True``: loading somebody's checkpoint runs none of
their code.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from avssl.core import distributed
from avssl.core.errors import InputError, RunError
from avssl.core.whole_file import whole_file

FORMAT_VERSION = 2

_Result = TypeVar("_Result")

_NAME = re.compile(r"step-(\d{9})\.pt")


class CheckpointError(RunError):
    """A checkpoint that cannot be used: which file, why, and what to do."""


class Checkpointer:
    """Writes, finds and prunes the checkpoints of one run. Only rank 0 touches the disk.

    Args:
        folder: Where the files are; made with the first one.
        keep_last: Newest files to keep, >= 1; two, so that a damaged one has a predecessor.

    Example:
        >>> checkpointer = Checkpointer("runs/first/checkpoints")
        >>> checkpointer.save(1000, {"task": task.state_dict()})
        >>> state = checkpointer.load_latest()
    """

    def __init__(self, folder: Path | str, keep_last: int = 2) -> None:
        if keep_last < 1:
            raise InputError(f"keep_last ({keep_last}) must be at least 1.")
        self.folder = Path(folder)
        self.keep_last = keep_last

    def path(self, step: int) -> Path:
        """The file of a step, whether it exists or not."""
        return self.folder / f"step-{step:09d}.pt"

    def files(self) -> list[Path]:
        """The checkpoints there are, oldest first. Unfinished ones have another name."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def latest(self) -> Path | None:
        """The newest checkpoint whose bytes are whole, or None when there is none at all.

        A damaged one is passed over with a warning that names it.

        Raises:
            CheckpointError: If there are checkpoints and all are damaged.
        """
        return self._newest(_checked)

    def load_latest(self) -> dict[str, Any] | None:
        """The state in the newest checkpoint that can be read, on the CPU; None and errors as :meth:`latest`."""
        return self._newest(load_checkpoint)

    def _newest(self, read: Callable[[Path], _Result]) -> _Result | None:
        errors = []
        for path in reversed(self.files()):
            try:
                return read(path)
            except CheckpointError as error:
                errors.append(str(error))
                warnings.warn(f"{error} Trying the checkpoint before it.", stacklevel=3)
        if errors:
            raise CheckpointError(
                "no checkpoint can be read:\n  " + "\n  ".join(errors) + f"\nRemove {self.folder} to start over."
            )
        return None

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Writes the checkpoint of a step and removes the oldest ones; every rank must call it.

        Args:
            step: Steps made so far.
            state: Tensors, numbers, strings, None, and dicts, lists and tuples of them.

        Returns:
            The file, which is on the disk when this returns, on every rank.

        Raises:
            TypeError: If ``state`` holds anything else, naming where.
            OSError: If it cannot be written, as on a full disk; the checkpoints there were are untouched.
        """
        path = self.path(step)
        if distributed.is_main():
            content = {"format_version": FORMAT_VERSION, "step": step, **state}
            _refuse_objects(content, "state")
            self._write(content, path)
            for old in self.files()[: -self.keep_last]:
                old.unlink()
        distributed.barrier()
        return path

    def save_best(self, step: int, state: Mapping[str, Any]) -> Path:
        """Writes ``best.pt``, which is kept beside the others, whatever their age; every rank must call it.

        Args and errors as for :meth:`save`.
        """
        if distributed.is_main():
            content = {"format_version": FORMAT_VERSION, "step": step, **state}
            _refuse_objects(content, "state")
            self._write(content, self.best)
        distributed.barrier()
        return self.best

    @property
    def best(self) -> Path:
        """The file of the best weights, whether it exists or not."""
        return self.folder / "best.pt"

    def _write(self, content: dict[str, Any], path: Path) -> None:
        for left_by_a_kill in self.folder.glob("*tmp"):
            left_by_a_kill.unlink(missing_ok=True)
        with whole_file(path, durable=True) as temporary, temporary.open("wb") as file:
            torch.save(content, file)


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """The state in one checkpoint file, on the CPU.

    Raises:
        CheckpointError: If it is missing, damaged, or of another format version.
    """
    path = _checked(Path(path))
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds; each means that the file is not one of ours
        raise CheckpointError(f"{path} is no checkpoint of avssl: {error}") from error
    version = state.get("format_version") if isinstance(state, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: checkpoint format {version}, but this avssl reads format {FORMAT_VERSION}. "
            "Continue it with the version of avssl that wrote it (see environment.json)."
        )
    return state


def _checked(path: Path) -> Path:
    """The path, once every byte agrees with its checksum: torch.load itself does not look."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint.")
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except Exception as error:  # zipfile raises half a dozen kinds on damaged headers
        raise CheckpointError(f"{path} is damaged: {error} ({path.stat().st_size} bytes).") from error
    if bad is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its part {bad} is wrong.")
    return path


def _refuse_objects(value: Any, where: str) -> None:
    """Finds at saving what ``weights_only=True`` would refuse at loading, days later."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) not in (str, int, float, bool):
                raise TypeError(f"{where} has a key of type {type(key).__name__}; a checkpoint holds plain values.")
            _refuse_objects(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _refuse_objects(item, f"{where}[{index}]")
    elif not isinstance(value, Tensor) and type(value) not in (int, float, str, bool, type(None)):
        raise TypeError(
            f"{where} is a {type(value).__name__}; a checkpoint holds tensors, numbers, strings and None. "
            "Convert it in state_dict()."
        )
