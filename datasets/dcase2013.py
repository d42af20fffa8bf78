"""DCASE 2013, acoustic scenes: 200 half-minute recordings of ten places. Audio only.

Source: Stowell et al., 2015, https://doi.org/10.1109/TMM.2015.2428998.
Files: scenes_stereo.zip, https://archive.org/details/dcase2013_scene_classification (public), and
scenes_stereo_testset.zip, https://archive.org/details/dcase2013_scene_classification_testset.
Their pages give the license. There are no annotation files: bus01.wav is the first recording of a bus.
Each set has ten of each scene.
Expects: both unpacked into ROOT, as scenes_stereo/bus01.wav and scenes_stereo_testset/bus01.wav (or
test_bus01.wav); nested folders of these names are fine.
Run: python datasets/dcase2013.py /data/dcase2013

The public set is "train" and the test set "test", as in the papers that train a classifier on frozen
features. No official folds come with the recordings, as far as we know.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from avssl.core.manifest import ManifestError
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import run_script, script_parser

SCENES = (
    *("bus", "busystreet", "office", "openairmarket", "park"),
    *("quietstreet", "restaurant", "supermarket", "tube", "tubestation"),
)
FOLDERS = {"scenes_stereo": "train", "scenes_stereo_testset": "test"}
NUM_RECORDINGS = 10
"""Of each scene in each set."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the recordings of both sets."""
    found: dict[tuple[str, str], str] = {}  # split, name -> path
    for path in ClipFiles(options.root, {".wav"}).paths:
        folders = [part for part in PurePosixPath(path).parts[:-1] if part in FOLDERS]
        if not folders:
            continue
        name = PurePosixPath(path).stem.removeprefix("test_")
        scene = re.fullmatch(r"([a-z]+)(\d\d)", name)
        if not scene or scene[1] not in SCENES or not 1 <= int(scene[2]) <= NUM_RECORDINGS:
            raise ManifestError(f"{options.root / path}: not a name such as bus01.wav; scenes are {', '.join(SCENES)}.")
        found.setdefault((FOLDERS[folders[-1]], name), path)
    count = len(SCENES) * NUM_RECORDINGS
    clips = ClipList(options.root, "DCASE 2013 scenes", {"train": count, "test": count})
    for folder, split in FOLDERS.items():
        for scene_name in SCENES:
            for number in range(1, NUM_RECORDINGS + 1):
                name = f"{scene_name}{number:02}"
                match = Match(found.get((split, name)), f"{folder}/{name}.wav")
                clips.add(f"{folder}/{name}", match, label=scene_name, split=split)
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
