"""FSD50K: 51 197 recordings of Freesound with one or several of 200 classes of AudioSet. Audio only.

Source: Fonseca et al., 2022, https://arxiv.org/abs/2010.00475, https://zenodo.org/records/4060432. CC BY 4.0; each
recording has a license of its own.
Files: FSD50K.ground_truth (dev.csv with fname, labels, mids and split; eval.csv with fname, labels and mids),
FSD50K.dev_audio and FSD50K.eval_audio.
Expects: these three folders in ROOT.
Run: python datasets/fsd50k.py /data/FSD50K

``split`` is train, val (both of the dev set) or test (the eval set). Most recordings have several labels: avssl
finetune reads them with --labels.multi-label, and avssl probe with --multi-label; both then report mAP.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avssl.data.media_files import AUDIO_EXTENSIONS
from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"train": 36796, "val": 4170, "test": 10231}
SPLITS = {"train": "train", "val": "val"}
SOURCE = "https://zenodo.org/records/4060432"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the recordings of both sets."""
    folders = annotation_folders(options, "FSD50K.ground_truth")
    files = ClipFiles(options.root, AUDIO_EXTENSIONS)
    clips = ClipList(options.root, "FSD50K", OFFICIAL, files=files, lists=lists_of(options, "FSD50K.ground_truth"))
    for part in ("dev", "eval"):
        columns = ["fname", "labels"] + (["split"] if part == "dev" else [])
        for line in read_table(find_annotation(folders, f"{part}.csv", source=SOURCE), columns):
            split = line.one_of("split", SPLITS) if part == "dev" else "test"
            match = files.named(f"FSD50K.{part}_audio/{line['fname']}.wav")
            clips.add(line["fname"], match, label=line["labels"].split(","), split=split)
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
