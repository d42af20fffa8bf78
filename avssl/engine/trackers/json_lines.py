"""metrics.jsonl: one JSON object per line for each record of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from avssl.core.errors import InputError
from avssl.core.user_files import read_text
from avssl.core.whole_file import names_full_disk, whole_file

FILE_NAME = "metrics.jsonl"
_MAX_BYTES = 2**31


class JsonLines:
    """Appends to ``metrics.jsonl`` in a run directory; no file is opened before the first record.

    A resumed run cuts it back to the step of its checkpoint, so an interrupted run leaves the same file as an
    uninterrupted one.

    Args:
        folder: The run directory, created if missing.
    """

    rewinds = True

    def __init__(self, folder: Path | str) -> None:
        self.path = Path(folder) / FILE_NAME
        self._file: TextIO | None = None

    def start(self, step: int) -> None:
        """Remove the records of later steps, and a last line that a kill left incomplete."""
        self.finish(failed=False)
        if not self.path.exists():
            return
        kept = [json.dumps(r) + "\n" for r in read_metrics(self.path) if r["step"] <= step]
        with whole_file(self.path, durable=True) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

    def log(self, record: Mapping[str, Any]) -> None:
        """Append a record; NaN and infinity become null."""
        with names_full_disk(self.path):
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self.path.open("a", encoding="utf-8")
            self._file.write(json.dumps({k: _json_value(v) for k, v in record.items()}, allow_nan=False) + "\n")
            self._file.flush()

    def finish(self, *, failed: bool) -> None:
        """Close the file; a later :meth:`log` opens it again."""
        file, self._file = self._file, None
        if file is not None:
            with names_full_disk(self.path):  # closing writes again what a full disk did not take
                file.close()

    def last_step(self) -> int:
        """Return the step of the last record, or 0."""
        records = read_metrics(self.path) if self.path.exists() else []
        return int(records[-1]["step"]) if records else 0


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``, oldest first.

    Args:
        path: The file, or the run directory that holds it.

    Raises:
        ValueError: If a line is not JSON. A last line without a newline, which a killed run leaves, is ignored.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("metrics.jsonl").write_text('{"step": 10, "loss": 2.5}' + chr(10) + '{"step": 20, "lo')
        >>> read_metrics("metrics.jsonl")  # of a run that was killed
        [{'step': 10, 'loss': 2.5}]
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    lines = read_text(path, _MAX_BYTES).splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines.pop()
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number} is not JSON: {error}") from error
    return records


def _json_value(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
