"""EPIC-Sounds: 78 400 audible actions of 44 classes, each with start and stop, in kitchens filmed from the head.

Source: Huh et al., 2023, https://arxiv.org/abs/2302.00646, https://github.com/epic-kitchens/epic-sounds-annotations.
CC BY-NC 4.0.
Files: EPIC_Sounds_train.csv and EPIC_Sounds_validation.csv of that repository (annotation_id, participant_id, video_id,
start_timestamp, stop_timestamp, start_sample, stop_sample, description, class, class_id), if present
EPIC_Sounds_recognition_test_timestamps.csv (without the last three), and the videos of EPIC-KITCHENS-100.
Expects: the tables in ROOT (or ROOT/annotations), and P01_11.MP4 or P01_11.wav anywhere below ROOT.
Run: python datasets/epic_sounds.py /data/epic-kitchens

A row is an event: its video with start_seconds and stop_seconds. Many are shorter than a second: where a window is
longer, use --sampling.short-clips repeat. ``participant`` tells who wears the camera. Test events have no labels.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from avssl.data.official.annotations import Line, find_annotation, look_for_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"train": 60055, "val": 8035}
TABLES = {"train": "EPIC_Sounds_train.csv", "val": "EPIC_Sounds_validation.csv"}
TEST_TABLE = "EPIC_Sounds_recognition_test_timestamps.csv"
COLUMNS = ["annotation_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp"]
SOURCE = "https://github.com/epic-kitchens/epic-sounds-annotations"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all events."""
    folders = annotation_folders(options, "annotations")
    tables = {split: find_annotation(folders, name, source=SOURCE) for split, name in TABLES.items()}
    if path := look_for_annotation(folders, TEST_TABLE):
        tables["test"] = path
    files = ClipFiles(options.root)
    clips = ClipList(options.root, "EPIC-Sounds, events", OFFICIAL, files=files, lists=lists_of(options, "annotations"))
    for split, table in tables.items():
        for line in read_table(table, COLUMNS if split == "test" else [*COLUMNS, "class"]):
            start, stop = seconds(line, "start_timestamp"), seconds(line, "stop_timestamp")
            if stop <= start:
                raise line.wrong("stop_timestamp", f"a time after {line['start_timestamp']}")
            match = files.named(line["video_id"])
            clips.add(
                line["annotation_id"],
                match,
                label=None if split == "test" else line["class"],
                split=split,
                span=(start, stop),
                row_id=f"{match.path}#{line['annotation_id']}",
                listed_as=line["video_id"],
                participant=line["participant_id"],
            )
    return clips


def seconds(line: Line, column: str) -> float:
    """Return a time such as 00:00:03.065 in seconds."""
    parts = re.fullmatch(r"(\d+):([0-5]\d):([0-5]\d(?:\.\d+)?)", line[column], flags=re.ASCII)
    if parts is None:
        raise line.wrong(column, "HH:MM:SS.mmm, such as 00:00:03.065")
    return int(parts[1]) * 3600 + int(parts[2]) * 60 + float(parts[3])


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__, "epic_sounds.csv"), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
