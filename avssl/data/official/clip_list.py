"""Match the clips of an official annotation file with files: a manifest, and a list of missing clips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import pyarrow as pa

from avssl.core.manifest import Manifest, ManifestError
from avssl.core.tables import write_parts
from avssl.data.official.clip_files import ClipFiles, Kind, Match, kind_of
from avssl.data.official.clip_names import clip_key
from avssl.data.official.published_list import PublishedList

MISSING_COLUMNS = ("id", "path", "split", "label", "reason")
"""Columns of the table of missing clips: the official name, a name its file could have, and why there is none."""

_MISSING_SCHEMA = pa.schema([(name, pa.string()) for name in MISSING_COLUMNS])
_PART_ROWS = 1 << 16


class ClipList:
    """The clips of a dataset, present and missing.

    Args:
        root: Folder that the manifest's paths are relative to.
        title: Name of the dataset, for the summary.
        expected: Split → number of clips that the authors publish, if any; "" for clips without a split.
        hint: Advice for the case that no clip is found.
        files: The files that clips are looked for in; described if no clip is found.
        lists: Published lists; if there are any, only their clips are taken.
    """

    def __init__(
        self,
        root: Path,
        title: str,
        expected: Mapping[str, int] | None = None,
        hint: str = "",
        *,
        files: ClipFiles | None = None,
        lists: Sequence[PublishedList] = (),
    ) -> None:
        self.root, self.title, self._hint, self._files, self.lists = root, title, hint, files, lists
        self.expected: Mapping[str, int] = {} if lists else expected or {}
        self.missing: list[tuple[str, str, str | None, str | None, str]] = []
        """The columns of :data:`MISSING_COLUMNS` of each missing clip that was added alone."""
        self.num_repeated = 0
        """Number of repeated listings of a clip."""
        self._absent: list[tuple[pa.Table, str | None, Callable[[pa.Table], pa.Table]]] = []
        self._splits: dict[str, str | None] = {}  # clip → its split
        self._rows: dict[str, list[Any]] = {"id": [], "path": []}

    def __contains__(self, name: str) -> bool:
        return name in self._splits

    def __len__(self) -> int:
        return len(self._splits) + sum(len(table) for table, _, _ in self._absent)

    @property
    def num_missing(self) -> int:
        """Number of clips without a file."""
        return len(self.missing) + sum(len(table) for table, _, _ in self._absent)

    def add(
        self,
        name: str,
        match: Match,
        *,
        label: str | Sequence[str] | None = None,
        split: str | None = None,
        span: tuple[float, float] | None = None,
        row_id: str | None = None,
        listed_as: str | None = None,
        **columns: Any,
    ) -> bool:
        """Add a clip, unless there are lists and it is on none.

        Args:
            name: Name in the annotation files. A second clip of this name is counted and left out.
            label: One class or several.
            split: Its published split; a list that names a split changes it.
            span: (start, stop) in seconds, if the clip is a part of its file.
            row_id: Id of its row, if not its path (with the span), which several rows may share.
            listed_as: Name that lists would have, if not ``name``: that of the video of an event.
            columns: Other cells of its row.

        Returns:
            True if its file exists.

        Raises:
            ManifestError: If a label holds the character ``|``, which separates labels.
        """
        on = [each for each in self.lists if each.claim(clip_key(listed_as or name))]
        if self.lists and not on:
            return False
        split = next((each.split for each in on if each.split), split)
        return self.add_listed(name, match, label=label, split=split, span=span, row_id=row_id, **columns)

    def add_listed(
        self,
        name: str,
        match: Match,
        *,
        label: str | Sequence[str] | None = None,
        split: str | None = None,
        span: tuple[float, float] | None = None,
        row_id: str | None = None,
        **columns: Any,
    ) -> bool:
        """Add a clip that a list itself names. Arguments and result are those of :meth:`add`."""
        if name in self._splits:
            self.num_repeated += 1
            return False
        self._splits[name] = split
        text = _joined(name, label)
        if match.path is None:
            self.missing.append((name, match.looked_for, split, text, match.reason))
            return False
        cells: dict[str, Any] = {"id": row_id or match.path, "path": match.path, "label": text, "split": split}
        cells |= {"audio_path": match.audio_path, **columns, "official_id": name}
        if span is not None:
            start, stop = span
            cells["id"] = row_id or f"{match.path}#{start:.3f}-{stop:.3f}"
            cells |= {"start_seconds": start, "stop_seconds": stop, "duration_seconds": stop - start}
        for column in cells:
            if column not in self._rows:
                self._rows[column] = [None] * len(self._rows["id"])
        for column, values in self._rows.items():
            values.append(cells.get(column))
        return True

    def add_absent(self, table: pa.Table, split: str | None, describe: Callable[[pa.Table], pa.Table]) -> None:
        """Add many missing clips that are on no list, each once.

        Args:
            table: A row for each, in a form that takes little memory.
            split: Their published split.
            describe: Returns the :data:`MISSING_COLUMNS` of a part of the table; called when they are written.
        """
        if len(table):
            self._absent.append((table, split, describe))

    def finish(self) -> Manifest:
        """Return the rows whose files exist, in the order of the annotation files.

        Clips that share one file are added to ``missing`` instead.

        Raises:
            ManifestError: If there is no row.
        """
        times = Counter(self._rows["id"])
        keep = [times[row_id] == 1 for row_id in self._rows["id"]]
        for row in (row for row, kept in enumerate(keep) if not kept):
            name, path, split, label = (self._rows[column][row] for column in ("official_id", "path", "split", "label"))
            reason = f"{path} may be any of {times[self._rows['id'][row]]} listed clips; its name does not tell which"
            self.missing.append((name, path, split, label, reason))
        if not len(self):
            which = f"{self.root}: the annotation files list no clip of {self.title}"
            raise ManifestError(f"{which}{self._not_on_lists()}.")
        if not any(keep):
            first = next(self._missing_parts()).to_pylist()[0]
            there = "" if self._files is None else f" {self._files.describe()}"
            raise ManifestError(
                f"{self.root}: none of the {len(self)} listed clips is there. "
                f"The first, {first['id']}, was looked for as {first['path']}: {first['reason']}.{there}{self._hint}"
            )
        kept = {name: list(compress(values, keep)) for name, values in self._rows.items()}
        used = {name: values for name, values in kept.items() if any(value is not None for value in values)}
        return Manifest.from_columns(used, self.root)

    def missing_table(self) -> pa.Table:
        """Return one line per missing clip, with the columns of :data:`MISSING_COLUMNS`."""
        return pa.concat_tables(list(self._missing_parts()))

    def write_missing(self, path: Path) -> None:
        """Write :meth:`missing_table` as CSV, whole or not at all; millions of rows are never in memory as text."""
        write_parts(self._missing_parts(), path)

    def _missing_parts(self) -> Iterator[pa.Table]:
        for table, split, describe in self._absent:
            for first in range(0, len(table), _PART_ROWS):
                part = describe(table.slice(first, _PART_ROWS))
                part = part.append_column("split", pa.array([split] * len(part), pa.string()))
                yield part.select(MISSING_COLUMNS).cast(_MISSING_SCHEMA)
        columns = zip(*self.missing, strict=True) if self.missing else [()] * len(MISSING_COLUMNS)
        yield pa.table([pa.array(list(column), pa.string()) for column in columns], schema=_MISSING_SCHEMA)

    def summary(self, manifest: Manifest) -> str:
        """Return found, listed and official counts by split, layouts, lists and the hash of the clip list, in lines."""
        absent = Counter(split or "" for _, _, split, _, _ in self.missing)
        listed = Counter(split or "" for split in self._splits.values())
        for table, split, _ in self._absent:
            absent[split or ""] += len(table)
            listed[split or ""] += len(table)
        share = 100 * len(manifest) / len(self)
        lines = [f"{self.title}: {len(manifest)} of {len(self)} listed clips found ({share:.1f} %)"]
        lines.append(f"{'split':<12}{'found':>10}{'missing':>10}{'listed':>10}{'official':>10}")
        for name in [*self.expected, *sorted(set(listed) - set(self.expected))]:
            found, official = listed[name] - absent[name], self.expected.get(name, "?")
            lines.append(f"{name or '(all)':<12}{found:>10}{absent[name]:>10}{listed[name]:>10}{official:>10}")
        if self.num_repeated:
            lines.append(f"{self.num_repeated} clips are listed more than once; the first line counts")
        lines += [_about_list(each) for each in self.lists]
        return "\n".join([*lines, *_layouts(manifest), f"clip list: {manifest.hash()}"])

    def _not_on_lists(self) -> str:
        if not self.lists:
            return ""
        firsts = ", ".join(each.clips[0].name for each in self.lists)
        return f" that is on {' or '.join(each.path.name for each in self.lists)} (which begins with {firsts})"


def _joined(name: str, label: str | Sequence[str] | None) -> str | None:
    labels = [label] if isinstance(label, str) else list(label or ())
    if any("|" in one for one in labels):
        raise ManifestError(f"{name}: a label of {labels} holds '|', which separates labels.")
    return "|".join(labels) or None


def _about_list(of: PublishedList) -> str:
    """Return how many ids of a list the official files know."""
    unknown = of.unknown()
    text = f"list {of.path.name}: {len(of.keys)} clips, {len(of.keys) - len(unknown)} of them in the official files"
    if unknown:
        text += f"; {len(unknown)} are unknown, the first is {unknown[0]}"
    return text + (f"; {of.num_repeated} lines repeat another" if of.num_repeated else "")


def _layouts(manifest: Manifest) -> list[str]:
    """Return the number of rows of each layout, if any row is not a video alone."""
    audio = manifest["audio_path"] if "audio_path" in manifest else [None] * len(manifest)
    pairs = zip(manifest["path"], audio, strict=True)
    kinds = Counter((kind_of(path), bool(other)) for path, other in pairs)
    titles: dict[tuple[Kind, bool], str] = {
        ("video", False): "videos",
        ("video", True): "videos with the audio of another file",
        ("image", True): "images with an audio file",
        ("audio", False): "audio files alone",
    }
    if set(kinds) == {("video", False)}:
        return []
    lines = ["rows: " + ", ".join(f"{kinds[kind]} {title}" for kind, title in titles.items() if kinds[kind])]
    if kinds["audio", False]:
        lines.append(
            "audio alone is read with --modality audio (avssl probe, avssl embed) and "
            "--classifier.inputs audio (avssl finetune)"
        )
    return lines
