"""UrbanSound8K: 8 732 urban sounds of up to four seconds, of ten classes in ten folds. Audio only.

Source: Salamon et al., 2014, https://urbansounddataset.weebly.com/urbansound8k.html. CC BY-NC 3.0.
Files: UrbanSound8K.tar.gz: metadata/UrbanSound8K.csv (slice_file_name, fsID, start, end, salience, fold, classID,
class) and audio/fold1 to audio/fold10.
Expects: ROOT is the unpacked archive.
Run: python datasets/urbansound8k.py /data/UrbanSound8K

``fold`` is 1 to 10; the official protocol tests on each of them in turn: avssl probe --fold-column fold. Slices of one
recording (``recording``, the fsID) are in one fold.
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

FOLDS = {str(fold): str(fold) for fold in range(1, 11)}
SOURCE = "https://urbansounddataset.weebly.com/urbansound8k.html"


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all slices."""
    table = find_annotation(annotation_folders(options, "metadata"), "UrbanSound8K.csv", source=SOURCE)
    files, lists = ClipFiles(options.root, AUDIO_EXTENSIONS), lists_of(options, "metadata")
    clips = ClipList(options.root, "UrbanSound8K", {"": 8732}, files=files, lists=lists)
    for line in read_table(table, ["slice_file_name", "fsID", "fold", "class"]):
        fold, name = line.one_of("fold", FOLDS), line["slice_file_name"]
        match = files.named(f"fold{fold}/{name}")
        clips.add(name, match, label=line["class"], fold=fold, recording=line["fsID"])
    return clips


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    return run_script(script_parser(__doc__), collect, argv)


if __name__ == "__main__":
    sys.exit(main())
