"""VGGSound: ten-second pieces of YouTube videos of 309 classes of sounding objects that are visible.

Source: Chen et al., 2020, https://arxiv.org/abs/2004.14368. Annotations: CC BY 4.0; the videos are
their owners'.
Files: vggsound.csv (YouTube id, start second, label, split; no header), from
https://www.robots.ox.ac.uk/~vgg/data/vggsound/.
Expects: it in ROOT (or ROOT/data), and anywhere below ROOT videos (ID_000030.mp4, ID_30.mp4, ID_30000_40000.mp4,
ID.mp4, see SEGMENT_FORMS), or frames/ID_000030.jpg and audio/ID_000030.wav, or audio alone.
Run: python datasets/vggsound.py /data/vggsound

Training subsets of localization papers are read with --list: vggss_144k.txt and vggss_10k.txt of EZ-VSL and
others. The public vggss_144k.txt holds 3 709 of the 5 158 test clips of VGG-SS; avssl pretrain and
avssl localize-eval print such an overlap.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.clip_names import SEGMENT_FORMS
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

CLIP_SECONDS = 10.0
OFFICIAL = {"train": 183730, "test": 15446}
SPLITS = {"train": "train", "test": "test"}


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all clips."""
    folders = annotation_folders(options, "data", "annotations", "metadata")
    table = find_annotation(folders, "vggsound.csv", source="https://www.robots.ox.ac.uk/~vgg/data/vggsound/")
    files, lists = ClipFiles(options.root), lists_of(options, "data", "annotations", "metadata")
    hint = f" Accepted names: {SEGMENT_FORMS}."
    clips = ClipList(options.root, "VGGSound", OFFICIAL, hint, files=files, lists=lists)
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
