"""MUSIC: YouTube videos of people who play an instrument alone or with another.

Source: Zhao et al., 2018, https://arxiv.org/abs/1804.03160, https://github.com/roudimit/MUSIC_dataset. No
license is given; the videos are their owners'.
Files: MUSIC_solo_videos.json, MUSIC_duet_videos.json and MUSIC21_solo_videos.json of that repository.
Expects: these in ROOT, and whole videos ID.mp4 (or audio alone) anywhere below ROOT.
Run: python datasets/music.py /data/music --subset solo duet --segment-seconds 10

Videos last minutes. Without --segment-seconds each is one row, of which training reads one clip an epoch; with it,
each is cut into rows of that many seconds, by the length in its header. Videos with boxes stay whole.

``label`` is the instrument, or the two of a duet separated by ``|``. There is no official split. The boxes
that later papers score (Mo and Tian, 2023, https://arxiv.org/abs/2303.17056: metadata/music_solo.json and
music_duet.json of https://github.com/stoneMo/AVGN, no license given) are read with --boxes FOLDER: their
videos become the split "test", all others "train", and truth/music/ID.json (avssl.data.official.box_truth) holds
the boxes of each frame. Their boxes are (left, top, width, height). Frame numbers such as 00037 of second
001 count 30 frames a second, which the files imply but do not say.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import find_annotation, read_json
from avssl.data.official.box_truth import TruthBox, TruthFrame, write_boxes
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.music_boxes import BOX_FILES, FRAME_NAME, read_music_boxes
from avssl.data.official.music_boxes import SOURCE as BOX_SOURCE
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

SUBSETS = {
    "solo": ("MUSIC_solo_videos.json", 536),
    "duet": ("MUSIC_duet_videos.json", 149),
    "solo21": ("MUSIC21_solo_videos.json", 0),
}
"""Name → official file, number of videos; 0 if its page does not say."""

FRAMES_PER_SECOND = 30


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the videos of the subsets."""
    folders = annotation_folders(options)
    counts = [SUBSETS[subset][1] for subset in options.subset]
    expected = {"": sum(counts)} if all(counts) and options.boxes is None else {}
    files, title = ClipFiles(options.root), f"MUSIC {' + '.join(options.subset)}"
    clips = ClipList(options.root, title, expected, files=files, lists=lists_of(options))
    boxes = {} if options.boxes is None else read_boxes(options.boxes)
    for subset in options.subset:
        path = find_annotation(folders, SUBSETS[subset][0], source="https://github.com/roudimit/MUSIC_dataset")
        for instruments, videos in listed_videos(path):
            for video in videos:
                match, frames = files.named(video), boxes.get(video)
                clips.add(
                    video,
                    match,
                    label=instruments.split(),
                    split=None if options.boxes is None else "test" if frames else "train",
                    truth=write_boxes(options.root, "music", video, frames) if frames and match.path else None,
                    subset=subset,
                )
    if unlisted := sum(video not in clips for video in boxes):
        print(f"note: {unlisted} videos have boxes and are in none of these lists")
    return clips


def listed_videos(path: Path) -> list[tuple[str, list[str]]]:
    """Read instruments and ids: {"version": 1.0, "videos": {"flute violin": ["8DHG_hVSw1o", ...]}}."""
    videos = read_json(path, dict).get("videos")
    if not isinstance(videos, dict) or not videos:
        raise ManifestError(f"{path}: no object 'videos' with the ids of each instrument.")
    for instruments, ids in videos.items():
        if not isinstance(ids, list) or not all(isinstance(video, str) and len(video) == 11 for video in ids):
            raise ManifestError(f"{path}: the videos of {instruments!r} are not a list of YouTube ids.")
    return list(videos.items())


def read_boxes(folder: Path) -> dict[str, list[TruthFrame]]:
    """Read video → annotated frames from all box files in a folder."""
    paths = [folder / name for name in BOX_FILES if (folder / name).is_file()]
    if not paths:
        raise ManifestError(f"{folder}: no {' or '.join(BOX_FILES)}. Get them from {BOX_SOURCE}.")
    found: dict[str, dict[int, list[TruthBox]]] = defaultdict(dict)  # video -> frame number -> boxes
    for path in paths:
        for name, boxes in read_music_boxes(path).items():
            parts = FRAME_NAME.fullmatch(name)
            assert parts is not None, "names were checked"
            found[parts["video"]].setdefault(int(parts["frame"]), []).extend(boxes)
    return {
        video: [TruthFrame(frame / FRAMES_PER_SECOND, boxes) for frame, boxes in sorted(frames.items())]
        for video, frames in found.items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest and the boxes."""
    parser = script_parser(__doc__)
    parser.add_argument("--subset", nargs="+", choices=list(SUBSETS), default=["solo", "duet"], help="One or several.")
    parser.add_argument("--boxes", type=Path, metavar="FOLDER", help="Of music_solo.json and music_duet.json.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
