"""AVSBench: masks of the sound sources in five-second videos, one (S4) or several (MS3).

Source: Zhou et al., 2022, https://arxiv.org/abs/2207.05042, https://github.com/OpenNLPLab/AVSBench. Code
Apache-2.0; the videos are their owners'.
Files: s4_meta_data.csv (name, start, category, split) or ms3_meta_data.csv (name, split), and the folders
raw_videos, gt_masks and, without raw videos, visual_frames and audio_wav.
Expects: the CSV file in ROOT, ROOT/Single-source or ROOT/Multi-sources, and the folders in s4_data or
ms3_data beside it, as they are distributed.
Run: python datasets/avsbench.py /data/avsbench --subset s4

``path`` is the video; if there is none, the first frame, and ``audio_path`` its audio. Writes
truth/s4/NAME.json or truth/ms3/NAME.json (avssl.data.official.box_truth): no boxes, but the official mask and
image of each second. Image i of 5 is the frame shown at 15/16 of second i. In the training split of
S4 only the first second has a mask.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.box_truth import TruthFrame, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.recipes.dataset_script import annotation_folders, run_script, script_parser

FOLDERS = {"s4": "Single-source", "ms3": "Multi-sources"}
OFFICIAL = {"s4": {"train": 3452, "val": 740, "test": 740}, "ms3": {"train": 296, "val": 64, "test": 64}}
SPLITS = {"train": "train", "val": "val", "test": "test"}
NUM_SECONDS = 5


@dataclass(frozen=True)
class Layout:
    """Layout of the official files of a clip. ``place`` is split/category in S4, and the split in MS3."""

    files: ClipFiles
    base: str
    """s4_data or ms3_data, relative to the root."""
    by_place: bool
    """True for S4, which has folders of split and category for videos and images."""

    def video(self, place: str, name: str) -> Match:
        """Find the video."""
        return self.files.exact(f"{self.base}/raw_videos/{self._folder(place, name)}.mp4")

    def audio(self, place: str, name: str) -> str | None:
        """Find the audio file of the video."""
        return self.files.exact(f"{self.base}/audio_wav/{place}/{name}.wav").path

    def image(self, place: str, name: str, number: int) -> str | None:
        """Find the frame of a second, counted from 1; MS3 has name.mp4_1.png."""
        folder = f"{self.base}/visual_frames/{self._folder(place, name)}"
        found = (self.files.exact(f"{folder}/{name}{form}_{number}.png").path for form in ("", ".mp4"))
        return next((path for path in found if path), None)

    def mask(self, place: str, name: str, number: int) -> Match:
        """Find the mask of a second."""
        return self.files.exact(f"{self.base}/gt_masks/{place}/{name}/{name}_{number}.png")

    def _folder(self, place: str, name: str) -> str:
        return f"{place}/{name}" if self.by_place else name


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the videos of one subset."""
    subset, is_s4 = options.subset, options.subset == "s4"
    folders = annotation_folders(options, FOLDERS[subset])
    table = find_annotation(folders, f"{subset}_meta_data.csv", source="https://github.com/OpenNLPLab/AVSBench")
    clips = ClipList(options.root, f"AVSBench {subset.upper()}", OFFICIAL[subset])
    base = f"{subset}_data"
    if not (options.root / base).is_dir():
        base = f"{FOLDERS[subset]}/{base}"
    layout = Layout(ClipFiles(options.root, {".mp4", ".png", ".wav"}), base, by_place=is_s4)
    for line in read_table(table, ["split", "category"] if is_s4 else ["split"]):
        split = line.one_of("split", SPLITS)
        name = line[next(iter(line.cells))]  # the first column, whatever its title
        place = f"{split}/{line['category']}" if is_s4 else split
        match, audio_path = find_clip(layout, place, name)
        frames: list[TruthFrame] = []
        for number in range(1, 2 if is_s4 and split == "train" else NUM_SECONDS + 1):
            mask = layout.mask(place, name, number)
            if match.path and not mask.path:
                match = Match(None, mask.looked_for, "some of its masks are missing")
            frames.append(TruthFrame(number - 1 + 15 / 16, mask=mask.path, image=layout.image(place, name, number)))
        clips.add(
            f"{place}/{name}",
            match,
            label=line["category"] if is_s4 else None,
            split=split,
            truth=write_boxes(options.root, subset, name, frames) if match.path else None,
            audio_path=audio_path,
        )
    return clips


def find_clip(layout: Layout, place: str, name: str) -> tuple[Match, str | None]:
    """Return the video and None; if there is no video, its first frame and its audio file."""
    video = layout.video(place, name)
    image, audio = layout.image(place, name, 1), layout.audio(place, name)
    if video.path is None and image and audio:
        return Match(image, video.looked_for), audio
    return video, None


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest, s4.csv or ms3.csv, and the list of masks of each clip."""
    parser = script_parser(__doc__, "{subset}.csv")
    parser.add_argument("--subset", choices=list(FOLDERS), default="s4", help="One source, or several.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
