"""GRID: 34 speakers, 1 000 sentences of six words each; video of the face, audio, and the time of every word.

Source: Cooke et al., 2006, https://doi.org/10.1121/1.2229005, https://zenodo.org/records/3625687. CC BY 4.0.
Files: s1.zip to s34.zip (no video of s21) and alignments.zip.
Expects: the videos as sN/NAME.mpg, also deeper in the folder of the speaker or with another extension, and
alignments/sN/NAME.align (or align/NAME.align in the folder of the speaker) anywhere below ROOT.
Run: python datasets/grid.py /data/grid

A sentence is command, color, preposition, letter, digit and adverb, each a column, and the six letters of NAME give it:
bbaf2n is "bin blue at f two now". ``words`` is the sentence, and ``word_seconds`` the spans of its six words, such as
0.95-1.18; 25 000 units of an .align file are a second. avssl probe --label-column digit learns one of the columns.

GRID has no official splits. Of each speaker, --test-clips are "test", and --train-clips, or all others, "train"; which
ones is decided by a hash of speaker and NAME. --test-speakers holds out whole speakers in place of single clips. A clip
without a video, or without an .align file of these six words, is missing.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avssl.core.manifest import ManifestError
from avssl.core.ranges import Count, CountOrZero, check_value
from avssl.core.text_keys import text_key_array
from avssl.data.media_files import MEDIA_EXTENSIONS, walk_media
from avssl.data.official.annotations import read_table
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

SOURCE = "https://zenodo.org/records/3625687"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
GRAMMAR = {
    "command": {word[0]: word for word in ("bin", "lay", "place", "set")},
    "color": {word[0]: word for word in ("blue", "green", "red", "white")},
    "preposition": {word[0]: word for word in ("at", "by", "in", "with")},
    "letter": {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"},  # no w, whose name has three syllables
    "digit": dict(zip("z123456789", DIGITS, strict=True)),
    "adverb": {word[0]: word for word in ("again", "now", "please", "soon")},
}
"""Column → letter of the name → word."""

NAME = re.compile("".join(f"[{''.join(choices)}]" for choices in GRAMMAR.values()))
SPEAKER = re.compile(r"(s\d+)(_processed)?")  # the second in a copy that many use
SILENCES = ("sil", "sp")
UNITS_PER_SECOND = 25_000


@dataclass(frozen=True, slots=True)
class Clip:
    """The files of a clip, relative to their roots."""

    video: str | None = None
    """First of its videos."""
    alignment: Path | None = None
    """Its .align file."""


def collect(options: argparse.Namespace) -> ClipList:
    """Collect all clips that have a video or an alignment."""
    check_value("--test-clips", options.test_clips, CountOrZero)
    check_value("--train-clips", options.train_clips, Count | None)
    files = ClipFiles(options.root, MEDIA_EXTENSIONS)
    found = find_clips(files, annotation_folders(options)[0])
    splits = choose_splits(found, options)
    clips = ClipList(options.root, "GRID", files=files, lists=lists_of(options))
    for (speaker, name), clip in found.items():
        official = f"{speaker}/{name}"
        words: dict[str, Any] = dict(zip(GRAMMAR, sentence_of(name), strict=True))
        match = Match(clip.video, f"{official}.mpg")
        spans: list[str] = []
        if clip.video:
            try:
                spans = read_spans(clip.alignment, list(words.values()))
            except ManifestError as error:
                match = Match(None, f"{official}.align", str(error))
        sentence = " ".join(words.values())
        clips.add(
            official,
            match,
            split=splits[official],
            speaker=speaker,
            words=sentence,
            word_seconds=" ".join(spans),
            **words,
        )
    return clips


def find_clips(files: ClipFiles, alignments: Path) -> dict[tuple[str, str], Clip]:
    """Return the clips of all speakers by speaker and name, sorted."""
    videos: dict[tuple[str, str], str] = {}
    for path in files.paths:
        if key := key_of(files.root, Path(path)):
            videos.setdefault(key, path)
    texts: dict[tuple[str, str], Path] = {}
    for text in walk_media(alignments, {".align"}):
        if key := key_of(alignments, text):
            texts.setdefault(key, alignments / text)
    if not texts:
        raise ManifestError(
            f"no sN/NAME.align, such as alignments/s1/bbaf2n.align, in {alignments}. Get alignments.zip from {SOURCE}, "
            "or name its folder with --annotations."
        )
    order = sorted(videos.keys() | texts.keys(), key=lambda key: (int(key[0][1:]), key[1]))
    return {key: Clip(videos.get(key), texts.get(key)) for key in order}


def key_of(root: Path, path: Path) -> tuple[str, str] | None:
    """Return speaker and name of a file, or None if it is of no clip; the deepest folder called sN is the speaker."""
    speakers = [parts[1] for part in (root.resolve().name, *path.parts[:-1]) if (parts := SPEAKER.fullmatch(part))]
    return (speakers[-1], path.stem) if speakers and NAME.fullmatch(path.stem) else None


def sentence_of(name: str) -> list[str]:
    """Return the six words of a name such as bbaf2n."""
    return [choices[letter] for letter, choices in zip(name, GRAMMAR.values(), strict=True)]


def read_spans(path: Path | None, words: Sequence[str]) -> list[str]:
    """Return the span of each word in seconds.

    Raises:
        ManifestError: If there is no file, or it is none of these words, each after the other.
    """
    if path is None:
        raise ManifestError("its alignment is not found")
    spoken: list[str] = []
    spans: list[str] = []
    before = 0.0
    for line in read_table(path, ["start", "stop", "word"], header=False, delimiter=None):
        start, stop = line.seconds("start"), line.seconds("stop")
        if start < before:
            raise line.wrong("start", f"a number of at least {before:g}, where the line before ends")
        if stop <= start:
            raise line.wrong("stop", "a number above its start")
        before = stop
        if line["word"] not in SILENCES:
            spoken.append(line["word"])
            spans.append(f"{start / UNITS_PER_SECOND:g}-{stop / UNITS_PER_SECOND:g}")
    if spoken != list(words):
        raise ManifestError(f"{path}: the words are {' '.join(spoken)!r}, and its name means {' '.join(words)!r}.")
    return spans


def choose_splits(found: dict[tuple[str, str], Clip], options: argparse.Namespace) -> dict[str, str]:
    """Return the split of each clip, by its official name."""
    of_speaker: dict[str, list[str]] = defaultdict(list)
    for speaker, name in found:
        of_speaker[speaker].append(f"{speaker}/{name}")
    if unknown := sorted(set(options.test_speakers) - set(of_speaker)):
        raise ManifestError(f"--test-speakers: no clips of {', '.join(unknown)}; there are {', '.join(of_speaker)}.")
    splits: dict[str, str] = {}
    for speaker, names in of_speaker.items():
        if speaker in options.test_speakers:
            splits |= dict.fromkeys(names, "test")
            continue
        num_test = 0 if options.test_speakers else options.test_clips
        num_train = max(1, len(names) - num_test) if options.train_clips is None else options.train_clips
        if num_test + num_train > len(names):
            raise ManifestError(
                f"{speaker} has {len(names)} clips, fewer than {num_train} to train and {num_test} to test on. Lower "
                "--train-clips or --test-clips."
            )
        order = [name for _, name in sorted(zip(text_key_array(names).tolist(), names, strict=True))]
        splits |= dict.fromkeys(order[:num_test], "test")
        splits |= dict.fromkeys(order[num_test : num_test + num_train], "train")
        splits |= dict.fromkeys(order[num_test + num_train :], "unused")
    return splits


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__)
    parser.add_argument(
        "--test-clips", type=int, default=200, metavar="N", help="Test clips of each speaker. Default: 200."
    )
    parser.add_argument(
        "--train-clips",
        type=int,
        metavar="N",
        help='Training clips of each speaker; further ones are "unused". Default: all that are not test clips.',
    )
    parser.add_argument(
        "--test-speakers",
        nargs="+",
        default=[],
        metavar="SPEAKER",
        help="Test on all clips of these speakers, such as s1 s2 s20 s22, and train on the others'.",
    )
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
