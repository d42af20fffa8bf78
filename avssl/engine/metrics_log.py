"""The numbers of a run: one JSON object per line in metrics.jsonl, and the same in TensorBoard.

Only rank 0 writes. A resumed run cuts both back to the step of its checkpoint, so an interrupted run
leaves the same file as an uninterrupted one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from avssl.core import distributed
from avssl.core.errors import InputError
from avssl.core.user_files import read_text
from avssl.core.whole_file import names_full_disk, whole_file

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FILE_NAME = "metrics.jsonl"
_MAX_BYTES = 2**31


class MetricsLog:
    """Appends to ``metrics.jsonl`` and ``tensorboard/`` in a run directory.

    No file is opened before the first record.

    Args:
        folder: The run directory, created if missing.
        tensorboard: Write TensorBoard files too.
    """

    def __init__(self, folder: Path | str, *, tensorboard: bool = True) -> None:
        self.folder = Path(folder)
        self.path = self.folder / FILE_NAME
        self._tensorboard = tensorboard
        self._purge_step: int | None = None
        self._file: TextIO | None = None
        self._writer: SummaryWriter | None = None

    def write(self, record: Mapping[str, Any]) -> None:
        """Append a record with ``step``; JSON gets NaN and infinity as null, TensorBoard only finite numbers."""
        if "step" not in record:
            raise InputError(f'a record needs "step", got {sorted(record)}.')
        if not distributed.is_main():
            return
        self._open()
        assert self._file is not None
        with names_full_disk(self.path):
            self._file.write(json.dumps({k: _json_value(v) for k, v in record.items()}, allow_nan=False) + "\n")
            self._file.flush()
        if self._writer is not None:
            with names_full_disk(self.folder / "tensorboard"):
                for name, value in record.items():
                    if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                        self._writer.add_scalar(name, value, record["step"])

    def truncate_after(self, step: int) -> None:
        """Remove the records of later steps, and a last line that a kill left incomplete."""
        self.close()
        self._purge_step = step + 1
        if not distributed.is_main() or not self.path.exists():
            return
        kept = [json.dumps(r) + "\n" for r in read_metrics(self.path) if r["step"] <= step]
        with whole_file(self.path, durable=True) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

    def close(self) -> None:
        """Close the files; a later :meth:`write` opens them again."""
        file, self._file = self._file, None
        writer, self._writer = self._writer, None
        if file is not None:
            with names_full_disk(self.path):  # closing writes again what a full disk did not take
                file.close()
        if writer is not None:
            with names_full_disk(self.folder / "tensorboard"):
                writer.close()

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _open(self) -> None:
        if self._file is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("a", encoding="utf-8")
        if self._tensorboard:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            # TensorBoard hides events that a killed run left for steps from purge_step on.
            self._writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self._purge_step)
            self._purge_step = None


def read_metrics(path: Path | str) -> list[dict[str, Any]]:
    """Return the records of a ``metrics.jsonl``, oldest first.

    Args:
        path: The file, or the run directory that holds it.

    Raises:
        ValueError: If a line is not JSON. A last line without a newline, which a killed run leaves, is ignored.
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
