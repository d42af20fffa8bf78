"""Moments that fit a sound or a picture: in a feature table, or in the examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avssl.features.moment_table import table_of_files
from avssl.features.search import NAMES, find_moments, moment_group, query_of_file
from avssl.features.search_page import THUMBNAIL_SHORT_SIDE, ShownMoment, middle_frame
from avssl.features.table import FeatureTable
from avssl.hub.pretrained import Pretrained
from avssl.localization.windows import SoundWindows
from avssl.media import MediaError, MediaReader, open_media, write_video
from avssl.models import Modality
from avssl.recipes.app.examples import Example
from avssl.recipes.app.settings import AppError

_SHORT_SIDE, _RATE_HZ = 360, 48_000  # of a moment that is played
_LONGEST_SECONDS = 10.0  # a table may be anybody's


@dataclass(frozen=True, eq=False)
class Card:
    """One moment that was found."""

    moment: ShownMoment
    """Where it is."""
    picture: np.ndarray
    """(H, W, 3) uint8 RGB."""
    caption: str
    """Plain text."""


@dataclass(frozen=True)
class Answer:
    """What was found."""

    note: str
    """Plain text: what was looked for, and what a hit is worth."""
    cards: tuple[Card, ...]
    """Best first."""


@dataclass(frozen=True)
class Places:
    """What is searched."""

    table: FeatureTable
    """Made by the same model."""
    folder: Path
    """Of its files."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What files are called, by their path; those that are missing go by the path itself."""

    def find(
        self, pretrained: Pretrained, video: Path, by: Modality, gallery: Modality, at_seconds: float | None, k: int = 8
    ) -> Answer:
        """The moments that fit.

        Args:
            pretrained: The model of the table, with its own cropping.
            video: The file whose sound or picture is looked for.
            by: Which of the two.
            gallery: Compare with pictures or with sounds.
            at_seconds: The middle of the stretch that is looked for; None takes that of the file.
            k: How many.

        Raises:
            AppError: If ``at_seconds`` lies outside the file.
            MediaError: If the file cannot be read or lacks the stream.
            FeatureTableError: If the table cannot be searched in this way.
        """
        try:
            query = query_of_file(pretrained, video, by, self.table.info.what, at_seconds)
        except ValueError as error:
            raise AppError(f"second {at_seconds:g} is outside the {NAMES[by]} of {video.name}.") from error
        found = find_moments(self.table, query, gallery, k)
        group = moment_group(self.table, found, query, self.folder)
        asked = f"{NAMES[by]} from {query.start_seconds:.2f} to {query.stop_seconds:.2f} s"
        note = f"{group.title} ({asked}). {found.note(self.table)} ~ marks what chance would find too."
        return Answer(note, tuple(self._card(moment) for moment in group.moments))

    def _card(self, moment: ShownMoment) -> Card:
        mark = "~ " if moment.is_weak else ""
        times = f"{moment.start_seconds:.1f} to {moment.stop_seconds:.1f} s"
        name = self.names.get(moment.name, moment.name)
        return Card(moment, _picture(moment), f"{mark}{moment.headline} · {times} · {name}")


def places_of_examples(
    pretrained: Pretrained, folder: Path, examples: Sequence[Example], on_progress: Callable[[int, int], object]
) -> Places:
    """A table of the examples.

    Raises:
        AppError: If none of them has both picture and sound.
    """
    paths = [example.path for example in examples]
    table, _ = table_of_files(pretrained, folder, paths, every_seconds=0.5, on_progress=on_progress)
    if not len(table):
        raise AppError("none of the examples has both picture and sound, so there is nothing to search in.")
    return Places(table, folder, {example.path: example.name for example in examples})


def write_moment(moment: ShownMoment, out: Path) -> None:
    """Cuts a moment out of its file, as an mp4 that every browser plays.

    Raises:
        MediaError: If the file cannot be read, or has no picture.
    """
    with open_media(moment.file) as reader:
        start, stop = _picture_span(reader, moment)
        fps = min(reader.info.video_fps or 25.0, 30.0)
        times = [start + (number + 0.5) / fps for number in range(max(1, round((stop - start) * fps)))]
        frames = reader.read_frames(times, min(_SHORT_SIDE, reader.info.height or 1, reader.info.width or 1))
        height, width = (side // 2 * 2 for side in frames.shape[2:])
        sound = SoundWindows(reader, None).stream(start, max(1, round(len(times) / fps * _RATE_HZ)), _RATE_HZ)
        write_video(out, frames[:, :, :height, :width], fps, sound, _RATE_HZ)


def _picture_span(reader: MediaReader, moment: ShownMoment) -> tuple[float, float]:
    """The stretch of a moment inside its picture track."""
    info = reader.info
    if info.video_start_seconds is None or info.video_stop_seconds is None:
        raise MediaError(info.path, "video", "no_video", "there is no picture track.", "Choose another moment.")
    start = min(max(moment.start_seconds, info.video_start_seconds), info.video_stop_seconds)
    return start, min(moment.stop_seconds, info.video_stop_seconds, start + _LONGEST_SECONDS)


def _picture(moment: ShownMoment) -> np.ndarray:
    """Its middle frame; gray where the file is not there any more."""
    try:
        frame = middle_frame(moment)
    except MediaError:
        frame = None
    gray = np.full((THUMBNAIL_SHORT_SIDE, THUMBNAIL_SHORT_SIDE, 3), 96, dtype=np.uint8)
    return gray if frame is None else frame
