"""Videos to choose from: those of a folder, or a few rendered scenes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avssl.core.names import name_from_text, name_to_text, printable
from avssl.data.media_files import walk_media
from avssl.features.search_page import Moment, middle_frame
from avssl.media import MediaError, MediaLimits, open_media
from avssl.recipes.app.settings import AppError
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

MAX_EXAMPLES = 24
"""Largest number of examples; a whole data set belongs into a feature table."""

_SEVERAL = SceneSettings(object_weights=(0.0, 1.0, 1.0))
_SCENES = {
    # The same frames twice with different sounding objects: shows whether a model uses the audio.
    "pair": Split(2, SceneSettings(object_weights=(0.0, 1.0), interactive_pairs=True)),
    "scene": Split(4, _SEVERAL),
}
_SEED = 0


@dataclass(frozen=True, eq=False)
class Example:
    """One video to choose."""

    name: str
    """Caption."""
    path: str
    """Path of the file relative to the examples folder, as text of :mod:`avssl.core.names`."""
    file: Path
    """The file."""
    picture: np.ndarray
    """(H, W, 3) uint8 RGB thumbnail of its middle frame."""


def find_examples(folder: Path | str, limits: MediaLimits | None = None) -> list[Example]:
    """Return the first :data:`MAX_EXAMPLES` readable videos of a folder, by name.

    Raises:
        AppError: If there are none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AppError(f"{folder}: no such folder. Set --examples to a folder of videos.")
    examples: list[Example] = []
    for path in walk_media(folder):
        if len(examples) == MAX_EXAMPLES:
            break
        with suppress(MediaError):
            examples += _example(folder, name_to_text(path), printable(name_to_text(path)), limits)
    if not examples:
        raise AppError(f"{folder}: no readable video in this folder. Set --examples to a folder of videos.")
    return examples


def render_examples(folder: Path, *, progress: bool = True) -> list[Example]:
    """Render six SoundingShapes scenes of two or three objects into ``folder``, named after the sounding object."""
    manifest = synthesize_corpus(folder, _SCENES, seed=_SEED, num_workers=0, progress=progress)
    examples: list[Example] = []
    for row in range(len(manifest)):
        examples += _example(folder, manifest.value(row, "path"), f"{row + 1} · {manifest.value(row, 'label')}")
    return examples


def _example(folder: Path, path: str, name: str, limits: MediaLimits | None = None) -> list[Example]:
    """Return the example of a file, or nothing if it has no video stream."""
    file = folder / name_from_text(path)
    with open_media(file, limits=limits) as reader:
        start, stop = reader.info.video_start_seconds, reader.info.video_stop_seconds
    if start is None or stop is None:
        return []
    picture = middle_frame(Moment(file, name, start, stop, ""), limits)
    return [] if picture is None else [Example(name, path, file, picture)]
