"""VGG-SS: boxes around the sound sources in 5 158 test clips of VGGSound.

Source: Chen et al., 2021, https://arxiv.org/abs/2104.02691,
https://github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way.
Files: metadata/vggss.json of that repository, the corrected boxes; results on the first ones differ
by two or three points. The repository's license holds for them; the videos are their owners'.
Expects: vggss.json in ROOT (or ROOT/metadata), and the clips of VGGSound anywhere below ROOT, named as
for datasets/vggsound.py: videos, or the usual layout frames/ID_START.jpg and audio/ID_START.wav.
Run: python datasets/vggss.py /data/vggsound

Test subsets are read with --list: vggss_test.csv, vggss_heard_test.csv, vggss_unheard_test.csv, the 4 655 clips of
SLAVC and others. The pairs of vggss_test_plus_silent.csv that are marked non-sounding become rows without
boxes, in which no map is right (5 158 in the complete file).

Writes truth/vggss/ID_START.json (avssl.data.official.box_truth): one annotator, the boxes of the middle frame,
second 5 of the clip. Two clips have a box without area; they count as failures in the official score.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import entry_value, find_annotation, read_json
from avssl.data.official.box_truth import TruthBox, TruthFrame, unit_box, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.data.official.clip_names import SEGMENT_FORMS
from avssl.data.official.silent_pairs import add_silent_pairs
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

CLIP_SECONDS = 10.0
OFFICIAL = {"test": 5158}
SOURCE = "https://github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the annotated clips."""
    path = find_annotation(annotation_folders(options, "metadata", "annotations"), "vggss.json", source=SOURCE)
    files = ClipFiles(options.root, visible=True)
    lists = lists_of(options, "metadata", "annotations")
    hint = f" Accepted names: {SEGMENT_FORMS}."
    clips = ClipList(options.root, "VGG-SS", OFFICIAL, hint, files=files, lists=lists)
    for number, entry in enumerate(read_json(path, list)):
        name = entry_value(path, number, entry, "file", str)
        label = entry_value(path, number, entry, "class", str)
        boxes = entry_value(path, number, entry, "bbox", list)
        if not re.fullmatch(r"[\w-]{11}_\d{6}", name, flags=re.ASCII):
            raise ManifestError(
                f"{path}: entry {number}: file is {name!r}, expected a name such as MVLEz28ZdFU_000010."
            )
        try:
            frame = TruthFrame(CLIP_SECONDS / 2, [TruthBox(unit_box(box)) for box in boxes])
        except (TypeError, ValueError) as error:
            raise ManifestError(f"{path}: entry {number}: bbox is {boxes!r}, expected boxes ({error}).") from error
        start = float(name[12:])
        match = files.segment(name[:11], start)
        clips.add(
            name,
            match,
            label=label,
            split="test",
            span=(start, start + CLIP_SECONDS) if match.whole and options.untrimmed else None,
            truth=write_boxes(options.root, "vggss", name, [frame]) if match.path else None,
        )
    add_silent_pairs(clips, "vggss", CLIP_SECONDS / 2, lambda key: _find(files, key))
    return clips


def _find(files: ClipFiles, key: str) -> Match:
    video, _, second = key.partition("@")
    return files.segment(video, float(second or 0))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest and the boxes."""
    return run_script(script_parser(__doc__, "vggss.csv", segments=True), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
