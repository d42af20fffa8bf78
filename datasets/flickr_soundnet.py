"""Flickr-SoundNet, annotated: about 5 000 images with audio and the boxes of three annotators; 250 for testing.

Source: Senocak et al., 2018, https://arxiv.org/abs/1803.03849,
https://github.com/ardasnck/learning_to_localize_sound_source. For research only.
Files: the "Sound Localization Dataset" of that page (Annotations/ID.xml, Data/0 to Data/9 with ID.jpg and
ID.wav), and test_list.txt of the repository, in ROOT. Other test lists work too, with --test-list: 249 or 250 ids
with or without extension, labels or numbers after a comma.
Expects: images and audio files anywhere below ROOT.
Run: python datasets/flickr_soundnet.py /data/flickr_soundnet

``path`` is the image and ``audio_path`` its audio. ``split`` is "test" or "other". Writes
truth/flickr_soundnet/ID.json (avssl.data.official.box_truth) from the 256-pixel coordinates. Every box is one
vote, as in the official score: a pixel in one box counts 0.5, in two or more 1. The files do not tell
reliably who drew a box, so ``annotator`` is its number in the file.

--list takes the clips of published lists, with or without boxes: the training lists flickr_10k.txt and
flickr_144k.txt (Flickr_train_144k.txt) as train=FILE, for which no annotations are needed, and
flickr_test_plus_silent.csv, whose non-sounding pairs become rows without boxes (250 in the complete file). The
public flickr_144k list holds 20 of the 250 test clips; avssl pretrain and avssl localize-eval print such an overlap.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import look_for_annotation, read_xml
from avssl.data.official.box_truth import TruthBox, TruthFrame, unit_box, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.data.official.published_list import read_list
from avssl.data.official.silent_pairs import add_silent_pairs
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"test": 250}
SOURCE = "https://github.com/ardasnck/learning_to_localize_sound_source"
FOLDER = "flickr_soundnet"
IMAGE_SIZE = 256
"""Size that the coordinates refer to, in pixels, whatever the size of the image."""
NUM_ANNOTATORS = 3


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all annotated pairs, or those of the lists."""
    folders = annotation_folders(options, "metadata")
    lists = lists_of(options, "metadata")
    annotations = sorted(path for folder in folders for path in (folder / "Annotations").glob("*.xml"))
    files = ClipFiles(options.root, visible=True)
    clips = ClipList(options.root, "Flickr-SoundNet", OFFICIAL, files=files, lists=lists)
    test_ids = ids_of(options, folders, needed=not lists)
    if not annotations and not lists:
        raise ManifestError(f"no Annotations/*.xml in {', '.join(map(str, folders))}. Get them from {SOURCE}.")
    for annotation in annotations:
        name = annotation.stem
        match = files.named(f"{name}.jpg")
        truth = None
        if match.path:
            boxes = boxes_of(annotation)
            frame = TruthFrame(None, boxes)
            truth = write_boxes(options.root, FOLDER, name, [frame], max(NUM_ANNOTATORS, len(boxes)))
        clips.add(name, match, split="test" if name in test_ids else "other", truth=truth)
    for each in lists:  # most clips that are trained on have no annotation
        for clip in each.keys.values():
            if clip.key not in each.known and clip.key.isdigit():
                clips.add(clip.key, files.named(f"{clip.key}.jpg"), split="test" if clip.key in test_ids else "other")
    add_silent_pairs(clips, FOLDER, None, lambda key: files.named(f"{key}.jpg"))
    for name in sorted(test_ids) if not lists else ():
        if name not in clips:
            clips.add(name, Match(None, f"Annotations/{name}.xml"), split="test")
    return clips


def ids_of(options: argparse.Namespace, folders: Sequence[Path], *, needed: bool) -> Collection[str]:
    """Read the ids of the test list; empty if it is not there and not needed."""
    path = look_for_annotation(folders, options.test_list)
    if path is None:
        if needed:
            places = ", ".join(map(str, folders))
            raise ManifestError(f"{options.test_list} is not in {places}. Get it from {SOURCE}.")
        return ()
    ids = read_list(path).keys
    if wrong := sorted(name for name in ids if not name.isdigit()):
        raise ManifestError(f"{path}: {wrong[0]!r} is not an id such as 2499673064.")
    return ids.keys()


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
