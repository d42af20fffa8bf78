"""Kinetics-400, 600, 700 and 700-2020: clips of about ten seconds of YouTube videos, one human action each.

Source: Kay et al., 2017, https://arxiv.org/abs/1705.06950; Carreira et al., 2018 (600),
https://arxiv.org/abs/1808.01340; 2019 (700), https://arxiv.org/abs/1907.06987; Smaira et al., 2020
(700-2020), https://arxiv.org/abs/2010.10864. Annotations: CC BY 4.0; the videos are their owners'.
Files: https://github.com/cvdfoundation/kinetics-dataset (train.csv, val.csv, test.csv and the clips),
or DeepMind's kinetics400.tar.gz and so on (train.csv, validate.csv, test.csv).
Expects: the official CSV files in ROOT or ROOT/annotations, and clips anywhere below ROOT:
ID_000001_000011.mp4, ID_1.mp4, ID.mp4 (see SEGMENT_FORMS), in folders of splits, classes or none.
Clips below a folder replacement* come before corrupt files of the same name.
Run: python datasets/kinetics.py /data/k400 --version 400
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence

from avssl.data.official.annotations import find_annotation, look_for_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.clip_names import SEGMENT_FORMS
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

FILES = {"train": ("train.csv",), "val": ("val.csv", "validate.csv"), "test": ("test.csv",)}
"""Split -> names of its official file."""

OFFICIAL: dict[str, dict[str, int]] = {
    "400": {"train": 246534, "val": 19906, "test": 39805},
    "600": {"train": 427549, "val": 30000, "test": 72924},
    "700": {},
    "700-2020": {"train": 542352, "val": 34125, "test": 67433},
}
"""Version -> clips of each split, where known. datasets/README.md says where from."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the clips of one version."""
    return clips_of(options, f"Kinetics-{options.version}", OFFICIAL[options.version])


def clips_of(
    options: argparse.Namespace, title: str, expected: Mapping[str, int], classes: Collection[str] | None = None
) -> ClipList:
    """Collect the clips of the splits whose files exist; only those of some classes, if given."""
    folders = annotation_folders(options, "annotations")
    tables = {split: look_for_annotation(folders, *names) for split, names in FILES.items()}
    if not any(tables.values()):
        names = [name for alternatives in FILES.values() for name in alternatives]
        find_annotation(folders, *names, source="https://github.com/cvdfoundation/kinetics-dataset")
    files, hint = ClipFiles(options.root), f" Accepted names: {SEGMENT_FORMS}."
    clips = ClipList(options.root, title, expected, hint, files=files, lists=lists_of(options, "annotations"))
    unlabeled = 0
    for split, table in tables.items():
        if table is None:
            print(f"note: no {' or '.join(FILES[split])}, so no clips of the split {split}")
            continue
        # The test labels were held out during the challenges, and such files are still about.
        required = ["youtube_id", "time_start", "time_end"] + (["label"] if split != "test" else [])
        for line in read_table(table, required):
            video, start, stop = line["youtube_id"], line.seconds("time_start"), line.seconds("time_end")
            if stop <= start:
                raise line.wrong("time_end", f"more than time_start ({start:g})")
            label = line["label"] if split != "test" else line.cells.get("label") or None
            unlabeled += label is None
            if classes is not None and label not in classes:
                continue
            match = files.segment(video, start)
            span = (start, stop) if match.whole and options.untrimmed else None
            clips.add(f"{video}_{start:06.0f}_{stop:06.0f}", match, label=label, split=split, span=span)
    if unlabeled:
        print(f"note: {unlabeled} test clips have no label; evaluate on val: avssl probe ... --test-split val")
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__, segments=True)
    parser.add_argument("--version", choices=sorted(OFFICIAL), default="400", help="Sets the official counts.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
