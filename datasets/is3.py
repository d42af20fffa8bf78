"""IS3: 3 240 generated images with two sounding objects each, so 6 480 pairs of image and audio.

Source: Senocak et al., 2024, https://arxiv.org/abs/2407.13676, https://github.com/kaistmm/SSLalignment.
No license is given.
Files: the IS3 archive of that page (visual_frames, audio_wav, gt_masks), and synthetic3240_bbox.json from
its folder metadata.
Expects: the JSON file in ROOT (or ROOT/metadata), and anywhere below ROOT the three folders, or frames/NAME.jpg
and audio/NAME.wav. Two of the names hold spaces.
Run: python datasets/is3.py /data/is3

``path`` is the image, ``audio_path`` the audio of one of its objects, ``label`` the object and ``pair``
the same for the two rows of an image: both must be found (IIoU). Writes truth/is3/NAME.json
(avssl.data.official.box_truth) with the box, from 224-pixel coordinates, and the mask if it exists.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avssl.core.manifest import ManifestError
from avssl.data.media_files import IMAGE_EXTENSIONS
from avssl.data.official.annotations import find_annotation
from avssl.data.official.box_truth import TruthFrame, write_boxes
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.pair_boxes import SOURCE, read_pairs
from avssl.data.official.pair_files import PairFiles
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"test": 6480}


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all pairs."""
    path = find_annotation(annotation_folders(options, "metadata"), "synthetic3240_bbox.json", source=SOURCE)
    files, masks = PairFiles(options.root), ClipFiles(options.root, IMAGE_EXTENSIONS)
    clips = ClipList(options.root, "IS3", OFFICIAL, files=files.all, lists=lists_of(options, "metadata"))
    for entry in read_pairs(path):
        name = entry.image.stem
        pair, _, label = name.rpartition("_")
        if not pair or not label:
            where = f"{path}: entry {entry.number}"
            raise ManifestError(f"{where}: image is {entry.image.name!r}, expected A_B_NUMBER_LABEL.jpg.")
        match = files.find(entry)
        truth = None
        if match.path:
            mask = masks.named(f"gt_masks/{entry.image.name}", same_folder=True)
            truth = write_boxes(options.root, "is3", name, [TruthFrame(None, entry.boxes, mask=mask.path)])
        clips.add(name, match, label=label, split="test", truth=truth, pair=pair)
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest and the boxes."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
