"""VGGSounder: the test clips of VGGSound labeled anew: several labels, each heard, seen or both.

Source: Zverev et al., 2025, https://arxiv.org/abs/2508.08237, https://github.com/Bizilizi/VGGSounder. Apache-2.0; the
videos are their owners'.
Files: vggsounder.csv (video_id, label, modality, background_music, static_image, voice_over; a row for each label), in
that repository and in the Python package: pip download --no-deps vggsounder.
Expects: it, or the downloaded vggsounder-*.whl, in ROOT (or ROOT/data), or the package installed; and the clips of
VGGSound anywhere below ROOT, named as for datasets/vggsound.py.
Run: python datasets/vggsounder.py /data/vggsound

``label`` holds all labels of a clip, ``audio_labels`` those that are heard and ``visual_labels`` those that are seen:
avssl probe --label-column audio_labels --multi-label. ``background_music``, ``static_image`` and ``voice_over`` are
True or False. 12 014 clips, as the authors evaluate; --background-music adds 3 055 with music that is not
seen. The labels are those of version 1.0; older ones have other clips, which the line "official" shows.
"""

from __future__ import annotations

import argparse
import re
import sys
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from avssl.core.manifest import ManifestError
from avssl.core.user_files import open_regular
from avssl.data.official.annotations import Line, look_for_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.clip_names import SEGMENT_FORMS
from avssl.data.official.events import labels_text
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

OFFICIAL = {"vggsounder.csv": 12014, "vggsounder+background-music.csv": 15069}
MODALITIES = {"A": "A", "V": "V", "AV": "AV"}
ABOUT = ("background_music", "static_image", "voice_over")
TRUTH = {"True": "True", "False": "False"}
COLUMNS = ["video_id", "label", "modality", *ABOUT]
MAX_BYTES = 1 << 26
"""Largest table that is read from a wheel; that of version 1.0 has 2 MB."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all clips."""
    name = "vggsounder+background-music.csv" if options.background_music else "vggsounder.csv"
    labels: dict[str, list[Line]] = defaultdict(list)
    for line in read_labels(annotation_folders(options, "data", "annotations", "metadata"), name):
        if not re.fullmatch(r"[\w-]{11}_\d{6}", line["video_id"], flags=re.ASCII):
            raise line.wrong("video_id", "ID_START, such as 0-I1rSi0-6c_000030")
        labels[line["video_id"]].append(line)
    files, lists = ClipFiles(options.root), lists_of(options, "data", "annotations", "metadata")
    hint = f" Accepted names: {SEGMENT_FORMS}."
    clips = ClipList(options.root, "VGGSounder", {"test": OFFICIAL[name]}, hint, files=files, lists=lists)
    for clip, lines in labels.items():
        modalities = [line.one_of("modality", MODALITIES) for line in lines]
        each = list(zip(lines, modalities, strict=True))
        about: dict[str, Any] = {column: lines[0].one_of(column, TRUTH) for column in ABOUT}
        clips.add(
            clip,
            files.segment(clip[:11], float(clip[12:])),
            label=[line["label"] for line in lines],
            split="test",
            audio_labels=labels_text(line["label"] for line, modality in each if "A" in modality),
            visual_labels=labels_text(line["label"] for line, modality in each if "V" in modality),
            **about,
        )
    return clips


def read_labels(folders: Sequence[Path], name: str) -> Iterator[Line]:
    """Read the labels from a file in one of the folders, from a wheel there, or from the installed package."""
    if path := look_for_annotation(folders, name):
        return read_table(path, COLUMNS)
    for folder in folders:
        for wheel in sorted(folder.glob("vggsounder-*.whl"), reverse=True):
            return read_table(wheel / name, COLUMNS, content=content_of(wheel, f"vggsounder/data/{name}"))
    with suppress(PackageNotFoundError):  # no import: it would find this script
        installed = Path(str(distribution("vggsounder").locate_file("vggsounder/data")))
        if path := look_for_annotation([installed], name):
            return read_table(path, COLUMNS)
    raise ManifestError(
        f"neither {name} nor vggsounder-*.whl is in {', '.join(map(str, folders))}, and no package vggsounder is "
        f"installed. Get it there with: pip download --no-deps vggsounder -d {folders[0]}"
    )


def content_of(wheel: Path, name: str) -> bytes:
    """Return the content of a file in a wheel; raise ManifestError if it is not there, or too large."""
    try:
        with open_regular(wheel) as file, zipfile.ZipFile(file) as archive, archive.open(name) as member:
            content = member.read(MAX_BYTES + 1)
    except (KeyError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ManifestError(f"{wheel}: {name} cannot be read from it ({error}). Download it again.") from error
    if len(content) > MAX_BYTES:
        raise ManifestError(f"{wheel}: {name} holds more than {MAX_BYTES} bytes. Is it the right file?")
    return content


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__, "vggsounder_test.csv")
    parser.add_argument(
        "--background-music", action="store_true", help="Also take the clips with background music: 15 069 in all."
    )
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
