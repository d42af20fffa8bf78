"""The ledger of rows that could not be read: each is counted once, and their number is limited.

A bad file is not replaced by a random one or by zeros. It is counted by reason, written to
``dropped_files.csv`` and not tried again; a run that loses too many files stops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa

from avssl.core.errors import InputError, RunError
from avssl.core.manifest import Manifest
from avssl.core.names import printable
from avssl.core.tables import write_table
from avssl.media import MediaError


class TooManyBadFiles(RunError):  # noqa: N818 - the name is plain
    """More files failed than allowed; the message counts them by reason and shows the first.

    Example:
        >>> ledger = Ledger(num_rows=10, max_bad_fraction=0.1)
        >>> text = "no audio stream"
        >>> ledger.add(Failure(row, f"{row}.mp4", f"{row}.mp4", "audio", "no_audio", text) for row in (3, 7))
        Traceback (most recent call last):
            ...
        avssl.data.ledger.TooManyBadFiles: 2 of 10 rows could not be read, more than the allowed fraction of 0.1...
    """


@dataclass(frozen=True)
class Failure:
    """One row that could not be read. Plain values, so that it passes from workers and into checkpoints.

    Example:
        >>> manifest = avssl.Manifest.from_columns({"id": ["lost"], "path": ["lost.mp4"]}, "corpus")
        >>> try:
        ...     ClipDataset(manifest, ClipSampling()).read(row=0, epoch=0)
        ... except avssl.MediaError as error:
        ...     failure = Failure.of(manifest, 0, error)
        >>> failure.id, failure.stream, failure.reason
        ('lost', 'container', 'unreadable')
    """

    row: int
    """Position in the manifest."""
    id: str
    """The manifest id."""
    path: str
    """The media file, relative to the manifest's root."""
    stream: str
    """"container", "video" or "audio"."""
    reason: str
    """Reason of the MediaError."""
    message: str
    """Message of the error."""

    @classmethod
    def of(cls, manifest: Manifest, row: int, error: MediaError) -> Failure:
        """Return the failure of a row of a manifest, from the error that was raised while it was read."""
        path = str(manifest.value(row, "path"))
        return cls(row, str(manifest.value(row, "id")), path, error.stream, error.reason, str(error))


def failures_table(failures: Iterable[Failure]) -> pa.Table:
    """Return the columns of ``dropped_files.csv``, all strings, sorted by row."""
    rows = sorted(failures, key=lambda failure: failure.row)
    names = [f.name for f in fields(Failure) if f.name != "row"]
    return pa.table({name: pa.array([getattr(row, name) for row in rows], pa.string()) for name in names})


class Ledger:
    """The bad rows of one dataset, in the order they were found.

    Args:
        num_rows: Rows of the manifest.
        max_bad_fraction: Largest fraction of them that may fail, in [0, 1].

    Raises:
        ValueError: If the fraction is outside [0, 1].

    Example:
        >>> ledger = Ledger(num_rows=100, max_bad_fraction=0.1)
        >>> ledger.add([Failure(7, "talk.mp4", "talk.mp4", "audio", "no_audio", "talk.mp4: no audio stream.")])
        >>> len(ledger), 7 in ledger, ledger.counts()
        (1, True, {'no_audio': 1})
    """

    def __init__(self, num_rows: int, max_bad_fraction: float) -> None:
        if not 0 <= max_bad_fraction <= 1:
            raise InputError(f"max_bad_fraction ({max_bad_fraction}) must lie in [0, 1].")
        self.num_rows = num_rows
        self.max_bad_fraction = max_bad_fraction
        self._failures: dict[int, Failure] = {}

    def __len__(self) -> int:
        return len(self._failures)

    def __contains__(self, row: int) -> bool:
        return row in self._failures

    def __iter__(self) -> Iterator[Failure]:
        return iter(self._failures.values())

    def add(self, failures: Iterable[Failure]) -> None:
        """Add failures; a row that is known keeps its first reason.

        Raises:
            TooManyBadFiles: If more than the allowed fraction has failed.
        """
        for failure in failures:
            self._failures.setdefault(failure.row, failure)
        if len(self) > self.max_bad_fraction * self.num_rows:
            raise TooManyBadFiles(
                f"{len(self)} of {self.num_rows} rows could not be read, more than the allowed fraction of "
                f"{self.max_bad_fraction:g} (data.max_bad_fraction).\n{self.summary()}\n"
                "Repair or remove these files, check the manifest's root, or allow a larger fraction."
            )

    def summary(self, num_examples: int = 3) -> str:
        """Return counts by reason, most frequent first, each with its first examples; empty without failures."""
        lines = []
        for reason, count in self.counts().items():
            lines.append(f"  {reason}: {count}")
            examples = [failure for failure in self if failure.reason == reason][:num_examples]
            lines += [f"    {printable(failure.id)}: {failure.message}" for failure in examples]
        return "\n".join(lines)

    def counts(self) -> dict[str, int]:
        """Return the number of rows by reason, most frequent first."""
        return dict(Counter(failure.reason for failure in self).most_common())

    def write(self, path: Path | str) -> None:
        """Write ``dropped_files.csv``, sorted by row; only a header if nothing failed."""
        write_table(failures_table(self), path)

    def forget_from(self, number: int) -> None:
        """Forget all failures but the first ``number`` that were found."""
        self._failures = dict(list(self._failures.items())[:number])

    def state_dict(self, start: int = 0, stop: int | None = None) -> dict[str, Any]:
        """Return plain values for a checkpoint, of the failures found from number ``start`` to ``stop``."""
        return {"failures": [asdict(failure) for failure in list(self)[start:stop]]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace all failures by those of a checkpoint."""
        self._failures = {values["row"]: Failure(**values) for values in state["failures"]}
