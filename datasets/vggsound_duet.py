"""VGGSound-Duet: mixtures of two clips of VGG-SS, each of which must be found in its own frame.

Source: Mo and Tian, 2023, https://arxiv.org/abs/2303.17056, https://github.com/stoneMo/AVGN. No license is given.
Files: vggsound_duet_test.csv of the folder metadata of that repository (name1,class1,name2,class2; no header), and
vggss.json, as for datasets/vggss.py.
Expects: both in ROOT (or ROOT/metadata), and the clips of VGGSound anywhere below ROOT, named as for
datasets/vggsound.py: videos, or frames/ID_START.jpg and audio/ID_START.wav.
Run: python datasets/vggsound_duet.py /data/vggsound

Each line becomes two rows: the frame of one clip, with its audio and that of the other (``mixed_audio_path``) added at
the same second, as in the released loader. ``duet`` is the same for both. Writes truth/vggsound_duet/NAME.json with the
boxes of VGG-SS, labeled with their class; avssl localize-eval then reports CIoU@0.3, AUC, CAP and PIAP of the sources.
The complete list has 5 158 lines.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import entry_value, find_annotation, read_json, read_table
from avssl.data.official.box_truth import TruthBox, TruthFrame, unit_box, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.data.official.clip_names import SEGMENT_FORMS
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

CLIP_SECONDS = 10.0
OFFICIAL = {"test": 2 * 5158}
SOURCE = "https://github.com/stoneMo/AVGN"
BOX_SOURCE = "https://github.com/hche11/Localizing-Visual-Sounds-the-Hard-Way"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect both clips of each mixture."""
    folders = annotation_folders(options, "metadata", "annotations")
    boxes = read_boxes(find_annotation(folders, "vggss.json", source=BOX_SOURCE))
    files = ClipFiles(options.root, visible=True)
    hint = f" Accepted names: {SEGMENT_FORMS}."
    lists = lists_of(options, "metadata", "annotations")
    clips = ClipList(options.root, "VGGSound-Duet", OFFICIAL, hint, files=files, lists=lists)
    table = find_annotation(folders, "vggsound_duet_test.csv", source=SOURCE)
    for line in read_table(table, ["name1", "class1", "name2", "class2"], header=False):
        names = [line["name1"], line["name2"]]
        for column in ("name1", "name2"):
            if line[column] not in boxes:
                raise line.wrong(column, "a clip of vggss.json")
        for own, other, label in ((*names, line["class1"]), (*reversed(names), line["class2"])):
            match, mixed = find(files, own), find(files, other)
            sound = mixed.audio_path or mixed.path
            if match.path and not sound:
                match = Match(None, mixed.looked_for, f"the other clip of the mixture: {mixed.reason}")
            key, truth = f"{own}+{other}", None
            if match.path:
                frame = TruthFrame(CLIP_SECONDS / 2, [TruthBox(box, label=label) for box in boxes[own]])
                truth = write_boxes(options.root, "vggsound_duet", key, [frame])
            clips.add(
                key,
                match,
                label=label,
                split="test",
                row_id=f"{match.path}+{other}",
                truth=truth,
                mixed_audio_path=sound,
                duet="+".join(names),
            )
    return clips


def read_boxes(path: Path) -> dict[str, list[tuple[float, float, float, float]]]:
    """Read name → boxes of VGG-SS."""
    found = {}
    for number, entry in enumerate(read_json(path, list)):
        name = entry_value(path, number, entry, "file", str)
        corners = entry_value(path, number, entry, "bbox", list)
        if not re.fullmatch(r"[\w-]{11}_\d{6}", name, flags=re.ASCII):
            raise ManifestError(f"{path}: entry {number}: file is {name!r}, expected such as MVLEz28ZdFU_000010.")
        try:
            found[name] = [unit_box(box) for box in corners]
        except (TypeError, ValueError) as error:
            raise ManifestError(f"{path}: entry {number}: bbox is {corners!r}, expected boxes ({error}).") from error
    return found


def find(files: ClipFiles, name: str) -> Match:
    """Find a clip of VGG-SS, such as MVLEz28ZdFU_000010."""
    return files.segment(name[:11], float(name[12:]))


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest and the boxes."""
    return run_script(script_parser(__doc__, "vggsound_duet.csv"), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
