"""AudioSet: ten-second pieces of YouTube videos with the sounds that are heard in them.

Source: Gemmeke et al., 2017, https://research.google.com/audioset/. Annotations: CC BY 4.0; the videos
are their owners'.
Files: balanced_train_segments.csv, unbalanced_train_segments.csv, eval_segments.csv and
class_labels_indices.csv, from https://research.google.com/audioset/download.html.
Expects: these in ROOT (or ROOT/annotations, ROOT/metadata) and videos anywhere below ROOT:
ID_30.000.mp4, ID_30000_40000.mp4, YID.mp4 (see SEGMENT_FORMS). Link rot takes a tenth or more.
Run: python datasets/audioset.py /data/audioset --subset balanced eval

"unbalanced-100k" is a fixed part of the unbalanced set for smaller experiments: the 100 000 segments
whose video ids have the smallest SHA-256 digests (of the id in ASCII, compared as bytes). It depends on
the official file alone, so it is the same everywhere, whatever has been downloaded. It is not the list
of 100 000 that the AVID paper used; that comes under a non-commercial license.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from avssl.data.official.annotations import Line, find_annotation, read_table
from avssl.data.official.clip_files import SEGMENT_FORMS, ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, run_script, script_parser

SOURCE = "https://research.google.com/audioset/download.html"

NUM_SAMPLES = 100_000
"""Of unbalanced-100k."""

SUBSETS = {
    "balanced": ("balanced_train_segments.csv", "train", 22160),
    "unbalanced": ("unbalanced_train_segments.csv", "train", 2041789),
    "unbalanced-100k": ("unbalanced_train_segments.csv", "train", NUM_SAMPLES),
    "eval": ("eval_segments.csv", "test", 20371),
}
"""Name -> official file, the split it becomes, its number of segments."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the segments of the subsets, with their display names as labels."""
    folders = annotation_folders(options, "annotations", "metadata")
    names = class_names(find_annotation(folders, "class_labels_indices.csv", source=SOURCE))
    expected: dict[str, int] = {}
    for subset in options.subset:
        _, split, count = SUBSETS[subset]
        expected[split] = expected.get(split, 0) + count
    title = f"AudioSet {' + '.join(options.subset)}"
    clips = ClipList(options.root, title, expected, f" Accepted names: {SEGMENT_FORMS}.")
    files = ClipFiles(options.root)
    for subset in options.subset:
        name, split, _ = SUBSETS[subset]
        for line in segments(find_annotation(folders, name, source=SOURCE), sample=subset == "unbalanced-100k"):
            video, start, stop = line["YTID"], line.seconds("start_seconds"), line.seconds("end_seconds")
            if stop <= start:
                raise line.wrong("end_seconds", f"more than start_seconds ({start:g})")
            match = files.segment(video, start)
            clips.add(
                f"{video}_{start:.3f}",
                match,
                label=labels(line, names),
                split=split,
                span=(start, stop) if match.whole and options.untrimmed else None,
                subset=subset,
            )
    return clips


def class_names(path: Path) -> dict[str, str]:
    """Read machine id → display name, such as /m/0284vy3 → Train horn."""
    return {line["mid"]: line["display_name"] for line in read_table(path, ["index", "mid", "display_name"])}


def segments(path: Path, *, sample: bool) -> Iterable[Line]:
    """Read the lines of a segments file; for a sample, those with the smallest digests, in the order of the file."""
    columns = ["YTID", "start_seconds", "end_seconds", "positive_labels"]
    lines = read_table(path, columns, header=False, comment="#")
    if not sample:
        return lines
    chosen = heapq.nsmallest(NUM_SAMPLES, lines, key=lambda line: hashlib.sha256(line["YTID"].encode()).digest())
    return sorted(chosen, key=lambda line: line.number)


def labels(line: Line, names: dict[str, str]) -> list[str]:
    """Return the display names of the labels of a segment."""
    machine_ids = line["positive_labels"].split(",")
    if any(machine_id not in names for machine_id in machine_ids):
        raise line.wrong("positive_labels", "ids of class_labels_indices.csv")
    return [names[machine_id] for machine_id in machine_ids]


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__, segments=True)
    parser.add_argument(
        "--subset", nargs="+", choices=list(SUBSETS), default=["balanced", "eval"], help="One or several."
    )
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
