"""Checkpoints of sharded networks: a folder in which each rank has written its own parts, in the background.

::

    step-000000500/
    ├── state.pt                  all but the sharded tensors, each of which has a note in its place
    ├── shard-00001-….safetensors the parts of rank 0, and so on
    └── shards.json               the checksum of every shard

Built on ``torch.distributed.checkpoint`` (DCP). Its own format keeps a pickle (``.metadata``), which would run code of
whoever wrote it. Here DCP writes safetensors, and the rest is read with ``weights_only=True``: nothing in a checkpoint
is run, whoever wrote it. The folder has an unfinished name until all ranks have written and flushed their files; then
rank 0 renames it. A kill at any time leaves the previous checkpoint, and nothing that looks like a new one.

Any number of ranks reads it, one too: each takes the rows that it needs.
"""

from __future__ import annotations

import io
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from avssl.core import distributed
from avssl.core.data_files import read_json, torch_file
from avssl.core.sharded import is_sharded
from avssl.core.user_files import open_regular, regular_file
from avssl.core.whole_file import flush, names_full_disk, unfinished_name, write_json
from avssl.engine.sharding import placement_of

if TYPE_CHECKING:  # their import takes a second, which a run without shards need not wait for
    from torch.distributed.device_mesh import DeviceMesh

STATE, SHARDS = "state.pt", "shards.json"
_NOTE = "sharded tensor"
_CHUNK = 2**22


class ShardedWriter:
    """Writes folders of checkpoints while training goes on, one at a time. Every rank must make and start it."""

    def __init__(self) -> None:
        # A group of its own: its operations come from another thread, and must not meet those of the training.
        self._group = distributed.new_host_group()
        self._pending: tuple[Path, Path, Any] | None = None  # with a future

    def start(self, folder: Path, content: Mapping[str, Any], after: Callable[[], None]) -> None:
        """Copy the content to the CPU, and start to write it, after :meth:`wait`.

        Args:
            folder: Its name once it is complete.
            content: Plain values and tensors, some of them sharded.
            after: Called on rank 0 when the folder is complete.
        """
        from torch.distributed.checkpoint import async_save

        assert self._pending is None, "one at a time"
        temporary = Path(distributed.broadcast_object(str(unfinished_name(folder))))
        shards: dict[str, Tensor] = {}
        state = io.BytesIO()
        noted = _noted(content, (), shards)
        if distributed.is_main():
            torch.save(noted, state)  # a copy, as training changes the tensors
            with names_full_disk(folder):
                temporary.mkdir(parents=True)
        distributed.barrier()

        def commit(checksums: dict[str, str]) -> None:
            with names_full_disk(folder):
                (temporary / STATE).write_bytes(state.getbuffer())
                write_json(temporary / SHARDS, checksums)
                for written in (temporary / STATE, temporary / SHARDS, temporary):
                    flush(written)
            temporary.rename(folder)
            flush(folder.parent)
            after()

        writer = _writer(temporary, commit)
        self._pending = (folder, temporary, async_save(shards, storage_writer=writer, process_group=self._group))

    def wait(self) -> None:
        """Wait until the last folder is complete.

        Raises:
            OSError: If it could not be written, as on a full disk. Earlier checkpoints are kept.
        """
        if self._pending is None:
            return
        (folder, temporary, written), self._pending = self._pending, None
        from torch.distributed.checkpoint.api import CheckpointException

        try:
            written.result()
        except (Exception, CheckpointException) as error:  # DCP wraps the errors of all ranks in one of its own
            if distributed.is_main():
                shutil.rmtree(temporary, ignore_errors=True)
            causes = [cause for cause, _ in getattr(error, "failures", {}).values()]
            cause = causes[0] if causes else error
            number = getattr(cause, "errno", None) or 5
            raise OSError(number, f"the checkpoint could not be written ({cause})", os.fspath(folder)) from error


def _noted(value: Any, path: tuple[str, ...], shards: dict[str, Tensor]) -> Any:
    """Return nested containers with a note in the place of each sharded tensor, which is added to ``shards``."""
    if isinstance(value, Tensor):
        if not is_sharded(value):
            return value
        name = ".".join(path)
        shards[name] = value.detach()
        return {_NOTE: name}
    if isinstance(value, Mapping):
        return {key: _noted(inner, (*path, str(key)), shards) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_noted(inner, (*path, str(number)), shards) for number, inner in enumerate(value))
    return value


def _writer(folder: Path, commit: Callable[[dict[str, str]], None]) -> Any:
    """Return DCP's writer of safetensors, which checks what it wrote, and commits when all ranks are done."""
    from torch.distributed.checkpoint import HuggingFaceStorageWriter
    from torch.futures import Future as Written

    class Writer(HuggingFaceStorageWriter):
        def write_data(self, plan: Any, planner: Any) -> Any:
            results = super().write_data(plan, planner).value()
            names = {Path(result.storage_data.relative_path).name for result in results}
            checksums = {name: checksum(folder / name) for name in names}
            done: Any = Written()
            done.set_result([replace(result, storage_data=checksums) for result in results])
            return done

        def finish(self, metadata: Any, results: Any) -> None:  # of rank 0, with the results of all
            commit({name: crc for of_rank in results for each in of_rank for name, crc in each.storage_data.items()})

    return Writer(str(folder), save_distributed=True)


def checksum(file: Path) -> str:
    """Return the CRC-32 of a file."""
    value = 0
    with open_regular(file) as stream:
        while chunk := stream.read(_CHUNK):
            value = zlib.crc32(chunk, value)
    return f"{value:08x}"


def check_shards(folder: Path) -> None:
    """Raise ValueError or OSError if a shard is missing or damaged."""
    checksums = read_json(folder / SHARDS)
    for name, expected in checksums.items():
        if Path(name).name != name:
            raise ValueError(f"{SHARDS} names {name!r}, which is not in the folder")
        if checksum(folder / name) != expected:
            raise ValueError(f"the checksum of {name} is wrong")
    if others := {path.name for path in folder.glob("*.safetensors")} - checksums.keys():
        raise ValueError(f"{min(others)} is not part of it")


def read_sharded(folder: Path, mesh: DeviceMesh | None) -> dict[str, Any]:
    """Return the content of a folder: with ``mesh`` this rank's parts of the sharded tensors, else whole ones.

    Raises:
        ValueError: If the files do not hold every part of every tensor once.
        Exception: Others of torch and safetensors, for damaged files.
    """
    from torch.distributed.checkpoint import HuggingFaceStorageReader, load
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    for file in folder.glob("*.safetensors"):
        regular_file(file)
    stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for name, about in stored.items():
        assert isinstance(about, TensorStorageMetadata), "safetensors hold nothing else"
        if sum(chunk.sizes.numel() for chunk in about.chunks) != about.size.numel():
            raise ValueError(f"parts of {name} are missing")
        tensors[name] = _empty(about.size, about.properties.dtype, mesh)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)  # one process reads it too
            load(tensors, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    except CheckpointException as error:  # not an Exception
        raise ValueError(str(error)) from error
    state: Any = torch.load(torch_file(folder / STATE), map_location="cpu", weights_only=True)
    filled: dict[str, Any] = _filled(state, tensors)
    return filled


def _empty(shape: torch.Size, dtype: torch.dtype, mesh: DeviceMesh | None) -> Tensor:
    if mesh is None:
        return torch.empty(shape, dtype=dtype)
    from torch.distributed.tensor import zeros

    parts: Tensor = zeros(shape, dtype=dtype, device_mesh=mesh, placements=[placement_of(shape, mesh.size())])
    return parts


def _filled(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return nested containers with the tensor of each note in its place."""
    if isinstance(value, Mapping):
        if set(value) == {_NOTE}:
            return tensors[value[_NOTE]]
        return {key: _filled(inner, tensors) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_filled(inner, tensors) for inner in value)
    return value


def remove_folder(folder: Path) -> None:
    """Remove a checkpoint; a kill in between leaves nothing that looks like one."""
    gone = unfinished_name(folder)
    folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
