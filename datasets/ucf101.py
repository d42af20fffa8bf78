"""UCF101: 13 320 short videos of 101 actions, with three official splits.

Source: Soomro et al., 2012, https://arxiv.org/abs/1212.0402, https://www.crcv.ucf.edu/data/UCF101.php.
For research; no license is given. Only 51 of the 101 classes have audio; a video without it is a bad row
for audio-visual training, and is counted there.
Files: UCF101.rar (the videos) and UCF101TrainTestSplits-RecognitionTask.zip: classInd.txt,
trainlist01.txt, testlist01.txt, and 02, 03.
Expects: the lists in ROOT or ROOT/ucfTrainTestlist, and CLASS/v_CLASS_g01_c01.avi anywhere below ROOT,
also with another extension.
Run: python datasets/ucf101.py /data/ucf101

The columns split1, split2 and split3 hold the three splits; ``split`` is the one of --split-number, and
``avssl probe --split-column split2`` uses another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

SOURCE = "https://www.crcv.ucf.edu/data/UCF101.php"
OFFICIAL = {
    1: {"train": 9537, "test": 3783},
    2: {"train": 9586, "test": 3734},
    3: {"train": 9624, "test": 3696},
}
"""Split number -> clips."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all clips with their part in each split."""
    folders = annotation_folders(options, "ucfTrainTestlist")
    classes = class_numbers(find_annotation(folders, "classInd.txt", source=SOURCE))
    parts: dict[str, dict[str, Any]] = {}  # clip -> split1.. -> train or test
    for number in OFFICIAL:
        for part in ("train", "test"):
            table = find_annotation(folders, f"{part}list{number:02}.txt", source=SOURCE)
            for clip in clips_of(table, classes, numbered=part == "train"):
                if parts.setdefault(clip, {}).setdefault(f"split{number}", part) != part:
                    raise ManifestError(f"{table}: {clip} is also in the other list of split {number}.")
    title = f"UCF101, split {options.split_number}"
    files, lists = ClipFiles(options.root), lists_of(options, "ucfTrainTestlist")
    clips = ClipList(options.root, title, OFFICIAL[options.split_number], files=files, lists=lists)
    for clip, splits in sorted(parts.items()):
        split = splits.get(f"split{options.split_number}")
        clips.add(clip, files.named(clip), label=clip.split("/")[0], split=split, **splits)
    return clips


def class_numbers(path: Path) -> dict[str, str]:
    """Read class name → number in the lists."""
    return {
        line["class"]: line["number"] for line in read_table(path, ["number", "class"], header=False, delimiter=None)
    }


def clips_of(path: Path, classes: dict[str, str], *, numbered: bool) -> list[str]:
    """Read CLASS/FILE of each line; lists of training clips also give the number of the class."""
    found = []
    for line in read_table(path, ["clip", "number"] if numbered else ["clip"], header=False, delimiter=None):
        name, slash, file = line["clip"].partition("/")
        if name not in classes or not slash or not file:
            raise line.wrong("clip", "CLASS/FILE with a class of classInd.txt")
        if numbered and line["number"] != classes[name]:
            raise line.wrong("number", f"{classes[name]}, the number of {name} in classInd.txt")
        found.append(line["clip"])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--split-number", type=int, choices=list(OFFICIAL), default=1, help="Split to put into the column `split`."
    )
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
