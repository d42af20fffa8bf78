"""Records of outputs: which command made a file or a folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from avssl.core.checkpoint_names import local_text
from avssl.core.data_files import read_json
from avssl.core.lock import OutputError
from avssl.core.whole_file import write_json

RECORDS = ".avssl"
"""Name of the folder of records and locks, in the folder of an output."""
_DATE_SECONDS = 2.0  # some disks store dates to two seconds


@dataclass(frozen=True)
class Command:
    """A command: its verb, and everything that its output depends on.

    Example:
        >>> command = Command.of("embed", source=Path("videos"), stride_seconds=1.0)
        >>> command.arguments
        {'source': 'videos', 'stride_seconds': 1.0}
        >>> command.difference({"verb": "embed", "arguments": {"source": "videos", "stride_seconds": 2.0}})
        'with stride_seconds 2.0, but 1.0 is requested'
    """

    verb: str
    arguments: dict[str, Any]
    """Plain values."""

    @classmethod
    def of(cls, verb: str, **arguments: Any) -> Command:
        """Make a command from arguments, which become plain values: paths and dataclasses become text."""
        return cls(verb, {name: _plain(value) for name, value in arguments.items()})

    def difference(self, other: Mapping[str, Any]) -> str | None:
        """Return how a recorded command differs from this one, or None if it is the same."""
        if other.get("verb") != self.verb:
            return f"of avssl {other.get('verb')}"
        theirs = other.get("arguments", {})
        for name in {**self.arguments, **theirs}:
            ours, there = self.arguments.get(name), theirs.get(name)
            if ours != there:
                return f"with {name} {_short(there)}, but {_short(ours)} is requested"
        return None


def place(path: Path | str | None) -> str | None:
    """Return the absolute name of a file or folder that a command reads; URLs, hub ids and None are kept."""
    if path is None:
        return None
    text = local_text(path)
    return str(Path(text).resolve()) if os.path.exists(text) else text


class Record:
    """The record of one output, and the name of its lock."""

    def __init__(self, folder: Path, prefix: str) -> None:
        self.folder = folder / RECORDS
        self.path = self.folder / f"{prefix}made.json"
        self.lock = self.folder / f"{prefix}lock"

    @classmethod
    def of_folder(cls, folder: Path) -> Record:
        return cls(folder, "")

    @classmethod
    def of_file(cls, path: Path) -> Record:
        name = path.name
        if len(os.fsencode(name)) > 200:  # a name has 255 bytes at most
            name = f"{name[:40]}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
        return cls(path.parent, f"{name}.")

    def read(self) -> dict[str, Any] | None:
        try:
            content = read_json(self.path)
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) else None

    def write(self, command: Command, **more: Any) -> None:
        write_json(self.path, {"verb": command.verb, "arguments": command.arguments, **more})

    def restore(self, content: dict[str, Any] | None) -> None:
        if content is None:
            self.path.unlink(missing_ok=True)
        else:
            write_json(self.path, content)

    def tidy(self) -> None:
        with suppress(OSError):
            self.folder.rmdir()

    def of_present_file(self, stamp: list[float] | None) -> dict[str, Any] | None:
        """Return the record of the file as it is; that of the previous file if a kill came before the new one."""
        made = self.read()
        previous = made.get("previous") if made is not None else None
        if isinstance(previous, dict) and stamp is not None and is_same(previous.get("stamp"), stamp):
            record: dict[str, Any] | None = previous.get("record")
            return record
        return made and {name: value for name, value in made.items() if name != "previous"}

    def check_file(self, path: Path, named: Path, command: Command) -> None:
        """Raise OutputError if the file exists, unless this command made it and nobody changed it since."""
        now = stamp_of(path)
        if now is None:
            return
        made = self.of_present_file(now)
        advice = "Replace it with --overwrite, or name another file."
        if made is None:
            raise OutputError(f"{named}: exists already. {advice}")
        if made.get("stamp") is not None and not is_same(made["stamp"], now):
            raise OutputError(f"{named}: exists already, and was changed since avssl made it. {advice}")
        difference = command.difference(made)
        if difference is not None:
            raise OutputError(f"{named}: exists already, {difference}. {advice}")


def stamp_of(path: Path) -> list[float] | None:
    """Return size and date of a file, None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime]


def is_same(one: Any, other: list[float] | None) -> bool:
    """Return True if two results of :func:`stamp_of` are those of one file."""
    if not isinstance(one, list) or len(one) != 2 or other is None:
        return False
    return bool(one[0] == other[0] and abs(one[1] - other[1]) <= _DATE_SECONDS)


def _plain(value: Any) -> Any:
    if hasattr(value, "__dataclass_fields__"):
        value = asdict(value)
    return json.loads(json.dumps(value, default=str))


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
