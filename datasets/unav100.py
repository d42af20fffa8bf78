"""UnAV-100: 10 790 videos of up to a minute with 30 059 audible and visible events of 100 classes.

Source: Geng et al., 2023, https://arxiv.org/abs/2303.12930, https://unav100.github.io. No license is given; the videos
are their owners'.
Files: unav100_annotations.json, as in the folder data of https://github.com/ttgeng233/UnAV: {"database": {ID:
{"duration", "subset", "annotations": [{"segment": [start, stop], "label", "label_id"}]}}}; and the videos, which
scripts/video_download.py of that repository cuts to ID.mp4.
Expects: the annotations in ROOT, ROOT/annotations or ROOT/data, and ID.mp4 anywhere below ROOT.
Run: python datasets/unav100.py /data/unav100

A row is an event: its video with start_seconds and stop_seconds; events of the same seconds are one row with
several labels. With --videos, a row is a whole video, ``label`` holds all of its labels, and ``events`` their seconds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import find_annotation, read_json
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.events import Event, events_text
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

SPLITS = {"train": "train", "validation": "val", "test": "test"}
SOURCE = "https://unav100.github.io"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the events of all videos, or the videos."""
    folders = annotation_folders(options, "annotations", "data")
    path = find_annotation(folders, "unav100_annotations.json", source=SOURCE)
    files, title = ClipFiles(options.root), f"UnAV-100, {'videos' if options.videos else 'events'}"
    clips = ClipList(options.root, title, files=files, lists=lists_of(options, "annotations", "data"))
    videos = read_json(path, dict).get("database")
    if not isinstance(videos, dict) or not videos:
        raise ManifestError(f"{path}: no object 'database' with the videos.")
    for video, entry in videos.items():
        split, events = read_video(path, video, entry)
        match = files.named(f"{video}.mp4")
        if options.videos:
            labels = list(dict.fromkeys(label for label, _, _ in events))
            clips.add(video, match, label=labels, split=split, events=events_text(events))
            continue
        at: dict[tuple[float, float], list[str]] = defaultdict(list)
        for label, start, stop in events:
            at[round(start, 3), round(stop, 3)].append(label)
        for (start, stop), labels in at.items():
            span = start, stop
            name = f"{video} {start:.3f}-{stop:.3f}"
            clips.add(name, match, label=list(dict.fromkeys(labels)), split=split, span=span, listed_as=video)
    return clips


def read_video(path: Path, video: str, entry: Any) -> tuple[str, list[Event]]:
    """Return the split and the events of a video.

    Raises:
        ManifestError: If they have another format; names the video.
    """
    try:
        split = SPLITS[entry["subset"].lower()]
        events = [(each["label"], *map(float, each["segment"])) for each in entry["annotations"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        expected = "a subset (train, validation or test), and annotations with segment and label"
        raise ManifestError(f"{path}: {video}: expected {expected} ({type(error).__name__}: {error}).") from error
    for event in events:
        if len(event) != 3 or not isinstance(event[0], str) or not 0 <= event[1] < event[2] < math.inf:
            raise ManifestError(f"{path}: {video}: {event} is no label with a start and a later stop in seconds.")
    return split, events


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__, lambda options: "unav100_videos.csv" if options.videos else "unav100.csv")
    parser.add_argument("--videos", action="store_true", help="Make a row of each video in place of each event.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
