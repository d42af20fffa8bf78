"""Find the image and the audio of an entry of :mod:`avssl.data.official.pair_boxes`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from avssl.data.media_files import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.pair_boxes import BoxedPair


class PairFiles:
    """Images and audio files under a folder, in the folders of the archives or in others.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.all = ClipFiles(root, IMAGE_EXTENSIONS | AUDIO_EXTENSIONS, visible=True)
        self._images = self.all.part(IMAGE_EXTENSIONS, masks=False)
        self._audio = self.all.part(AUDIO_EXTENSIONS, masks=False)

    def find(self, entry: BoxedPair) -> Match:
        """Return the image with its audio, or why there is none."""
        image = self._images.named(f"{entry.image.parent.name}/{entry.image.name}")
        audio = self._audio.named(f"{entry.audio.parent.name}/{entry.audio.name}")
        if audio.path is None:  # some keep an audio file for each image
            audio = replace(self._audio.named(entry.image.stem), looked_for=audio.looked_for)
        if image.path and not audio.path:
            return Match(None, audio.looked_for, "only its image exists")
        return replace(image, audio_path=audio.path)
