"""IS3: 3 240 generated images with two sounding objects each, so 6 480 pairs of image and audio.

Source: Senocak et al., 2024, https://arxiv.org/abs/2407.13676, https://github.com/kaistmm/SSLalignment.
No license is given.
Files: the IS3 archive of that page (visual_frames, audio_wav, gt_masks), and synthetic3240_bbox.json from
its folder metadata.
Expects: the JSON file in ROOT (or ROOT/metadata), and the three folders anywhere below ROOT.
Run: python datasets/is3.py /data/is3

``path`` is the image, ``audio_path`` the audio of one of its objects, ``label`` the object and ``pair``
the same for the two rows of an image: both must be found (IIoU). Writes truth/is3/NAME.json
(avssl.data.official.box_truth) with the box, from 224-pixel coordinates, and the mask if it exists.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import PurePosixPath

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import entry_value, find_annotation, read_json
from avssl.data.official.box_truth import TruthBox, TruthFrame, unit_box, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, run_script, script_parser

OFFICIAL = {"test": 6480}
IMAGE_SIZE = 224
"""Size of the images that the coordinates refer to, in pixels."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all pairs."""
    folders = annotation_folders(options, "metadata")
    source = "https://github.com/kaistmm/SSLalignment"
    path = find_annotation(folders, "synthetic3240_bbox.json", source=source)
    clips = ClipList(options.root, "IS3", OFFICIAL)
    images, audio_files = ClipFiles(options.root, {".jpg", ".png"}), ClipFiles(options.root, {".wav"})
    for number, entry in enumerate(read_json(path, list)):
        # The paths are those of the authors' machine; folder and name are the same everywhere.
        image = PurePosixPath(entry_value(path, number, entry, "image", str))
        audio = PurePosixPath(entry_value(path, number, entry, "audio", str))
        corners = entry_value(path, number, entry, "gt_box", list)
        pair, _, label = image.stem.rpartition("_")
        if not pair or not label:
            raise ManifestError(f"{path}: entry {number}: image is {image.name!r}, expected A_B_NUMBER_LABEL.jpg.")
        try:
            box = TruthBox(unit_box(corners, IMAGE_SIZE, IMAGE_SIZE))
        except (TypeError, ValueError) as error:
            raise ManifestError(f"{path}: entry {number}: gt_box is {corners!r} ({error}).") from error
        match = images.named(f"visual_frames/{image.name}", same_folder=True)
        audio_match = audio_files.named(f"audio_wav/{audio.name}")
        if match.path and not audio_match.path:
            match = Match(None, audio_match.looked_for, "only its image exists")
        truth = None
        if match.path:
            mask = images.named(f"gt_masks/{image.name}", same_folder=True)
            truth = write_boxes(options.root, "is3", image.stem, [TruthFrame(None, [box], mask=mask.path)])
        clips.add(image.stem, match, label=label, split="test", truth=truth, audio_path=audio_match.path, pair=pair)
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest and the boxes."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
