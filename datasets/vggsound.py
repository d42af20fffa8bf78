"""VGGSound: ten-second pieces of YouTube videos of 309 classes of sounding objects that are visible.

Source: Chen et al., 2020, https://arxiv.org/abs/2004.14368. Annotations: CC BY 4.0; the videos are
their owners'.
Files: vggsound.csv (YouTube id, start second, label, split; no header), from
https://www.robots.ox.ac.uk/~vgg/data/vggsound/.
Expects: it in ROOT (or ROOT/data) and videos anywhere below ROOT: ID_000030.mp4, ID_30.mp4,
ID_30000_40000.mp4, ID.mp4 (see SEGMENT_FORMS).
Run: python datasets/vggsound.py /data/vggsound
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.clip_files import SEGMENT_FORMS, ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, run_script, script_parser

CLIP_SECONDS = 10.0
OFFICIAL = {"train": 183730, "test": 15446}
SPLITS = {"train": "train", "test": "test"}


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all clips."""
    folders = annotation_folders(options, "data", "annotations", "metadata")
    table = find_annotation(folders, "vggsound.csv", source="https://www.robots.ox.ac.uk/~vgg/data/vggsound/")
    clips = ClipList(options.root, "VGGSound", OFFICIAL, f" Accepted names: {SEGMENT_FORMS}.")
    files = ClipFiles(options.root)
    for line in read_table(table, ["youtube_id", "start_seconds", "label", "split"], header=False):
        video, start = line["youtube_id"], line.seconds("start_seconds")
        match = files.segment(video, start)
        clips.add(
            f"{video}_{start:06.0f}",
            match,
            label=line["label"],
            split=line.one_of("split", SPLITS),
            span=(start, start + CLIP_SECONDS) if match.whole and options.untrimmed else None,
        )
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__, segments=True), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
