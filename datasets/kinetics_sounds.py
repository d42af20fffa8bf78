"""Kinetics-Sounds: the classes of Kinetics-400 that can be seen and heard.

Source: Arandjelovic and Zisserman, 2017, https://arxiv.org/abs/1705.08168, section 4. They chose 34
classes of an early Kinetics, about 19 000 clips. There is no file: the set is made of Kinetics-400,
where two of the 34 are gone (typing, patting) and some have other names. Both lists in use are here:
31 classes (AdaMML, https://github.com/IBM/AdaMML/issues/3) and 32 with "strumming guitar" for
fingerpicking (CrissCross, https://github.com/pritamqu/CrissCross/issues/4).
Annotations: CC BY 4.0; the videos are their owners'.
Expects: what datasets/kinetics.py expects of Kinetics-400; other clips may be missing.
Run: python datasets/kinetics_sounds.py /data/k400 --classes 32

The split of OGM-GE (https://github.com/GeWu-Lab/OGM-GE_CVPR2022, data/kinect_sound: 14 799 clips for training and
2 597 for testing) is a list of its own, which is read in place of the classes:
python datasets/kinetics_sounds.py /data/k400 --list train=my_train.txt test=my_test.txt
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kinetics import clips_of

from avssl.core.manifest import ManifestError
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import run_script, script_parser

CLASSES = frozenset(
    """blowing nose, blowing out candles, bowling, chopping wood, dribbling basketball, laughing, mowing lawn,
    playing accordion, playing bagpipes, playing bass guitar, playing clarinet, playing drums, playing guitar,
    playing harmonica, playing keyboard, playing organ, playing piano, playing saxophone, playing trombone,
    playing trumpet, playing violin, playing xylophone, ripping paper, shoveling snow, shuffling cards, singing,
    stomping grapes, strumming guitar, tap dancing, tapping guitar, tapping pen, tickling""".replace("\n   ", "").split(
        ", "
    )
)
"""The 32 classes."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the clips of these classes in all splits of Kinetics-400, or those of the lists."""
    if options.list:
        if options.classes:
            raise ManifestError("--list names the clips, so --classes has no meaning with it. Leave one out.")
        return clips_of(options, "Kinetics-Sounds, listed clips", {})
    number = options.classes or "32"
    classes = CLASSES if number == "32" else CLASSES - {"strumming guitar"}
    return clips_of(options, f"Kinetics-Sounds, {number} classes", {}, classes)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__, "kinetics_sounds.csv", segments=True)
    parser.add_argument("--classes", choices=("31", "32"), help="Which of the two lists of classes; default: 32.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
