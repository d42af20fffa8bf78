"""Search a feature table for the moments that match a query, and compare them with chance.

Example:
    >>> from avssl.features.table import read_feature_table
    >>> table = read_feature_table("features.parquet")
    >>> query = query_of_file(from_pretrained("runs/first"), "video.mp4", "audio", table.info)
    >>> hits = find_moments(table, query, "audio", k=3).hits
    >>> str(table.paths[hits[0].row]), round(hits[0].cosine, 2)  # its own audio
    ('000000.mp4', 1.0)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from avssl.core.batch import Modality
from avssl.core.checkpoint_names import HUB
from avssl.core.errors import InputError
from avssl.core.manifest import is_url
from avssl.core.names import name_from_text, name_to_text, printable
from avssl.engine import choose_device
from avssl.evaluation import Aggregation, GalleryLevel, gallery_level, moment_similarity, query_cosines, top_moments
from avssl.features.search_page import Moment, MomentGroup
from avssl.features.table import Column, FeatureTable, FeatureTableError, TableInfo
from avssl.hub.pretrained import PretrainedModel, from_pretrained
from avssl.localization.windows import AudioWindows, FrameWindows
from avssl.media import MediaError, MediaLimits, MediaReader, open_media
from avssl.media.errors import Reason

_COMPARED_IDS = 100_000  # ids that a misspelled one is compared with


QueryKind = Literal["video", "audio", "joint", "text"]


@dataclass(frozen=True)
class FileWindow:
    """A time span of a file."""

    file: Path
    """Path of the file."""
    start_seconds: float
    """Presentation time of the start."""
    stop_seconds: float
    """Presentation time of the end."""


@dataclass(frozen=True, eq=False)
class Query:
    """One window of one stream of a file, or a text."""

    kind: QueryKind
    """Stream of the window; ``"text"`` for a text."""
    name: str
    """Displayed name of the file, or the text."""
    vectors: Mapping[Column, np.ndarray]
    """(C,) float32 to compare with each column of a table."""
    window: FileWindow | None = None
    """The window; None for a text."""

    @property
    def title(self) -> str:
        """The query in words."""
        return f"“{self.name}”" if self.kind == "text" else f"the {self.kind} of {self.name}"

    @property
    def line(self) -> str:
        """The query in one line for a terminal."""
        if self.window is None:
            return f"the text “{printable(self.name)}”"
        times = f"{self.window.start_seconds:.2f} to {self.window.stop_seconds:.2f} s"
        return f"the {self.kind} of {printable(self.name)}, {times}"


@dataclass(frozen=True)
class Hit:
    """One matching window."""

    row: int
    """Row of the table."""
    cosine: float
    """Cosine with the query, in [-1, 1]."""
    z: float
    """Spreads above the median of the gallery; NaN if the gallery has no spread."""
    is_weak: bool
    """True if the best of as many random windows would be expected to score as high."""


@dataclass(frozen=True)
class GalleryHits:
    """The best moments of one gallery: all video or all audio windows of a table."""

    modality: Column
    """Column that the query was compared with."""
    level: GalleryLevel
    """Cosines of the query with all windows."""
    hits: list[Hit]
    """Best first. If the query is a moment of the table, that moment is among them."""

    def heading(self, query: QueryKind) -> str:
        """Return a title for the hits of a query of this kind."""
        relation = "resemble" if self.modality == query else "match"
        return f"{self.modality.capitalize()} windows that {relation} the {query}"

    def note(self, table: FeatureTable) -> str:
        """Return a sentence that compares the hits with all windows."""
        level = self.level
        verdict = " No hit is better." if all(hit.is_weak for hit in self.hits) else ""
        return (
            f"{level.count} windows of {len(set(table.paths))} files: median cosine {level.median:.3f}, "
            f"mean {level.mean:.3f}. The best of as many random windows would have about "
            f"z = {level.best_by_chance:.1f}.{verdict}"
        )


def table_place(features: Path | str, place: str) -> Path:
    """Resolve a path that a table stores relative to its own folder, such as its model or the root of its files."""
    return Path(place) if is_url(place) else Path(features).parent / place


def model_of_table(
    table: FeatureTable, features: Path | str, checkpoint: Path | str | None = None, device: str = "auto"
) -> PretrainedModel:
    """Load the model that made a table; vectors of different models cannot be compared.

    Args:
        checkpoint: The model; None takes the path stored in the table.

    Raises:
        FeatureTableError: If the model is not found, or has other weights.
        HubError: If there is no model at ``checkpoint``.
    """
    place = checkpoint if checkpoint is not None else table_place(features, table.info.checkpoint)
    if checkpoint is None and not Path(place).is_dir():
        # A hub id is not downloaded unasked: the table may come from anybody.
        stored = table.info.checkpoint
        where = f"{stored}, which is not fetched unasked" if stored.startswith(HUB) else f"no longer at {stored}"
        raise FeatureTableError(f"{features}: its model is {where}. Name it with --checkpoint.")
    pretrained = from_pretrained(place, choose_device(device))
    if pretrained.weights_hash() != table.info.weights_hash:
        raise FeatureTableError(
            f"{features}: was made by the weights {table.info.weights_hash}, but {place} has "
            f"{pretrained.weights_hash()}. Name the right model with --checkpoint, or embed the files again."
        )
    return pretrained


def query_of_table(
    table: FeatureTable, name: str, by: Column, at_seconds: float | None = None, root: Path | str = "."
) -> Query:
    """Return the window of a row of the table that is nearest to a time, as a query.

    Args:
        name: Id of the row.
        by: Stream of the query, or ``"joint"``.
        at_seconds: Presentation time; None takes the middle of the row.
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
    window = FileWindow(Path(root) / name_from_text(table.paths[row]), start, stop)
    return Query(by, name, _for_all(table.vectors(by)[row]), window)


def query_of_file(
    pretrained: PretrainedModel,
    path: Path | str,
    by: Modality,
    info: TableInfo,
    at_seconds: float | None = None,
    limits: MediaLimits | None = None,
) -> Query:
    """Encode one window of a file as a query.

    Args:
        pretrained: The model that made the table.
        path: Any media file that has the stream.
        by: Stream of the query.
        info: Description of the table.
        at_seconds: Presentation time of the middle of the window, which is shifted to lie inside the file; None takes
            the middle of the file.
        limits: Limits on the file.

    Raises:
        MediaError: If the file cannot be read or lacks the stream.
        InputError: If ``at_seconds`` lies outside the file.
    """
    sampling = pretrained.sampling
    with open_media(path, limits=limits) as reader:
        at, (first, last) = _middle(reader, by, path, at_seconds), _span(reader, by)
        x = _window(reader, by, at, pretrained)
    length = sampling.video_seconds if by == "video" else sampling.audio_seconds
    vector = pretrained.encoder().vectors(by, x, info.what, info.moments)[0].cpu().numpy()
    return Query(by, name_to_text(path), _for_all(vector), _file_window(path, at, first, last, length))


def query_of_both(
    pretrained: PretrainedModel,
    video: Path | str,
    audio: Path | str,
    at_seconds: float | None = None,
    limits: MediaLimits | None = None,
) -> Query:
    """Encode the frames of one file and the audio of the same or another file as one query, by the joint head.

    Args:
        pretrained: The model that made the table.
        video: A file with frames.
        audio: A file with audio.
        at_seconds: Presentation time of the middle of both windows; None takes the middle of each file.
        limits: Limits on the files.

    Raises:
        InputError: If the model has no joint head, or ``at_seconds`` lies outside a file.
        MediaError: If a file cannot be read or lacks the stream.
    """
    inputs: dict[Modality, Tensor] = {}
    streams: tuple[tuple[Modality, Path | str], ...] = (("video", video), ("audio", audio))
    for stream, path in streams:
        with open_media(path, limits=limits) as reader:
            at, (first, last) = _middle(reader, stream, path, at_seconds), _span(reader, stream)
            inputs[stream] = _window(reader, stream, at, pretrained)
            if stream == "video":
                window = _file_window(path, at, first, last, pretrained.sampling.video_seconds)
    vector = pretrained.encoder().joint(inputs["video"], inputs["audio"])[0].cpu().numpy()
    names = dict.fromkeys((name_to_text(video), name_to_text(audio)))
    return Query("joint", " and ".join(names), _for_all(vector), window)


def query_of_text(pretrained: PretrainedModel, text: str) -> Query:
    """Embed a text as a query.

    Args:
        pretrained: The model that made the table.
        text: Words for what is visible or audible, such as "a dog barks".

    Raises:
        HubError: If the model has no text tower; names models that have one.
        InputError: If the text is empty or too long.
    """
    vectors = pretrained.text_encoder()([text])
    return Query("text", text, {stream: vector[0].cpu().numpy() for stream, vector in vectors.items()})


def find_moments(
    table: FeatureTable, query: Query, modality: Column, k: int, aggregation: Aggregation | None = None
) -> GalleryHits:
    """Find the ``k`` best distinct moments of one gallery. Exact: every row is compared.

    Args:
        table: The windows.
        query: Compared with each of them.
        modality: Stream of the windows.
        k: Largest number of hits.
        aggregation: Similarity of two windows in a table of their moments; None takes ``"diagonal_mean"``, the cosine
            of all moments side by side.

    Raises:
        FeatureTableError: If the table has no rows, holds features and ``modality`` is not the query's, or holds no
            moments to aggregate.
        InputError: If ``k`` is less than 1.
    """
    if not len(table):
        raise FeatureTableError("the table has no windows. Embed files that have video and audio.")
    if table.info.what == "features" and modality != query.kind:
        compared = (
            "video with video and audio with audio" if query.kind == "text" else f"{query.kind} with {query.kind}"
        )
        raise FeatureTableError(
            f"the table holds features before the heads, which compare {compared} only. "
            "Make one with avssl embed --what embeddings to compare with both streams, and with text."
        )
    cosines = _similarities(query.vectors[modality], table.vectors(modality), table.info, aggregation)
    level = gallery_level(cosines)
    rows = top_moments(cosines, table.paths, table.start_seconds, table.stop_seconds, k)
    found = [(row, float(cosines[row]), level.z(float(cosines[row]))) for row in rows]
    return GalleryHits(modality, level, [Hit(row, cosine, z, not z > level.best_by_chance) for row, cosine, z in found])


def _similarities(
    query: np.ndarray, gallery: np.ndarray, info: TableInfo, aggregation: Aggregation | None
) -> np.ndarray:
    """Return the (N,) similarities of a query with the windows of a table."""
    if info.what != "moments" and aggregation is not None:
        raise FeatureTableError(
            f"aggregation ({aggregation}) compares moments, and the table holds {info.what}. Make one with avssl embed "
            "--what moments, or leave it out."
        )
    if aggregation is None or aggregation == "diagonal_mean":
        return query_cosines(query, gallery)
    moments, found = info.moments, torch.from_numpy(gallery).unflatten(1, (info.moments, -1))
    return moment_similarity(torch.from_numpy(query).view(1, moments, -1), found, aggregation)[0].numpy()


def is_itself(table: FeatureTable, hit: Hit, query: Query, folder: Path) -> bool:
    """Return whether a hit overlaps with the query; the table's paths are relative to ``folder``."""
    window, row = query.window, hit.row
    if window is None:
        return False
    overlaps = table.start_seconds[row] < window.stop_seconds and window.start_seconds < table.stop_seconds[row]
    return bool(overlaps) and (folder / name_from_text(table.paths[row])).resolve() == window.file.resolve()


def query_moment(query: Query) -> Moment | None:
    """Return the query as a moment of the page; None for a text."""
    window = query.window
    if window is None:
        return None
    return Moment(window.file, query.name, window.start_seconds, window.stop_seconds, f"query: its {query.kind}")


def moment_group(table: FeatureTable, found: GalleryHits, query: Query, folder: Path) -> MomentGroup:
    """Return the hits as a group of the page; the table's paths are relative to ``folder``."""
    moments = []
    for number, hit in enumerate(found.hits, start=1):
        itself = is_itself(table, hit, query, folder)
        words = f"{number} · cosine {hit.cosine:.3f} · z {hit.z:.1f}{' · itself' if itself else ''}"
        path = table.paths[hit.row]
        times = float(table.start_seconds[hit.row]), float(table.stop_seconds[hit.row])
        moments.append(Moment(folder / name_from_text(path), path, *times, words, hit.is_weak and not itself))
    note = f"{found.note(table)} Hits that are no better are shown faintly."
    return MomentGroup(found.heading(query.kind), note, moments)


def _for_all(vector: np.ndarray) -> dict[Column, np.ndarray]:
    """Return the vector of a window, which all columns are compared with."""
    return {"video": vector, "audio": vector, "joint": vector}


def _middle(reader: MediaReader, by: Modality, path: Path | str, at_seconds: float | None) -> float:
    """Return the middle of the query's window, by default that of the stream; raise InputError if it lies outside."""
    first, last = _span(reader, by)
    at = (first + last) / 2 if at_seconds is None else at_seconds
    if not first <= at <= last:
        raise InputError(f"at_seconds ({at:g}) lies outside the {by} of {path}, {first:g} to {last:g} s.")
    return at


def _file_window(path: Path | str, at: float, first: float, last: float, length: float) -> FileWindow:
    """Return the window around a time, shifted to lie inside the stream as windows are."""
    start = min(max(at - length / 2, first), max(first, last - length))
    return FileWindow(Path(path), start, min(start + length, last))


def _window(reader: MediaReader, by: Modality, at: float, pretrained: PretrainedModel) -> Tensor:
    """Return the model input of the window around a point in time: one clip of one stream."""
    encoder, sampling = pretrained.encoder(), pretrained.sampling
    instant = torch.tensor([at], dtype=torch.float64)
    if by == "video":
        windows = FrameWindows(reader, sampling)
        return encoder.video_input(next(windows.read(windows.starts(instant), batch_size=1)))
    waveform = AudioWindows(reader, None).around(instant, sampling.audio_seconds, sampling.sample_rate_hz)
    return encoder.audio_input(waveform)


def _span(reader: MediaReader, by: Modality) -> tuple[float, float]:
    """Return the start and stop of a stream."""
    info = reader.info
    if by == "video":
        start, stop, other = info.video_start_seconds, info.video_stop_seconds, "audio"
    else:
        start, stop, other = info.audio_start_seconds, info.audio_stop_seconds, "video"
    if start is None or stop is None:
        advice = f"Name another file, or search by its other stream with --{other}."
        reason: Reason = "no_video" if by == "video" else "no_audio"
        raise MediaError(info.path, by, reason, f"there is no {by} stream.", advice)
    return start, stop
