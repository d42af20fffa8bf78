"""Flickr-SoundNet, annotated: about 5 000 images with audio and the boxes of three annotators; 250 for testing.

Source: Senocak et al., 2018, https://arxiv.org/abs/1803.03849,
https://github.com/ardasnck/learning_to_localize_sound_source. For research only.
Files: the "Sound Localization Dataset" of that page (Annotations/ID.xml, Data/0 to Data/9 with ID.jpg and
ID.wav), and test_list.txt of the repository, in ROOT. Other lists work too, with --test-list: the id is
what stands before the first comma or dot, so flickr_test.csv of later papers can be read.
Expects: images and audio files anywhere below ROOT.
Run: python datasets/flickr_soundnet.py /data/flickr_soundnet

``path`` is the image and ``audio_path`` its audio. ``split`` is "test" or "other". Writes
truth/flickr_soundnet/ID.json (avssl.data.official.box_truth) from the 256-pixel coordinates. Every box is one
vote, as in the official score: a pixel in one box counts 0.5, in two or more 1. The files do not tell
reliably who drew a box, so ``annotator`` is its number in the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import find_annotation, read_table, read_xml
from avssl.data.official.box_truth import TruthBox, TruthFrame, unit_box, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, run_script, script_parser

OFFICIAL = {"test": 250}
IMAGE_SIZE = 256
"""Size that the coordinates refer to, in pixels, whatever the size of the image."""
NUM_ANNOTATORS = 3


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all annotated pairs."""
    folders = annotation_folders(options, "metadata")
    source = "https://github.com/ardasnck/learning_to_localize_sound_source"
    test_ids = ids_of(find_annotation(folders, options.test_list, source=source))
    annotations = sorted(path for folder in folders for path in (folder / "Annotations").glob("*.xml"))
    if not annotations:
        raise ManifestError(f"no Annotations/*.xml in {', '.join(map(str, folders))}. Get them from {source}.")
    clips = ClipList(options.root, "Flickr-SoundNet", OFFICIAL)
    images, audio_files = ClipFiles(options.root, {".jpg", ".jpeg", ".png"}), ClipFiles(options.root, {".wav"})
    for annotation in annotations:
        name = annotation.stem
        boxes = boxes_of(annotation)
        match, audio = images.named(f"{name}.jpg"), audio_files.named(f"{name}.wav")
        if match.path and not audio.path:
            match = Match(None, f"{name}.wav", "only its image exists")
        truth = None
        if match.path:
            frame = TruthFrame(None, boxes)
            truth = write_boxes(options.root, "flickr_soundnet", name, [frame], max(NUM_ANNOTATORS, len(boxes)))
        split = "test" if name in test_ids else "other"
        clips.add(name, match, split=split, truth=truth, audio_path=audio.path)
    for name in sorted(test_ids):
        if name not in clips:
            clips.add(name, Match(None, f"Annotations/{name}.xml"), split="test")
    return clips


def ids_of(path: Path) -> set[str]:
    """Read the ids of a list: 2499673064.png, or 2858344348,170."""
    lines = read_table(path, ["id"], header=False, delimiter=None)
    ids = {line["id"].split(",")[0].split(".")[0] for line in lines}
    if wrong := sorted(name for name in ids if not name.isdigit()):
        raise ManifestError(f"{path}: {wrong[0]!r} is not an id such as 2499673064.")
    return ids


def boxes_of(path: Path) -> list[TruthBox]:
    """Read the boxes of an annotation file: elements ``bbox`` that end in left, top, right and bottom."""
    boxes = []
    for number, element in enumerate(read_xml(path).iter("bbox")):
        try:
            corners = unit_box([child.text or "" for child in element][-4:], IMAGE_SIZE, IMAGE_SIZE)
        except ValueError as error:
            raise ManifestError(f"{path}: bbox {number} is not four numbers ({error}).") from error
        boxes.append(TruthBox(corners, annotator=number))
    if not boxes:
        raise ManifestError(f"{path}: no element bbox.")
    return boxes


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest and the boxes."""
    parser = script_parser(__doc__)
    parser.add_argument("--test-list", default="test_list.txt", metavar="NAME", help="The file with the test ids.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
