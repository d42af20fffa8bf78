"""Match the clips of an official annotation file with files: a manifest, and a list of missing clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import pyarrow as pa

from avssl.core.manifest import Manifest, ManifestError
from avssl.data.official.clip_files import Match


class ClipList:
    """The clips of a dataset, present and missing.

    Args:
        root: Folder that the manifest's paths are relative to.
        title: Name of the dataset, for the summary.
        expected: Split → number of clips that the authors publish, if any; "" for clips without a split.
        hint: Advice for the case that no clip is found.
    """

    def __init__(self, root: Path, title: str, expected: Mapping[str, int] | None = None, hint: str = "") -> None:
        self.root, self.title, self.expected, self._hint = root, title, expected or {}, hint
        self.missing: list[tuple[str, str, str | None, str | None, str]] = []
        """(name, a name its file could have, split, label, reason) of each missing clip."""
        self.num_repeated = 0
        """Number of repeated listings of a clip."""
        self._splits: dict[str, str | None] = {}  # clip → its split
        self._found: list[str] = []  # the clip of each row
        self._rows: dict[str, list[Any]] = {"id": [], "path": []}

    def __contains__(self, name: str) -> bool:
        return name in self._splits

    def add(
        self,
        name: str,
        match: Match,
        *,
        label: str | Sequence[str] | None = None,
        split: str | None = None,
        span: tuple[float, float] | None = None,
        **columns: Any,
    ) -> bool:
        """Add a clip.

        Args:
            name: Name in the annotation files. A second clip of this name is counted and left out.
            label: One class or several.
            split: Its published split.
            span: (start, stop) in seconds, if the clip is a part of its file.
            columns: Other cells of its row.

        Returns:
            True if its file exists.

        Raises:
            ManifestError: If a label holds the character ``|``, which separates labels.
        """
        if name in self._splits:
            self.num_repeated += 1
            return False
        self._splits[name] = split
        text = _joined(name, label)
        if match.path is None:
            self.missing.append((name, match.looked_for, split, text, match.reason))
            return False
        cells = {"id": match.path, "path": match.path, "label": text, "split": split, **columns}
        if span is not None:
            start, stop = span
            cells["id"] = f"{match.path}#{start:.3f}-{stop:.3f}"
            cells |= {"start_seconds": start, "stop_seconds": stop, "duration_seconds": stop - start}
        for column in cells:
            if column not in self._rows:
                self._rows[column] = [None] * len(self._found)
        for column, values in self._rows.items():
            values.append(cells.get(column))
        self._found.append(name)
        return True

    def finish(self) -> Manifest:
        """Return the rows whose files exist, in the order of the annotation files.

        Clips that share one file are added to ``missing`` instead.

        Raises:
            ManifestError: If there is no row.
        """
        times = Counter(self._rows["id"])
        keep = [times[row_id] == 1 for row_id in self._rows["id"]]
        for row in (row for row, kept in enumerate(keep) if not kept):
            path, split, label = (self._rows[name][row] for name in ("path", "split", "label"))
            reason = f"{path} may be any of {times[self._rows['id'][row]]} listed clips; its name does not tell which"
            self.missing.append((self._found[row], path, split, label, reason))
        if not self._splits:
            raise ManifestError(f"{self.root}: the annotation files list no clip of {self.title}.")
        if not any(keep):
            name, looked_for, _, _, reason = self.missing[0]
            raise ManifestError(
                f"{self.root}: none of the {len(self._splits)} listed clips is there. "
                f"The first, {name}, was looked for as {looked_for}: {reason}.{self._hint}"
            )
        kept = {name: list(compress(values, keep)) for name, values in self._rows.items()}
        used = {name: values for name, values in kept.items() if any(value is not None for value in values)}
        return Manifest.from_columns(used, self.root)

    def missing_table(self) -> pa.Table:
        """Return one line per missing clip: its ``id`` in the annotation files, the expected ``path``, and why."""
        names = ("id", "path", "split", "label", "reason")
        columns = zip(*self.missing, strict=True) if self.missing else [()] * len(names)
        return pa.table({n: pa.array(list(c), pa.string()) for n, c in zip(names, columns, strict=True)})

    def summary(self, manifest: Manifest) -> str:
        """Return found, listed and official counts by split, and the hash of the clip list, in lines."""
        listed = Counter(split or "" for split in self._splits.values())
        absent = Counter(split or "" for _, _, split, _, _ in self.missing)
        share = 100 * len(manifest) / len(self._splits)
        lines = [f"{self.title}: {len(manifest)} of {len(self._splits)} listed clips found ({share:.1f} %)"]
        lines.append(f"{'split':<12}{'found':>10}{'missing':>10}{'listed':>10}{'official':>10}")
        for split in [*self.expected, *sorted(set(listed) - set(self.expected))]:
            found = listed[split] - absent[split]
            official = self.expected.get(split, "?")
            lines.append(f"{split or '(all)':<12}{found:>10}{absent[split]:>10}{listed[split]:>10}{official:>10}")
        if self.num_repeated:
            lines.append(f"{self.num_repeated} clips are listed more than once; the first line counts")
        return "\n".join([*lines, f"clip list: {manifest.hash()}"])


def _joined(name: str, label: str | Sequence[str] | None) -> str | None:
    labels = [label] if isinstance(label, str) else list(label or ())
    if any("|" in one for one in labels):
        raise ManifestError(f"{name}: a label of {labels} holds '|', which separates labels.")
    return "|".join(labels) or None
