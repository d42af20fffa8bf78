"""Training state on disk: one file per checkpoint, or a folder of sharded networks, written atomically.

A kill or a power cut leaves the previous checkpoint, never half of a new one. A checkpoint holds only
tensors and plain containers and is read with ``weights_only=True``, so loading one runs no code from it.
"""

from __future__ import annotations

import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from avssl.core import distributed
from avssl.core.data_files import torch_file
from avssl.core.errors import InputError, RunError
from avssl.core.user_files import FileError, open_regular
from avssl.core.whole_file import is_unfinished, whole_file
from avssl.engine.frozen import FrozenWeights, with_frozen
from avssl.engine.sharded_checkpoint import STATE, ShardedWriter, check_shards, read_sharded, remove_folder

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

FORMAT_VERSION = 3

_Result = TypeVar("_Result")

_NAME = re.compile(r"step-(\d{9})(\.pt)?")


def step_of(path: Path) -> int:
    """Return the step of a checkpoint from its name, ``step-NUMBER.pt`` or that of a folder, ``step-NUMBER``.

    Raises:
        ValueError: If the name has no number there.

    Example:
        >>> from pathlib import Path
        >>> step_of(Path("checkpoints/step-000001200.pt"))
        1200
    """
    return int(path.stem.rpartition("-")[2])


def checkpoints_in(run: Path) -> list[Path]:
    """Return all checkpoints of the folds of a run, in no order."""
    return [path for path in run.rglob("step-*") if _NAME.fullmatch(path.name)]


class CheckpointError(RunError):
    """A checkpoint that cannot be used. The message names the file, the reason and what to do.

    Example:
        >>> load_checkpoint("checkpoints/step-000000500.pt")
        Traceback (most recent call last):
            ...
        avssl.engine.checkpoint.CheckpointError: checkpoints/step-000000500.pt: no such checkpoint.
    """


class CheckpointFormatError(CheckpointError):
    """A checkpoint of another format version, which is not damaged."""


class Checkpointer:
    """Writes, finds and prunes the checkpoints of one run. Only rank 0 writes, or every rank its shards.

    Args:
        folder: Folder of the files, created with the first one.
        keep_last: Number of newest files to keep, >= 1. With two, a damaged file has a predecessor.
        model: Model whose parameters that are not trained are kept once for all checkpoints; None for none.
        mesh: Ranks that share sharded networks, which are then saved in folders, in the background. Every rank must
            make the checkpointer.

    Example:
        >>> checkpointer = Checkpointer("checkpoints", keep_last=1)
        >>> for step in (1000, 2000):
        ...     path = checkpointer.save(step, {"task": torch.nn.Linear(2, 2).state_dict()})
        >>> [path.name for path in checkpointer.files()]
        ['step-000002000.pt']
        >>> checkpointer.load_latest()["step"]
        2000
    """

    def __init__(
        self,
        folder: Path | str,
        keep_last: int = 2,
        model: nn.Module | None = None,
        mesh: DeviceMesh | None = None,
    ) -> None:
        if keep_last < 1:
            raise InputError(f"keep_last ({keep_last}) must be at least 1.")
        self.folder = Path(folder)
        self.keep_last = keep_last
        self.frozen = None if model is None or mesh is not None else FrozenWeights(model, self.folder)
        self._mesh = mesh
        self._writer = None if mesh is None else ShardedWriter()

    def path(self, step: int) -> Path:
        """Return the file or folder of a step, whether or not it exists."""
        return self.folder / f"step-{step:09d}{'.pt' if self._mesh is None else ''}"

    def files(self) -> list[Path]:
        """Return the existing checkpoints, files and folders, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))

    def latest(self) -> Path | None:
        """Return the newest checkpoint that is not damaged, or None if there are no checkpoints.

        A warning names each damaged file that is skipped.

        Raises:
            CheckpointError: If all checkpoints are damaged.
        """
        return self._newest(_checked)

    def load_latest(self) -> dict[str, Any] | None:
        """Return the state in the newest readable checkpoint, on the CPU. None and errors are as in :meth:`latest`.

        With ``mesh``, tensors of a folder are this rank's parts; those of a file are whole.
        """
        return self._newest(partial(load_checkpoint, mesh=self._mesh))

    def _newest(self, read: Callable[[Path], _Result]) -> _Result | None:
        errors = []
        for path in reversed(self.files()):
            try:
                return read(path)
            except CheckpointFormatError:
                raise  # earlier checkpoints have the same format
            except CheckpointError as error:
                errors.append(str(error))
                warnings.warn(f"{error} Trying the previous checkpoint.", stacklevel=3)
        if errors:
            raise CheckpointError(
                "no checkpoint can be read:\n  " + "\n  ".join(errors) + f"\nRemove {self.folder} to start over."
            )
        return None

    def save(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write the checkpoint of a step and remove the oldest ones. Every rank must call it.

        Args:
            step: Steps done so far.
            state: Tensors, numbers, strings, None, and dicts, lists and tuples of them.

        Returns:
            The file, which is complete on every rank; with ``mesh`` the folder, which will be after :meth:`wait`.

        Raises:
            TypeError: If ``state`` holds anything else; names the key.
            OSError: If it cannot be written, as on a full disk. Earlier checkpoints are kept.
        """
        path, content = self.path(step), {"format_version": FORMAT_VERSION, "step": step, **state}
        if self._writer is not None:
            _check_plain(content, "state")
            self._writer.wait()
            if distributed.is_main():
                self._remove_unfinished()
            self._writer.start(path, content, self._prune)
            return path
        if distributed.is_main():
            self._write(content, path)
            self._prune()
        distributed.barrier()
        return path

    def wait(self) -> None:
        """Wait until the last checkpoint is complete on every rank.

        Raises:
            OSError: If it could not be written. Earlier checkpoints are kept.
        """
        if self._writer is not None:
            self._writer.wait()

    def _prune(self) -> None:
        for old in self.files()[: -self.keep_last]:
            if old.is_dir():
                remove_folder(old)
            else:
                old.unlink()

    def _remove_unfinished(self) -> None:
        """Remove what a kill has left."""
        if self.folder.is_dir():
            for left in filter(is_unfinished, os.listdir(self.folder)):
                if (self.folder / left).is_dir():
                    shutil.rmtree(self.folder / left, ignore_errors=True)
                else:
                    (self.folder / left).unlink(missing_ok=True)

    def save_best(self, step: int, state: Mapping[str, Any]) -> Path:
        """Write ``best.pt``, which is never pruned. Arguments and errors are as in :meth:`save`."""
        self.wait()  # a checkpoint that is being written must not be taken for an unfinished one
        if distributed.is_main():
            content = {"format_version": FORMAT_VERSION, "step": step, **state}
            self._write(content, self.best)
        distributed.barrier()
        return self.best

    @property
    def best(self) -> Path:
        """Path of the best weights, whether or not they exist."""
        return self.folder / "best.pt"

    def _write(self, content: dict[str, Any], path: Path) -> None:
        _check_plain(content, "state")
        content = content if self.frozen is None else self.frozen.left_out(content)
        self._remove_unfinished()
        with whole_file(path, durable=True, num_bytes=_num_bytes(content)) as temporary, temporary.open("wb") as file:
            torch.save(content, file)


def load_checkpoint(path: Path | str, mesh: DeviceMesh | None = None) -> dict[str, Any]:
    """Return the state in a checkpoint, on the CPU.

    Args:
        path: A file, or a folder of sharded networks.
        mesh: Ranks, each of which gets its parts of the sharded tensors of a folder on its device; None for whole ones.

    Raises:
        CheckpointError: If the file is missing, damaged, or has another format version.

    Example:
        >>> path = Checkpointer("checkpoints").save(1200, {"task": {"weight": torch.ones(2)}})
        >>> state = load_checkpoint(path)
        >>> state["step"], state["task"]["weight"]
        (1200, tensor([1., 1.]))
    """
    path = _checked(Path(path))
    try:
        if path.is_dir():
            state: Any = read_sharded(path, mesh)
        else:
            state = torch.load(torch_file(path), map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many types; each means that this is no checkpoint of avssl
        raise CheckpointError(f"{path} is not an avssl checkpoint: {error}") from error
    version = state.get("format_version") if isinstance(state, dict) else None
    if version != FORMAT_VERSION:
        raise CheckpointFormatError(
            f"{path}: checkpoint format {version}, but this avssl reads format {FORMAT_VERSION}. "
            "Continue it with the version of avssl that wrote it (git_commit in environment.json), or start a new run."
        )
    try:
        return with_frozen(state, path.parent)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _checked(path: Path) -> Path:
    """Return the path if the checksums of its files are right; torch.load does not compare them."""
    is_folder = path.is_dir()
    try:
        with open_regular(torch_file(path / STATE if is_folder else path)) as file, zipfile.ZipFile(file) as archive:
            bad = archive.testzip()
        if is_folder:
            check_shards(path)
    except FileNotFoundError as error:
        missing = f"{path} is damaged: {error}" if is_folder else f"{path}: no such checkpoint."
        raise CheckpointError(missing) from error
    except FileError as error:
        raise CheckpointError(str(error)) from error
    except Exception as error:  # zipfile raises many types on damaged headers
        raise CheckpointError(f"{path} is damaged: {error} ({path.stat().st_size} bytes).") from error
    if bad is not None:
        raise CheckpointError(f"{path} is damaged: the checksum of its part {bad} is wrong.")
    return path


def _num_bytes(value: Any) -> int:
    """Return the bytes of all tensors in a checkpoint."""
    if isinstance(value, Tensor):
        return value.nbytes
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(map(_num_bytes, items))


def _check_plain(value: Any, where: str) -> None:
    """Raise ``TypeError``, while saving, for what ``weights_only=True`` could not load days later."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if type(key) not in (str, int, float, bool):
                raise TypeError(f"{where} has a key of type {type(key).__name__}; a checkpoint holds plain values.")
            _check_plain(item, f"{where}[{key!r}]")
    elif type(value) in (list, tuple):
        for index, item in enumerate(value):
            _check_plain(item, f"{where}[{index}]")
    elif not isinstance(value, Tensor) and type(value) not in (int, float, str, bool, type(None)):
        raise TypeError(
            f"{where} is a {type(value).__name__}; a checkpoint holds tensors, numbers, strings and None. "
            "Convert it in state_dict()."
        )
