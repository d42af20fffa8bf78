"""VPO: images of COCO with the audio of VGGSound, one sounding object (VPO-SS) or several (VPO-MS), with boxes.

Source: Chen et al., 2024, https://arxiv.org/abs/2304.02970, https://github.com/cyh-0/CAVP; the boxes are those of
Senocak et al., 2024, https://arxiv.org/abs/2407.13676. No license is given for the boxes.
Files: vpo_ss_bbox.json or vpo_ms_bbox.json of the folder metadata of https://github.com/kaistmm/SSLalignment, and
the images and audio files that they name, COCOID_AUDIOID.jpg and .wav.
Expects: the JSON file in ROOT (or ROOT/metadata), and visual_frames and audio_wav, or frames and audio, anywhere
below ROOT.
Run: python datasets/vpo.py /data/vpo --subset ss

``path`` is the image, ``audio_path`` the audio of one of its objects, and ``pair`` the same for all audio of an
image (IIoU). Writes truth/vpo_ss/NAME.json (avssl.data.official.box_truth), from 224-pixel coordinates. The complete
files have 890 and 2 157 entries; 759 of the 1 432 images of VPO-MS have one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avssl.data.official.annotations import find_annotation
from avssl.data.official.box_truth import TruthFrame, write_boxes
from avssl.data.official.clip_list import ClipList
from avssl.data.official.pair_boxes import SOURCE, read_pairs
from avssl.data.official.pair_files import PairFiles
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"ss": {"test": 890}, "ms": {"test": 2157}}


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all pairs of a subset."""
    subset = options.subset
    path = find_annotation(annotation_folders(options, "metadata"), f"vpo_{subset}_bbox.json", source=SOURCE)
    files, lists = PairFiles(options.root), lists_of(options, "metadata")
    clips = ClipList(options.root, f"VPO-{subset.upper()}", OFFICIAL[subset], files=files.all, lists=lists)
    for entry in read_pairs(path):
        match, name = files.find(entry), entry.image.stem
        truth = None
        if match.path:
            truth = write_boxes(options.root, f"vpo_{subset}", name, [TruthFrame(None, entry.boxes)])
        clips.add(name, match, split="test", truth=truth, pair=name.partition("_")[0])
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest, vpo_ss.csv or vpo_ms.csv, and the boxes."""
    parser = script_parser(__doc__, "vpo_{subset}.csv")
    parser.add_argument("--subset", choices=list(OFFICIAL), default="ss", help="One source, or several.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
