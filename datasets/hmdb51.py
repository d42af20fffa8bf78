"""HMDB51: 6 766 short videos of 51 actions, with three official splits.

Source: Kuehne et al., 2011, https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/.
CC BY 4.0. Many videos have no audio; these are bad rows for audio-visual training, and are counted there.
Files: hmdb51_org.rar (one archive a class) and test_train_splits.rar: CLASS_test_split1.txt and 2, 3,
where a clip is followed by 1 (train), 2 (test) or 0 (in neither).
Expects: the lists in ROOT, ROOT/testTrainMulti_7030_splits or ROOT/test_train_splits, and
CLASS/NAME.avi anywhere below ROOT, also with another extension.
Run: python datasets/hmdb51.py /data/hmdb51

The columns split1, split2 and split3 hold "train", "test" or "unused"; ``split`` is the one of
--split-number, and ``avssl probe --split-column split2`` uses another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"train": 3570, "test": 1530, "unused": 1666}
"""Of each split: 70 and 30 clips of each class, and the rest."""

PARTS = {"1": "train", "2": "test", "0": "unused"}
NUM_SPLITS = 3


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all clips with their part in each split."""
    folder, classes = split_lists(annotation_folders(options, "testTrainMulti_7030_splits", "test_train_splits"))
    files, title = ClipFiles(options.root), f"HMDB51, split {options.split_number}"
    clips = ClipList(options.root, title, OFFICIAL, files=files, lists=lists_of(options))
    for name in classes:
        parts: dict[str, dict[str, Any]] = {}  # clip -> split1.. -> train, test or unused
        for number in range(1, NUM_SPLITS + 1):
            table = folder / f"{name}_test_split{number}.txt"
            for line in read_table(table, ["clip", "part"], header=False, delimiter=None):
                parts.setdefault(line["clip"], {})[f"split{number}"] = line.one_of("part", PARTS)
        for clip, splits in parts.items():
            if len(splits) != NUM_SPLITS:
                raise ManifestError(f"{folder}: {name}/{clip} is only in {', '.join(splits)} of {NUM_SPLITS} splits.")
            split = splits[f"split{options.split_number}"]
            clips.add(f"{name}/{clip}", files.named(f"{name}/{clip}"), label=name, split=split, **splits)
    return clips


def split_lists(folders: Sequence[Path]) -> tuple[Path, list[str]]:
    """Return the folder of the lists, and the classes in their names."""
    ending = "_test_split1.txt"
    for folder in folders:
        if classes := sorted(path.name.removesuffix(ending) for path in folder.glob(f"*{ending}")):
            for name in classes:
                for number in range(2, NUM_SPLITS + 1):
                    if not (folder / f"{name}_test_split{number}.txt").is_file():
                        raise ManifestError(f"{folder}: there is no {name}_test_split{number}.txt.")
            return folder, classes
    raise ManifestError(
        f"no CLASS{ending} in {', '.join(map(str, folders))}. Get test_train_splits.rar from "
        "https://serre-lab.clps.brown.edu, or name its folder with --annotations."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__)
    numbers = range(1, NUM_SPLITS + 1)
    parser.add_argument(
        "--split-number", type=int, choices=numbers, default=1, help="Split to put into the column `split`."
    )
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
