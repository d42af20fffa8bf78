"""ESC-50: 2 000 five-second sounds of 50 classes in five folds. Audio only.

Source: Piczak, 2015, https://doi.org/10.1145/2733373.2806390, https://github.com/karolpiczak/ESC-50.
CC BY-NC.
Files: the repository (ESC-50-master.zip): meta/esc50.csv and audio/*.wav.
Expects: ROOT is the unpacked repository.
Run: python datasets/esc50.py /data/ESC-50-master

``fold`` is 1 to 5. The columns split1 to split5 hold "test" for the rows of that fold and "train" for the
others; ``split`` is split1, and ``avssl probe --split-column split2`` uses another.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from avssl.data.media_files import AUDIO_EXTENSIONS
from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

FOLDS = {str(fold): str(fold) for fold in range(1, 6)}
OFFICIAL = {"train": 1600, "test": 400}


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all recordings."""
    folders = annotation_folders(options, "meta")
    table = find_annotation(folders, "esc50.csv", source="https://github.com/karolpiczak/ESC-50")
    files = ClipFiles(options.root, AUDIO_EXTENSIONS)
    clips = ClipList(options.root, "ESC-50, split of fold 1", OFFICIAL, files=files, lists=lists_of(options, "meta"))
    for line in read_table(table, ["filename", "fold", "category", "esc10", "src_file"]):
        fold = line.one_of("fold", FOLDS)
        splits: dict[str, Any] = {f"split{number}": "test" if number == fold else "train" for number in FOLDS}
        clips.add(
            line["filename"],
            files.named(line["filename"]),
            label=line["category"],
            split=splits["split1"],
            fold=fold,
            **splits,
            esc10=line["esc10"],
            source=line["src_file"],
        )
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
