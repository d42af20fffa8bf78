"""AVE: 4 143 audible and visible events of 28 classes, each with its second in a ten-second video.

Source: Tian et al., 2018, https://arxiv.org/abs/1803.08842, https://github.com/YapengTian/AVE-ECCV18. No license is
given; the videos are their owners'.
Files: AVE_Dataset.zip: trainSet.txt, valSet.txt, testSet.txt and Annotations.txt, with lines of category, YouTube id,
quality, start and end second, separated by "&"; and the videos, cut to ten seconds.
Expects: the lists in ROOT or ROOT/data, and ID.mp4 anywhere below ROOT.
Run: python datasets/ave.py /data/AVE_Dataset

A row is a category of a video of ten seconds; ``events`` tells its seconds, such as "Church bell 6-8". A few videos are
in the lists with several categories, and have a row for each, with the id path#split-category. Lines of Annotations.txt
that are in none of the three lists become rows without a split.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from avssl.data.official.annotations import find_annotation, look_for_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.events import Event, events_text
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"train": 3339, "val": 402, "test": 402}
LISTS = {"trainSet.txt": "train", "valSet.txt": "val", "testSet.txt": "test"}
COLUMNS = ["Category", "VideoID", "Quality", "StartTime", "EndTime"]
SOURCE = "https://github.com/YapengTian/AVE-ECCV18"

Clips = dict[tuple[str | None, str, str], list[Event]]
"""Split, video and category → events."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the categories of all videos."""
    folders = annotation_folders(options, "data")
    found: Clips = {}
    for name, list_split in LISTS.items():
        read_events(find_annotation(folders, name, source=SOURCE), list_split, found)
    in_lists = {(video, category) for _, video, category in found}
    if path := look_for_annotation(folders, "Annotations.txt"):
        others: Clips = {}
        read_events(path, None, others)
        found |= {key: events for key, events in others.items() if key[1:] not in in_lists}
    files, rows_of = ClipFiles(options.root), Counter(video for _, video, _ in found)
    clips = ClipList(options.root, "AVE", OFFICIAL, files=files, lists=lists_of(options, "data"))
    for (split, video, category), events in found.items():
        match, is_alone = files.named(f"{video}.mp4"), rows_of[video] == 1
        clips.add(
            video if is_alone else f"{video} {split}-{category}",
            match,
            label=category,
            split=split,
            row_id=None if is_alone else f"{match.path}#{split}-{category}",
            listed_as=video,
            events=events_text(events),
        )
    return clips


def read_events(path: Path, split: str | None, found: Clips) -> None:
    """Add the events of a list."""
    for line in read_table(path, COLUMNS, header=False, delimiter="&", comment=COLUMNS[0]):
        video, start, stop = line["VideoID"], line.seconds("StartTime"), line.seconds("EndTime")
        if not re.fullmatch(r"[\w-]{11}", video, flags=re.ASCII):
            raise line.wrong("VideoID", "a YouTube id such as RUhOCu3LNXM")
        if stop <= start:
            raise line.wrong("EndTime", f"a number above StartTime, {start:g}")
        event = line["Category"], start, stop
        events = found.setdefault((split, video, line["Category"]), [])
        if event not in events:
            events.append(event)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
