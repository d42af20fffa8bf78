"""Videos to choose from: those of a folder, or a few rendered scenes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avssl.data.health.indexing import walk_media
from avssl.features.search_page import ShownMoment, middle_frame
from avssl.media import MediaError, open_media
from avssl.recipes.app.settings import AppError
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

MAX_EXAMPLES = 24
"""More are not shown; all of a corpus belong into a feature table."""

_SEVERAL = SceneSettings(object_weights=(0.0, 1.0, 1.0))
_SCENES = {
    # The same picture twice, with another object sounding: the pair that shows whether a model listens.
    "pair": Split(2, SceneSettings(object_weights=(0.0, 1.0), interactive_pairs=True)),
    "scene": Split(4, _SEVERAL),
}
_SEED = 0


@dataclass(frozen=True, eq=False)
class Example:
    """One video to choose."""

    name: str
    """Shown under its picture."""
    path: str
    """Of the file, relative to the folder of all."""
    file: Path
    """The file."""
    picture: np.ndarray
    """(H, W, 3) uint8 RGB: its middle frame, small."""


def find_examples(folder: Path | str) -> list[Example]:
    """The first videos of a folder by name, at most :data:`MAX_EXAMPLES`; what cannot be read is passed over.

    Raises:
        AppError: If there is none.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AppError(f"{folder}: no such folder. Name one that holds videos with --examples.")
    examples: list[Example] = []
    for path in walk_media(folder):
        if len(examples) == MAX_EXAMPLES:
            break
        with suppress(MediaError):
            examples += _example(folder, str(path), str(path))
    if not examples:
        raise AppError(f"{folder}: holds no video that can be read. Name a folder that does with --examples.")
    return examples


def render_examples(folder: Path, *, progress: bool = True) -> list[Example]:
    """Six scenes of SoundingShapes with two or three objects, named after what sounds, as files in ``folder``."""
    manifest = synthesize_corpus(folder, _SCENES, seed=_SEED, num_workers=0, progress=progress)
    examples: list[Example] = []
    for row in range(len(manifest)):
        examples += _example(folder, manifest.value(row, "path"), f"{row + 1} · {manifest.value(row, 'label')}")
    return examples


def _example(folder: Path, path: str, name: str) -> list[Example]:
    """One, or none of a file without a picture."""
    file = folder / path
    with open_media(file) as reader:
        start, stop = reader.info.video_start_seconds, reader.info.video_stop_seconds
    if start is None or stop is None:
        return []
    picture = middle_frame(ShownMoment(file, name, start, stop, ""))
    return [] if picture is None else [Example(name, path, file, picture)]
