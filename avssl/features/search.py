"""A query and a feature table → the moments that fit it, with what they are worth.

Example:
    >>> table = read_feature_table("features.parquet")
    >>> query = query_of_file(from_pretrained("runs/first"), "bark.wav", "audio", table.info.what)
    >>> find_moments(table, query, "video", k=5).hits
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.manifest import is_url
from avssl.engine import choose_device
from avssl.evaluation import GalleryLevel, gallery_level, query_cosines, top_moments
from avssl.features.search_page import Moment, MomentGroup
from avssl.features.table import FeatureTable, FeatureTableError
from avssl.hub.pretrained import Pretrained, from_pretrained
from avssl.localization.windows import AudioWindows, FrameWindows
from avssl.media import MediaError, MediaReader, open_media
from avssl.media.errors import Reason
from avssl.models import Modality, What

NAMES: dict[Modality, str] = {"video": "picture", "audio": "sound"}
"""What a modality is called in sentences."""

_COMPARED_IDS = 100_000  # when an id is misspelt


@dataclass(frozen=True, eq=False)
class Query:
    """What is looked for."""

    modality: Modality
    """Whether it is a picture or a sound."""
    vector: np.ndarray
    """(C,) float32."""
    file: Path
    """The file it is of."""
    name: str
    """Of the file, for people."""
    start_seconds: float
    """Where it begins, on the file's own clock."""
    stop_seconds: float
    """Where it ends."""


@dataclass(frozen=True)
class Hit:
    """One moment that was found."""

    row: int
    """Of the table."""
    cosine: float
    """With the query, in [-1, 1]."""
    z: float
    """Spreads above the median of the gallery; NaN where it has no spread."""
    is_weak: bool
    """Whether the best of as many unrelated windows would be expected to be as good."""


@dataclass(frozen=True)
class GalleryHits:
    """The best moments of one gallery."""

    modality: Modality
    """Whether the query was compared with pictures or with sounds."""
    level: GalleryLevel
    """Of all windows."""
    hits: list[Hit]
    """Best first. Where the query is of a file of the table, its own moment is among them, as any other."""

    def heading(self, asked: Modality) -> str:
        """What the hits are, in words, for a query of this modality."""
        relation = "are like" if self.modality == asked else "fit"
        return f"{NAMES[self.modality].capitalize()}s that {relation} the {NAMES[asked]}"

    def note(self, table: FeatureTable) -> str:
        """What a hit is worth among all windows, in words."""
        level = self.level
        verdict = " No hit is better." if all(hit.is_weak for hit in self.hits) else ""
        return (
            f"{level.count} windows of {len(set(table.paths))} files: cosine {level.median:.3f} in the middle, "
            f"{level.mean:.3f} on average. The best of as many unrelated ones would be at about "
            f"z = {level.best_by_chance:.1f}.{verdict}"
        )


def table_place(features: Path | str, place: str) -> Path:
    """What a table names relative to its own folder, such as its model or the root of its files."""
    return Path(place) if is_url(place) else Path(features).parent / place


def model_of_table(
    table: FeatureTable, features: Path | str, checkpoint: Path | str | None = None, device: str = "auto"
) -> Pretrained:
    """The model that made a table, and no other: vectors of two models have nothing to do with each other.

    Args:
        table: What was read.
        features: From where.
        checkpoint: The model, where it is not where the table says.
        device: Where it runs.

    Raises:
        FeatureTableError: If it is not found, or holds other weights.
        HubError: If there is no model at ``checkpoint``.
    """
    place = checkpoint if checkpoint is not None else table_place(features, table.info.checkpoint)
    if checkpoint is None and not Path(place).is_dir():
        # A name on the hub is not followed by itself: a table may be anybody's.
        raise FeatureTableError(
            f"{features}: its model was at {table.info.checkpoint}, which is no folder here. Name it with --checkpoint."
        )
    pretrained = from_pretrained(place, choose_device(device))
    if pretrained.weights_hash() != table.info.weights_hash:
        raise FeatureTableError(
            f"{features}: was made by the weights {table.info.weights_hash}, but {place} holds "
            f"{pretrained.weights_hash()}. Name the table's own with --checkpoint, or embed the files anew."
        )
    return pretrained


def query_of_table(
    table: FeatureTable, name: str, by: Modality, at_seconds: float | None = None, root: Path | str = "."
) -> Query:
    """The window of a row of the table nearest to an instant, as a query.

    Args:
        table: Where its vector is.
        name: Id of the row.
        by: Its picture or its sound.
        at_seconds: On the file's own clock; the middle of the row by default.
        root: Folder of the table's files.

    Raises:
        FeatureTableError: If no row has this id.
    """
    rows = np.flatnonzero(table.ids == name)
    if not len(rows):
        near = difflib.get_close_matches(name, list(dict.fromkeys(table.ids))[:_COMPARED_IDS], n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise FeatureTableError(f"no row of the table has the id {name!r}.{hint}")
    middles = (table.start_seconds[rows] + table.stop_seconds[rows]) / 2
    at = (middles[0] + middles[-1]) / 2 if at_seconds is None else at_seconds
    row = int(rows[np.abs(middles - at).argmin()])
    start, stop = float(table.start_seconds[row]), float(table.stop_seconds[row])
    return Query(by, table.vectors(by)[row], Path(root) / table.paths[row], name, start, stop)


def query_of_file(
    pretrained: Pretrained, path: Path | str, by: Modality, what: What, at_seconds: float | None = None
) -> Query:
    """One window of a file, as a query.

    Args:
        pretrained: The model that made the table.
        path: Any media file that has the stream.
        by: Its picture or its sound.
        what: Of the table.
        at_seconds: The middle of the window on the file's own clock, moved inside where the window would leave the
            file; the middle of the file by default.

    Raises:
        MediaError: If the file cannot be read or lacks the stream.
        ValueError: If ``at_seconds`` lies outside it.
    """
    sampling = pretrained.sampling
    with open_media(path) as reader:
        first, last = _span(reader, by)
        at = (first + last) / 2 if at_seconds is None else at_seconds
        if not first <= at <= last:
            raise InputError(f"at_seconds ({at:g}) lies outside the {NAMES[by]} of {path}, {first:g} to {last:g} s.")
        x = _window(reader, by, at, pretrained)
    length = sampling.video_seconds if by == "video" else sampling.audio_seconds
    start = min(max(at - length / 2, first), max(first, last - length))  # as the windows are moved there
    vector = pretrained.encoder().encode(by, x).vectors(what)[0].cpu().numpy()
    return Query(by, vector, Path(path), str(path), start, min(start + length, last))


def find_moments(table: FeatureTable, query: Query, modality: Modality, k: int = 10) -> GalleryHits:
    """The ``k`` best distinct moments of one gallery, and its level. Exact: every row is compared.

    Raises:
        FeatureTableError: If the table has no rows, or holds features and ``modality`` is not the query's.
        ValueError: If ``k`` is less than 1.
    """
    if not len(table):
        raise FeatureTableError("the table holds no windows, so there is nothing to find.")
    if table.info.what == "features" and modality != query.modality:
        name = NAMES[query.modality]
        raise FeatureTableError(
            f"the table holds features before the heads, where a {name} can only be compared with {name}s. "
            "Make one with avssl embed --what embeddings to compare it with both."
        )
    cosines = query_cosines(query.vector, table.vectors(modality))
    level = gallery_level(cosines)
    rows = top_moments(cosines, table.paths, table.start_seconds, table.stop_seconds, k)
    found = [(row, float(cosines[row]), level.z(float(cosines[row]))) for row in rows]
    return GalleryHits(modality, level, [Hit(row, cosine, z, not z > level.best_by_chance) for row, cosine, z in found])


def is_itself(table: FeatureTable, hit: Hit, query: Query, folder: Path) -> bool:
    """Whether a hit shares its file and time with the query; ``folder`` is what the table's paths are relative to."""
    overlaps = table.start_seconds[hit.row] < query.stop_seconds and query.start_seconds < table.stop_seconds[hit.row]
    return bool(overlaps) and (folder / table.paths[hit.row]).resolve() == query.file.resolve()


def query_moment(query: Query) -> Moment:
    """What was looked for, for a page."""
    headline = f"looked for: its {NAMES[query.modality]}"
    return Moment(query.file, query.name, query.start_seconds, query.stop_seconds, headline)


def moment_group(table: FeatureTable, found: GalleryHits, query: Query, folder: Path) -> MomentGroup:
    """What was found, for a page; ``folder`` is what the table's paths are relative to."""
    moments = []
    for number, hit in enumerate(found.hits, start=1):
        itself = is_itself(table, hit, query, folder)
        words = f"{number} · cosine {hit.cosine:.3f} · z {hit.z:.1f}{' · itself' if itself else ''}"
        path = table.paths[hit.row]
        times = float(table.start_seconds[hit.row]), float(table.stop_seconds[hit.row])
        moments.append(Moment(folder / path, path, *times, words, hit.is_weak and not itself))
    note = f"{found.note(table)} Hits that are not better are shown faintly."
    return MomentGroup(found.heading(query.modality), note, moments)


def _window(reader: MediaReader, by: Modality, at: float, pretrained: Pretrained) -> Tensor:
    """Return the model input of the window around a point in time: one clip of one stream."""
    encoder, sampling = pretrained.encoder(), pretrained.sampling
    instant = torch.tensor([at], dtype=torch.float64)
    if by == "video":
        windows = FrameWindows(reader, sampling)
        return encoder.video_input(next(windows.read(windows.starts(instant), batch_size=1)))
    waveform = AudioWindows(reader, None).around(instant, sampling.audio_seconds, sampling.sample_rate_hz)
    return encoder.audio_input(waveform)


def _span(reader: MediaReader, by: Modality) -> tuple[float, float]:
    """Where a stream begins and ends."""
    info = reader.info
    if by == "video":
        start, stop, other = info.video_start_seconds, info.video_stop_seconds, "audio"
    else:
        start, stop, other = info.audio_start_seconds, info.audio_stop_seconds, "video"
    if start is None or stop is None:
        advice = f"Name another file, or look for what fits its other stream with --{other}."
        reason: Reason = "no_video" if by == "video" else "no_audio"
        raise MediaError(info.path, by, reason, f"there is no {NAMES[by]} track.", advice)
    return start, stop
