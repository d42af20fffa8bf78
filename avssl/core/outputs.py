"""Outputs: files and folders that a command may write, and when.

One rule for all verbs: an output that exists and was not made by this same command is an error without
``--overwrite``. Nothing is replaced while a living process writes it, no input is, and of a folder only the files that
avssl made are ever removed. A record beside the output says which command made it::

    results/
    ├── page.html
    ├── .avssl/
    │   ├── page.html.made.json     the command that made page.html, with its size and date
    │   └── page.html.lock          while it is written
    └── run/                        a folder has its record inside
        └── .avssl/
            ├── made.json           the command, and patterns of all files that it makes
            └── lock
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from avssl.core.checkpoint_names import local_text
from avssl.core.lock import OutputError, is_held, locked, refuse_if_held
from avssl.core.output_records import RECORDS, Command, Record, is_same, stamp_of
from avssl.core.whole_file import (
    held_open,
    is_special,
    is_unfinished,
    remove_unfinished,
    unfinished_files,
    unfinished_files_of,
)

# ---------------------------------------------------------------- files


class ClaimedFile:
    """A file that this process alone writes; see :func:`claimed_file`."""

    def __init__(self, known: dict[str, Any] | None = None, write: Callable[..., None] | None = None) -> None:
        self.known = known
        """Details of the file that is there, if this command made it."""
        self.details: dict[str, Any] = {}
        """Plain values in the record of the new file."""
        self._write = write

    def note(self, **details: Any) -> None:
        """Keep plain values in the record of the new file; they are there before it is, whenever a kill comes."""
        self.details |= details
        if self._write is not None:
            self._write(details=self.details)


@contextmanager
def claimed_file(
    path: Path | str, command: Command, *, overwrite: bool = False, reads: Sequence[Path | str | None] = ()
) -> Iterator[ClaimedFile]:
    """Within the context, be the only process that writes a file.

    Args:
        path: The file. If it is a device or a pipe, there is nothing to protect.
        command: The command that writes it.
        overwrite: Replace a file that another command or program made.
        reads: Files that the command reads, which are never replaced.

    Raises:
        OutputError: If the file must not be written.
    """
    named, path = Path(path), Path(os.path.realpath(path))
    if is_special(path):
        with held_open(path, named):
            yield ClaimedFile()
        return
    if path.is_dir():
        raise OutputError(f"{named}: is a folder; name a file.")
    for source in reads:
        if source is not None and os.path.realpath(local_text(source)) == str(path):
            raise OutputError(f"{named}: is read by this command and would be overwritten. Name another output.")
    record = Record.of_file(path)
    if overwrite:
        _refuse_foreign_input(path, named, record, reads)
    if not overwrite:
        record.check_file(path, named, command)
    try:
        with locked(record.lock, named):
            if not overwrite:  # it may have been made while another process held the lock
                record.check_file(path, named, command)
            before = stamp_of(path)
            known = record.of_present_file(before)
            # Those of killed processes: nobody else writes the file now.
            remove_unfinished([*unfinished_files_of(path), *unfinished_files_of(record.path)])
            # A kill from here on leaves a file of this command, or the previous one with its record.
            write = partial(record.write, command, stamp=None, previous={"stamp": before, "record": known})
            write()
            is_own = before is not None and known is not None and command.difference(known) is None
            claim = ClaimedFile(known.get("details", {}) if known is not None and is_own else None, write)
            try:
                yield claim
            finally:
                after = stamp_of(path)
                if after is not None and after != before:
                    record.write(command, stamp=after, details=claim.details)
                else:
                    record.restore(known if after is not None else None)
    finally:
        record.tidy()


def _refuse_foreign_input(path: Path, named: Path, record: Record, reads: Sequence[Path | str | None]) -> None:
    """Raise OutputError for a file in a folder that the command reads, unless avssl made the file."""
    stamp = stamp_of(path)
    if stamp is None or record.of_present_file(stamp) is not None:
        return
    for source in (local_text(each) for each in reads if each):
        if os.path.isdir(source) and path.is_relative_to(os.path.realpath(source)):
            raise OutputError(
                f"{named}: lies in {source}, which this command reads, and avssl did not make it, so that it is not "
                "replaced. Name another output."
            )


@contextmanager
def claimed_files(
    paths: Sequence[Path | str | None],
    command: Command,
    *,
    overwrite: bool = False,
    reads: Sequence[Path | str | None] = (),
) -> Iterator[list[ClaimedFile]]:
    """Claim several files, as :func:`claimed_file`; None is skipped. Two of one place are an error."""
    named = [Path(path) for path in paths if path is not None]
    places = [os.path.realpath(path) for path in named if not is_special(Path(os.path.realpath(path)))]
    for path in named:
        if places.count(os.path.realpath(path)) > 1:
            raise OutputError(f"{path}: is named for two outputs of this command. Name another file for one of them.")
    with ExitStack() as held:
        yield [
            held.enter_context(claimed_file(path, command, overwrite=overwrite, reads=reads))
            for path in paths
            if path is not None
        ]


def origin(path: Path | str, command: Command) -> Literal["this", "changed", "other", "unknown"]:
    """Return whether a file was made by this command, by it and changed since, by another one, or by nobody known."""
    path = Path(os.path.realpath(path))
    stamp = stamp_of(path)
    made = Record.of_file(path).of_present_file(stamp)
    if made is None:
        return "unknown"
    if command.difference(made) is not None:
        return "other"
    return "this" if is_same(made.get("stamp"), stamp) else "changed"


# ---------------------------------------------------------------- folders


@dataclass(frozen=True)
class FolderKind:
    """A kind of folder that a verb writes."""

    noun: str
    """Name of a complete one, such as "a run"."""
    files: tuple[str, ...]
    """Patterns of all files that the verb may make, relative to the folder."""
    complete: str | None = None
    """File of a complete one, which another command replaces with ``overwrite`` only; what is there without this file
    is removed. None if the same command may always go on."""
    repeatable: bool = True
    """The same command may come again when it is complete; if False, that is an error without ``overwrite`` too."""
    advice: str = "Replace it with --overwrite, or name another folder."
    """Advice about one that is there."""
    error: type[OutputError] = OutputError
    """Class of the errors about what it holds."""


class ClaimedFolder:
    """A folder that this process alone writes; see :func:`claimed_folder`."""

    def __init__(self, path: Path, command: Command, kind: FolderKind, overwrite: bool, own_lock: Path) -> None:
        self.path, self.command, self.kind = path, command, kind
        self._overwrite, self._own_lock = overwrite, own_lock

    @property
    def is_complete(self) -> bool:
        """True if this same command made it, completely, and it is not to be replaced."""
        made = Record.of_folder(self.path).read()
        return not self._overwrite and made is not None and _is_complete(self.path, self.command, self.kind, made)

    def begin(self) -> None:
        """Remove what an earlier command left, where it is to be replaced, and write the record."""
        record = Record.of_folder(self.path)
        made = record.read() or {}
        if self._overwrite or self.kind.complete is not None:
            for lock in self.path.rglob(f"{RECORDS}/*lock"):
                if lock != self._own_lock:
                    refuse_if_held(lock, lock.parent.parent)
            remove_files(self.path, [*filter(None, [self.kind.complete]), *made.get("files", []), *self.kind.files])
        self.adopt()

    def adopt(self) -> None:
        """Write the record, without removing anything."""
        record = Record.of_folder(self.path)
        content = {"files": list(self.kind.files)}
        made = record.read()
        if made is None or self.command.difference(made) is not None or made.get("files") != content["files"]:
            record.write(self.command, **content)


@contextmanager
def claimed_folder(
    path: Path | str,
    command: Command,
    kind: FolderKind,
    *,
    overwrite: bool = False,
    resume: bool = False,
    reads: Sequence[Path | str | None] = (),
    part: tuple[int, int] = (0, 1),
) -> Iterator[ClaimedFolder]:
    """Within the context, be the only process that writes a folder. Nothing in it is changed before ``begin()``.

    Args:
        path: The folder, created if missing, and removed again after an error if nothing was written.
        command: The command that writes it.
        kind: Its files.
        overwrite: Replace what the same verb made before; never other files.
        resume: Continue what is there.
        reads: Files and folders that the command reads, which must lie elsewhere.
        part: (index, count) of the processes that write it together.

    Raises:
        OutputError: If the folder must not be written.
    """
    named, path = Path(path), Path(os.path.realpath(path))
    lock = path / RECORDS / ("lock" if part[1] == 1 else f"{part[0]}-of-{part[1]}.lock")
    refuse_if_held(lock, named)
    if not resume:
        _check_folder(path, named, command, kind, overwrite)
        for source in (local_text(each) for each in reads if each):
            if os.path.exists(source) and Path(os.path.realpath(source)).is_relative_to(path):
                raise kind.error(f"{named}: holds {source}, which this command reads. Name another folder.")
    is_new = not path.is_dir()
    try:
        with locked(lock, named):
            for other in (path / RECORDS).glob("*lock"):
                if other != lock and not other.name.endswith(f"-of-{part[1]}.lock"):
                    refuse_if_held(other, named)
            if not resume:  # another process may have finished while this one waited
                _check_folder(path, named, command, kind, overwrite)
            _tidy_unfinished(path, lock, kind)
            yield ClaimedFolder(path, command, kind, overwrite, lock)
    except BaseException:
        _tidy_folder(path, is_new)
        raise


def remove_files(folder: Path, patterns: Sequence[str]) -> None:
    """Remove the files that match the patterns, in their order, and the folders that are empty then; nothing else."""
    parents: set[Path] = set()
    for pattern in patterns:
        for path in folder.glob(pattern):
            if path.is_file() or path.is_symlink():
                path.unlink(missing_ok=True)
                parents |= set(path.relative_to(folder).parents)
    for parent in sorted((folder / name for name in parents if name.parts), key=lambda path: -len(path.parts)):
        remove_if_empty(parent)


def _check_folder(path: Path, named: Path, command: Command, kind: FolderKind, overwrite: bool) -> None:
    if not path.is_dir():
        if path.exists():
            raise kind.error(f"{named}: is a file; name a folder.")
        return
    made = Record.of_folder(path).read()
    other = next(_other_files(path, made.get("files", []) if made else []), None)
    if made is None and other is not None:
        raise kind.error(f"{named}: holds other files ({other}) that no record of avssl names. Name a new folder.")
    if made is None:
        return
    if not overwrite and _is_complete(path, command, kind, made):
        return
    if made.get("verb") != command.verb and any(_files(path)):
        raise kind.error(f"{named}: holds what avssl {made.get('verb')} made. Name another folder.")
    difference = command.difference(made)
    if overwrite or kind.complete is not None:
        if other is not None:
            raise kind.error(
                f"{named}: holds other files ({other}) that avssl did not make. Move them away, or name a new folder."
            )
        if overwrite or not (path / str(kind.complete)).exists():
            return
        raise kind.error(f"{named}: holds {kind.noun} {difference or 'already'}. {kind.advice}")
    if difference is not None and any(_files(path)):
        raise kind.error(f"{named}: holds {kind.noun} {difference}. {kind.advice}")


def _is_complete(path: Path, command: Command, kind: FolderKind, made: Mapping[str, Any]) -> bool:
    """Return True if this command made what is there, completely, and may come again."""
    if kind.complete is None or not kind.repeatable:
        return False
    return command.difference(made) is None and (path / kind.complete).exists()


def _tidy_unfinished(path: Path, own_lock: Path, kind: FolderKind) -> None:
    """Remove the unfinished files of killed processes, unless others that live write parts of the folder."""
    patterns = (*kind.files, f"{RECORDS}/{Record.of_folder(path).path.name}")
    found = [unfinished for pattern in patterns for unfinished in unfinished_files(path, pattern)]
    if not found:
        return
    for lock in path.rglob(f"{RECORDS}/*lock"):  # after the search: what a new process writes is not found
        if lock != own_lock and is_held(lock):
            return
    remove_unfinished(found)


def _files(folder: Path) -> Iterator[str]:
    """Yield the files of a folder whose names are not hidden, relative to it."""
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(here, name).relative_to(folder).as_posix()


def _other_files(folder: Path, patterns: Sequence[str]) -> Iterator[str]:
    ours: set[str] | None = None
    for name in _files(folder):
        if ours is None:  # a folder without any file, the usual case, needs no search
            ours = {path.relative_to(folder).as_posix() for pattern in patterns for path in folder.glob(pattern)}
        if name not in ours:
            yield name


def _tidy_folder(path: Path, is_new: bool) -> None:
    """Remove the record of a folder in which nothing was written, and the folder if it is new."""
    records = path / RECORDS
    if not records.is_dir() or any(_files(path)) or any(records.glob("*lock")):
        return
    Record.of_folder(path).restore(None)
    with suppress(OSError):
        records.rmdir()
        if is_new:
            path.rmdir()


def remove_if_empty(folder: Path) -> None:
    """Remove a folder that holds nothing, or only what is left of files that are gone: their records, and halves."""
    with suppress(OSError):
        for path in folder.iterdir():
            if is_unfinished(path.name):
                path.unlink()
        if [path.name for path in folder.iterdir()] == [RECORDS]:
            for record in (folder / RECORDS).glob("*made.json"):
                record.unlink()
            (folder / RECORDS).rmdir()
        folder.rmdir()
