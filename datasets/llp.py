"""LLP (AVVP): 11 849 ten-second videos whose audible and visible events of 25 classes are labeled apart.

Source: Tian et al., 2020, https://arxiv.org/abs/2007.10558, https://github.com/YapengTian/AVVP-ECCV20. No license is
given; the videos are their owners'.
Files: the folder data of that repository: AVVP_train.csv, AVVP_val_pd.csv and AVVP_test_pd.csv (tabs; filename and
event_labels), and AVVP_eval_audio.csv and AVVP_eval_visual.csv (tabs; filename, onset, offset and event_labels).
Expects: these in ROOT or ROOT/data, and anywhere below ROOT videos named as for datasets/vggsound.py, such as
4YdbENYcIyE_23_33.mp4 or 4YdbENYcIyE.mp4; or frames/NAME.jpg and audio/NAME.wav.
Run: python datasets/llp.py /data/LLP

``label`` holds all events of a video, as weakly as they are known in training: use --multi-label. The videos of val and
test also have ``audio_events`` and ``visual_events`` with their seconds, such as "Speech 0-8|Blender 8-10", and the
labels of each, ``audio_labels`` and ``visual_labels``.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from avssl.data.official.annotations import Line, find_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.clip_names import SEGMENT, SEGMENT_FORMS, seconds_of
from avssl.data.official.events import Event, events_text, labels_text
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"train": 10000, "val": 649, "test": 1200}
TABLES = {"train": "AVVP_train.csv", "val": "AVVP_val_pd.csv", "test": "AVVP_test_pd.csv"}
SOURCE = "https://github.com/YapengTian/AVVP-ECCV20"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all videos."""
    folders = annotation_folders(options, "data")
    heard = read_events(find_annotation(folders, "AVVP_eval_audio.csv", source=SOURCE))
    seen = read_events(find_annotation(folders, "AVVP_eval_visual.csv", source=SOURCE))
    files, lists = ClipFiles(options.root), lists_of(options, "data")
    hint = f" Accepted names: {SEGMENT_FORMS}."
    clips = ClipList(options.root, "LLP", OFFICIAL, hint, files=files, lists=lists)
    for split, name in TABLES.items():
        table = find_annotation(folders, name, source=SOURCE)
        for line in read_table(table, ["filename", "event_labels"], delimiter="\t"):
            video, start, stop = segment_of(line)
            match = files.segment(video, start)
            clips.add(
                line["filename"],
                match,
                label=line["event_labels"].split(","),
                split=split,
                span=(start, stop) if match.whole and options.untrimmed else None,
                **columns_of("audio", heard.get(line["filename"], [])),
                **columns_of("visual", seen.get(line["filename"], [])),
            )
    return clips


def segment_of(line: Line) -> tuple[str, float, float]:
    """Return YouTube id, start and stop of a name such as 4YdbENYcIyE_23_33."""
    parts = SEGMENT.fullmatch(line["filename"])
    if parts is None or parts["stop"] is None:
        raise line.wrong("filename", "ID_START_STOP, such as 4YdbENYcIyE_23_33")
    return parts["id"], seconds_of(parts["start"], parts["stop"]), float(parts["stop"])


def read_events(path: Path) -> dict[str, list[Event]]:
    """Read name → events of a table with onset and offset."""
    found: dict[str, list[Event]] = defaultdict(list)
    for line in read_table(path, ["filename", "onset", "offset", "event_labels"], delimiter="\t"):
        start, stop = line.seconds("onset"), line.seconds("offset")
        if stop <= start:
            raise line.wrong("offset", f"a number above onset, {start:g}")
        found[line["filename"]].append((line["event_labels"], start, stop))
    return found


def columns_of(modality: str, events: Sequence[Event]) -> dict[str, Any]:
    """Return the columns with the events and labels of a modality."""
    labels = labels_text(label for label, _, _ in events)
    return {f"{modality}_labels": labels, f"{modality}_events": events_text(events)}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__, segments=True), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
