"""Search for moments that fit the audio or the frames of a video, in a feature table or in the examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avssl.core.batch import Modality
from avssl.features.embed import table_of_files
from avssl.features.familiarity import check_familiarity
from avssl.features.search import find_moments, moment_group, query_of_file
from avssl.features.search_page import THUMBNAIL_SHORT_SIDE, Moment, middle_frame
from avssl.features.table import FeatureTable
from avssl.hub.pretrained import PretrainedModel
from avssl.localization.windows import AudioWindows
from avssl.media import MediaError, MediaLimits, MediaReader, open_media, write_video
from avssl.recipes.app.examples import Example
from avssl.recipes.app.settings import AppError

_SHORT_SIDE, _SAMPLE_RATE_HZ = 360, 48_000  # of the mp4 files that are played
_MAX_SECONDS = 10.0  # a table from elsewhere may hold windows of any length


@dataclass(frozen=True, eq=False)
class SearchHit:
    """One moment that was found."""

    moment: Moment
    """File and time."""
    picture: np.ndarray
    """(H, W, 3) uint8 RGB thumbnail."""
    caption: str
    """Plain text."""


@dataclass(frozen=True)
class SearchResult:
    """The hits of one query."""

    note: str
    """Plain text: the query, and how far the hits stand out."""
    hits: tuple[SearchHit, ...]
    """Best first."""


@dataclass(frozen=True)
class SearchTable:
    """A feature table and the files that it describes."""

    table: FeatureTable
    """Made by the same model."""
    folder: Path
    """Folder of its files."""
    names: Mapping[str, str] = field(default_factory=dict)
    """Names to show, by path; other files are shown by their path."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits on media files."""

    def find(
        self,
        pretrained: PretrainedModel,
        video: Path,
        by: Modality,
        gallery: Modality,
        at_seconds: float | None,
        k: int = 8,
    ) -> SearchResult:
        """Find the moments that fit one window of a file.

        Args:
            pretrained: The model of the table, with its own cropping.
            video: The file of the query.
            by: Modality of the query.
            gallery: Modality to compare it with.
            at_seconds: Middle of the query's window; None takes the middle of the file.
            k: Number of moments.

        Raises:
            AppError: If ``at_seconds`` lies outside the file.
            MediaError: If the file cannot be read or lacks the stream.
            FeatureTableError: If the table lacks the modality.
        """
        try:
            query = query_of_file(pretrained, video, by, self.table.info, at_seconds, self.limits)
        except ValueError as error:
            raise AppError(f"second {at_seconds:g} is outside the {by} of {video.name}.") from error
        found = find_moments(self.table, query, gallery, k)
        group = moment_group(self.table, found, query, self.folder)
        assert query.window is not None, "a query of a file"
        window = f"{by} from {query.window.start_seconds:.2f} to {query.window.stop_seconds:.2f} s"
        with open_media(video, limits=self.limits) as reader:
            familiarity = check_familiarity(reader, pretrained, modalities=(by,))
        warning = f"{familiarity.line} " if familiarity.is_foreign else ""
        note = f"{warning}{group.title} ({window}). {found.note(self.table)} ~ marks hits no better than chance."
        return SearchResult(note, tuple(self._hit(moment) for moment in group.moments))

    def _hit(self, moment: Moment) -> SearchHit:
        mark = "~ " if moment.is_weak else ""
        times = f"{moment.start_seconds:.1f} to {moment.stop_seconds:.1f} s"
        name = self.names.get(moment.name, moment.name)
        return SearchHit(moment, _thumbnail(moment, self.limits), f"{mark}{moment.headline} · {times} · {name}")


def table_of_examples(
    pretrained: PretrainedModel,
    folder: Path,
    examples: Sequence[Example],
    on_progress: Callable[[int, int], object],
    limits: MediaLimits | None = None,
) -> SearchTable:
    """Embed the examples.

    Raises:
        AppError: If none of them has both video and audio.
    """
    paths = [example.path for example in examples]
    table, _ = table_of_files(pretrained, folder, paths, every_seconds=0.5, on_progress=on_progress, limits=limits)
    if not len(table):
        raise AppError("none of the examples has both video and audio, so there is nothing to search in.")
    return SearchTable(table, folder, {example.path: example.name for example in examples}, limits or MediaLimits())


def write_moment(moment: Moment, out: Path, limits: MediaLimits | None = None) -> None:
    """Cut a moment out of its file, as an mp4 that every browser plays.

    Raises:
        MediaError: If the file cannot be read or has no video stream.
    """
    with open_media(moment.file, limits=limits) as reader:
        start, stop = _span_in_video(reader, moment)
        fps = min(reader.info.video_fps or 25.0, 30.0)
        times = [start + (number + 0.5) / fps for number in range(max(1, round((stop - start) * fps)))]
        frames = reader.read_frames(times, min(_SHORT_SIDE, reader.info.height or 1, reader.info.width or 1))
        height, width = (side // 2 * 2 for side in frames.shape[2:])  # H.264 needs even sides
        num_samples = max(1, round(len(times) / fps * _SAMPLE_RATE_HZ))
        audio = AudioWindows(reader, None).stream(start, num_samples, _SAMPLE_RATE_HZ)
        write_video(out, frames[:, :, :height, :width], fps, audio, _SAMPLE_RATE_HZ)


def _span_in_video(reader: MediaReader, moment: Moment) -> tuple[float, float]:
    """Clip the span of a moment to its video stream."""
    info = reader.info
    if info.video_start_seconds is None or info.video_stop_seconds is None:
        raise MediaError(info.path, "video", "no_video", "there is no video stream.", "Choose another moment.")
    start = min(max(moment.start_seconds, info.video_start_seconds), info.video_stop_seconds)
    return start, min(moment.stop_seconds, info.video_stop_seconds, start + _MAX_SECONDS)


def _thumbnail(moment: Moment, limits: MediaLimits) -> np.ndarray:
    """Return the middle frame, or gray if the file is gone."""
    try:
        frame = middle_frame(moment, limits)
    except MediaError:
        frame = None
    gray = np.full((THUMBNAIL_SHORT_SIDE, THUMBNAIL_SHORT_SIDE, 3), 96, dtype=np.uint8)
    return gray if frame is None else frame
