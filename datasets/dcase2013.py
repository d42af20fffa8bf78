"""DCASE 2013, acoustic scenes: 200 half-minute recordings of ten places. Audio only.

Source: Stowell et al., 2015, https://doi.org/10.1109/TMM.2015.2428998.
Files: scenes_stereo.zip, https://archive.org/details/dcase2013_scene_classification (public), and
scenes_stereo_testset.zip, https://archive.org/details/dcase2013_scene_classification_testset.
Their pages give the license. The class is in the name: bus01.wav is the first recording of a bus. Each set has ten
of each scene. The page of the test set also has dcase2013_task1_filenamekey.csv, which tells the names that its
recordings had in the challenge; it is needed only for files with these names.
Expects: both unpacked into ROOT, as scenes_stereo/bus01.wav and scenes_stereo_testset/bus01.wav (or
test_bus01.wav, or a name of the key); nested folders of these names are fine.
Run: python datasets/dcase2013.py /data/dcase2013

The public set is "train" and the test set "test", as in the papers that train a classifier on frozen
features. No official folds come with the recordings, as far as we know.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from avssl.core.manifest import ManifestError
from avssl.core.user_files import read_text
from avssl.data.media_files import AUDIO_EXTENSIONS
from avssl.data.official.annotations import look_for_annotation
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

SCENES = (
    *("bus", "busystreet", "office", "openairmarket", "park"),
    *("quietstreet", "restaurant", "supermarket", "tube", "tubestation"),
)
FOLDERS = {"scenes_stereo": "train", "scenes_stereo_testset": "test"}
NUM_RECORDINGS = 10
"""Of each scene in each set."""


TEST_FOLDER = "scenes_stereo_testset"
KEY_FILE = "dcase2013_task1_filenamekey.csv"
KEY_SOURCE = "https://archive.org/details/dcase2013_scene_classification_testset"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the recordings of both sets."""
    folders_of_files = annotation_folders(options, *FOLDERS)
    key_file = look_for_annotation(folders_of_files, KEY_FILE)
    names = {} if key_file is None else challenge_names(key_file)
    files = ClipFiles(options.root, AUDIO_EXTENSIONS)
    found: dict[tuple[str, str], str] = {}  # split, name -> path
    for path in files.paths:
        folders = [part for part in PurePosixPath(path).parts[:-1] if part in FOLDERS]
        if not folders:
            continue
        name = PurePosixPath(path).stem.removeprefix("test_")
        if folders[-1] == TEST_FOLDER:
            name = names.get(name, name)
        if not is_recording(name):
            raise ManifestError(
                f"{options.root / path}: not a name such as bus01.wav; scenes are {', '.join(SCENES)}. If it is a name "
                f"of the challenge, get {KEY_FILE} from {KEY_SOURCE}."
            )
        found.setdefault((FOLDERS[folders[-1]], name), path)
    count = len(SCENES) * NUM_RECORDINGS
    official = {"train": count, "test": count}
    clips = ClipList(options.root, "DCASE 2013 scenes", official, files=files, lists=lists_of(options))
    for folder, split in FOLDERS.items():
        for scene_name in SCENES:
            for number in range(1, NUM_RECORDINGS + 1):
                name = f"{scene_name}{number:02}"
                match = Match(found.get((split, name)), f"{folder}/{name}.wav")
                clips.add(f"{folder}/{name}", match, label=scene_name, split=split)
    return clips


def is_recording(name: str) -> bool:
    """Return True for a name such as bus01."""
    parts = re.fullmatch(r"([a-z]+)(\d\d)", name)
    return bool(parts and parts[1] in SCENES and 1 <= int(parts[2]) <= NUM_RECORDINGS)


def challenge_names(path: Path) -> dict[str, str]:
    """Read name in the challenge → name such as bus01; the columns may be in any order, with or without a header."""
    names: dict[str, str] = {}
    for number, cells in enumerate(csv.reader(read_text(path, 1 << 20).splitlines(), skipinitialspace=True), 1):
        stems = [PurePosixPath(cell.strip()).stem for cell in cells if cell.strip()]
        known = [stem for stem in stems if is_recording(stem)]
        if known:
            names |= {stem: known[0] for stem in stems if stem != known[0]}
        elif stems and number > 1:
            raise ManifestError(f"{path}:{number}: no recording such as bus01 in {', '.join(stems)}.")
    return names


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
