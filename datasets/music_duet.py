"""MUSIC-Duet: frames of duets of MUSIC, in which each of the two instruments is to be found. Also MUSIC-Solo.

Source: Mo and Tian, 2023, https://arxiv.org/abs/2303.17056, https://github.com/stoneMo/AVGN. No license is given; the
videos are their owners'.
Files: the folder metadata of that repository: music_duet_train.txt (name, class, class; no header), music_duet_test.csv
(the name first; no header) and music_duet.json (boxes); music_solo_train.txt, music_solo_test.csv and music_solo.json.
Expects: these in ROOT or ROOT/metadata, and frames/NAME.jpg, such as K_U5-GbPgi0_098_02961.jpg, and audio/ID.wav with
the audio of the whole video, below ROOT, as its loader reads them. For whole videos, see datasets/music.py --boxes.
Run: python datasets/music_duet.py /data/music

A row is a frame with the audio of its video. Writes truth/music_duet/NAME.json for the test frames, with
a box for each instrument, labeled with it. avssl localize-eval then reports CIoU@0.3, AUC, CAP and PIAP of the sources.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from avssl.core.manifest import ManifestError
from avssl.data.media_files import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS
from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.box_truth import TruthFrame, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.data.official.music_boxes import FRAME_NAME, SOURCE, read_music_boxes
from avssl.data.official.published_list import read_list
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

NUM_CLASSES = {"solo": 1, "duet": 2}


class FrameFiles:
    """The frames and the audio of their videos under a folder."""

    def __init__(self, files: ClipFiles) -> None:
        self._images = files.part(IMAGE_EXTENSIONS, masks=False)
        self._audio = files.part(AUDIO_EXTENSIONS, masks=False)

    def find(self, table: Path, name: str) -> Match:
        """Return the frame with the audio of its video, or why there is none."""
        parts = FRAME_NAME.fullmatch(name)
        if parts is None:
            raise ManifestError(f"{table}: {name!r} is no name of a frame such as K_U5-GbPgi0_098_02961.")
        image = self._images.named(f"{name}.jpg")
        audio = self._audio.named(f"{parts['video']}.wav")
        if image.path and not audio.path:
            return Match(None, audio.looked_for, "only its image exists")
        return replace(image, audio_path=audio.path)


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the frames to train and to test on."""
    subset = options.subset
    folders = annotation_folders(options, "metadata")
    train = find_annotation(folders, f"music_{subset}_train.txt", source=SOURCE)
    test = find_annotation(folders, f"music_{subset}_test.csv", source=SOURCE)
    boxes = read_music_boxes(find_annotation(folders, f"music_{subset}.json", source=SOURCE))
    files = ClipFiles(options.root, IMAGE_EXTENSIONS | AUDIO_EXTENSIONS, visible=True)
    frames = FrameFiles(files)
    clips = ClipList(options.root, f"MUSIC-{subset.title()}", files=files, lists=lists_of(options, "metadata"))
    classes = [f"class{number}" for number in range(1, NUM_CLASSES[subset] + 1)]
    for line in read_table(train, ["name", *classes], header=False):
        labels = list(dict.fromkeys(line[name] for name in classes))
        clips.add(line["name"], frames.find(train, line["name"]), label=labels, split="train")
    for name in (clip.name for clip in read_list(test).clips):
        if name not in boxes:
            raise ManifestError(f"{test}: {name} is in the list, but not in music_{subset}.json.")
        match, drawn = frames.find(test, name), boxes[name]
        truth = None
        if match.path:
            truth = write_boxes(options.root, f"music_{subset}", name, [TruthFrame(None, drawn)])
        labels = list(dict.fromkeys(box.label for box in drawn if box.label))
        clips.add(name, match, label=labels, split="test", truth=truth)
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest and the boxes."""
    parser = script_parser(__doc__, "music_{subset}.csv")
    parser.add_argument("--subset", choices=list(NUM_CLASSES), default="duet", help="Two instruments, or one.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
