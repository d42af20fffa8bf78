"""AVSBench: masks of the sound sources in five-second videos, one (S4) or several (MS3), and AVSBench-semantic (v2).

Source: Zhou et al., 2022, https://arxiv.org/abs/2207.05042, and 2023, https://arxiv.org/abs/2301.13190 (v2). Code
Apache-2.0; the videos are their owners'.
Files: s4_meta_data.csv (name, start, category, split) or ms3_meta_data.csv (name, split), and the folders
raw_videos, gt_masks and, without raw videos, visual_frames and audio_wav. The repository does not hold them: the
lists are at https://drive.google.com/drive/folders/1wKFKymVYn6rNkNE_7xV6Bm-9PfCAIKdT, and the authors send the whole
data on request, see https://opennlplab.github.io/AVSBench. For v2: metadata.csv (vid, uid, s_min, s_sec, a_obj,
split, label) and the folders v1s, v1m and v2, with UID/frames/0.jpg, UID/audio.wav and UID/labels_rgb/0.png.
Expects: the CSV file in ROOT, ROOT/Single-source or ROOT/Multi-sources, and the folders in s4_data or
ms3_data beside it, as they are distributed. Files elsewhere are found by their names, such as frames/NAME_1.jpg and
audio/NAME.wav; masks in a folder with "mask" in its name. For v2, all in ROOT.
Run: python datasets/avsbench.py /data/avsbench --subset s4

``path`` is the video; if there is none, the first frame, and ``audio_path`` its audio. Writes
truth/s4/NAME.json or truth/ms3/NAME.json (avssl.data.official.box_truth): no boxes, but the official mask and
image of each second. Image i of 5 is the frame shown at 15/16 of second i; when those of v2 are shown is not
stated, and the middle of their second is assumed. In the training split of S4 only the first second has a mask.

--truth boxes reads s4_box.json or ms3_box.json of https://github.com/kaistmm/SSLalignment (no license given) in
place of the CSV: one row for each image, with its audio; 3 700 and 320 in the complete files, 29 of MS3 without a
box. They need visual_frames and audio_wav.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.box_truth import TruthFrame, write_boxes
from avssl.data.official.clip_files import ClipFiles, Match
from avssl.data.official.clip_list import ClipList
from avssl.data.official.pair_boxes import SOURCE as BOX_SOURCE
from avssl.data.official.pair_boxes import read_pairs
from avssl.data.official.pair_files import PairFiles
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

SOURCE = (
    "https://drive.google.com/drive/folders/1wKFKymVYn6rNkNE_7xV6Bm-9PfCAIKdT, or with all data from the authors, "
    "see https://opennlplab.github.io/AVSBench"
)
FOLDERS = {"s4": "Single-source", "ms3": "Multi-sources", "v2": "AVSBench_semantic"}
OFFICIAL = {
    "s4": {"train": 3452, "val": 740, "test": 740},
    "ms3": {"train": 296, "val": 64, "test": 64},
    "v2": {"train": 8498, "val": 1304, "test": 1554},
}
OFFICIAL_BOXES = {"s4": {"test": 3700}, "ms3": {"test": 320}}
IMAGES = {".jpg", ".png"}
SPLITS = {"train": "train", "val": "val", "test": "test"}
NUM_SECONDS = {"s4": 5, "ms3": 5, "v1s": 5, "v1m": 5, "v2": 10}
"""Images of a clip, by subset and by folder of v2."""


class Layout:
    """Find the files of a clip: where the archives have them, or by their names in any folder.

    Args:
        files: All files.
        base: s4_data or ms3_data, relative to the root.
        by_place: True for S4, which has folders of split and category for videos and images.
    """

    def __init__(self, files: ClipFiles, base: str, *, by_place: bool) -> None:
        self._files, self._base, self._by_place = files, base, by_place
        self._videos = files.part({".mp4"}, masks=False)
        self._audio = files.part({".wav"}, masks=False)
        self._images = files.part(IMAGES, masks=False)
        self._masks = files.part(IMAGES, masks=True)

    def video(self, place: str, name: str) -> Match:
        """Find the video."""
        official = self._files.exact(f"{self._base}/raw_videos/{self._folder(place, name)}.mp4")
        return self._or_named(official, self._videos, f"{name}.mp4")

    def audio(self, place: str, name: str) -> str | None:
        """Find the audio file of the video."""
        official = self._files.exact(f"{self._base}/audio_wav/{place}/{name}.wav")
        return self._or_named(official, self._audio, f"{name}.wav").path

    def image(self, place: str, name: str, number: int) -> str | None:
        """Find the frame of a second, counted from 1; MS3 has name.mp4_1.png."""
        folder = f"{self._base}/visual_frames/{self._folder(place, name)}"
        for form in (f"{name}_{number}", f"{name}.mp4_{number}"):
            match = self._or_named(self._files.exact(f"{folder}/{form}.png"), self._images, f"{form}.png")
            if match.path:
                return match.path
        return None

    def mask(self, place: str, name: str, number: int) -> Match:
        """Find the mask of a second."""
        official = self._files.exact(f"{self._base}/gt_masks/{place}/{name}/{name}_{number}.png")
        return self._or_named(official, self._masks, f"{name}_{number}.png")

    def _or_named(self, official: Match, files: ClipFiles, name: str) -> Match:
        found = official if official.path else files.named(name)
        return found if found.path else official

    def _folder(self, place: str, name: str) -> str:
        return f"{place}/{name}" if self._by_place else name


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the videos of one subset."""
    if options.truth == "boxes":
        return boxed_images(options)
    return semantic(options) if options.subset == "v2" else masked_videos(options)


def masked_videos(options: argparse.Namespace) -> ClipList:
    """Collect the videos of S4 or MS3."""
    subset, is_s4 = options.subset, options.subset == "s4"
    table = find_annotation(annotation_folders(options, FOLDERS[subset]), f"{subset}_meta_data.csv", source=SOURCE)
    base = f"{subset}_data"
    if not (options.root / base).is_dir():
        base = f"{FOLDERS[subset]}/{base}"
    files = ClipFiles(options.root, {".mp4", ".wav", *IMAGES}, visible=True)
    lists = lists_of(options, FOLDERS[subset])
    clips = ClipList(options.root, f"AVSBench {subset.upper()}", OFFICIAL[subset], files=files, lists=lists)
    layout = Layout(files, base, by_place=is_s4)
    for line in read_table(table, ["split", "category"] if is_s4 else ["split"]):
        split = line.one_of("split", SPLITS)
        name = line[next(iter(line.cells))]  # the first column, whatever its title
        place = f"{split}/{line['category']}" if is_s4 else split
        match, audio_path = find_clip(layout, place, name)
        frames: list[TruthFrame] = []
        for number in range(1, 2 if is_s4 and split == "train" else NUM_SECONDS[subset] + 1):
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


def semantic(options: argparse.Namespace) -> ClipList:
    """Collect the videos of AVSBench-semantic, which come as images and audio."""
    folders = annotation_folders(options, FOLDERS["v2"])
    table = find_annotation(folders, "metadata.csv", source=SOURCE)
    files = ClipFiles(options.root, {".jpg", ".png", ".wav"}, visible=True)
    clips = ClipList(options.root, "AVSBench-semantic", OFFICIAL["v2"], files=files, lists=lists_of(options))
    for line in read_table(table, ["uid", "a_obj", "split", "label"]):
        split = line.one_of("split", SPLITS)
        folder = line.one_of("label", {"v1s": "v1s", "v1m": "v1m", "v2": "v2"})
        bases = (f"{folder}/{line['uid']}", f"{FOLDERS['v2']}/{folder}/{line['uid']}")
        base = next((base for base in bases if files.exact(f"{base}/audio.wav").path), bases[0])
        num_masks = 1 if (split, folder) == ("train", "v1s") else NUM_SECONDS[folder]
        match, frames = semantic_frames(files, base, num_masks)
        clips.add(
            line["uid"],
            match,
            label=line["a_obj"],
            split=split,
            truth=write_boxes(options.root, "avsbench_v2", line["uid"], frames) if match.path else None,
            subset=folder,
        )
    return clips


def semantic_frames(files: ClipFiles, base: str, num_masks: int) -> tuple[Match, list[TruthFrame]]:
    """Return the first image with the audio of a clip of v2, or why there is none, and its annotated images."""
    image, audio = files.exact(f"{base}/frames/0.jpg"), files.exact(f"{base}/audio.wav")
    if image.path is None or audio.path is None:
        missing = audio if image.path else image
        return Match(None, missing.looked_for), []
    frames = []
    for number in range(num_masks):
        mask = files.exact(f"{base}/labels_rgb/{number}.png")
        if mask.path is None:
            return Match(None, mask.looked_for, "some of its masks are missing"), []
        shown = files.exact(f"{base}/frames/{number}.jpg").path
        frames.append(TruthFrame(number + 0.5, mask=mask.path, image=shown))
    return Match(image.path, image.looked_for, audio_path=audio.path), frames


def boxed_images(options: argparse.Namespace) -> ClipList:
    """Collect the images of S4 or MS3 that have boxes."""
    subset = options.subset
    if subset not in OFFICIAL_BOXES:
        raise ManifestError(f"--truth boxes: there are boxes of {' and '.join(OFFICIAL_BOXES)}, not of {subset}.")
    folders = annotation_folders(options, "metadata", FOLDERS[subset])
    path = find_annotation(folders, f"{subset}_box.json", source=BOX_SOURCE)
    files, title = PairFiles(options.root), f"AVSBench {subset.upper()}, boxes"
    clips = ClipList(options.root, title, OFFICIAL_BOXES[subset], files=files.all, lists=lists_of(options))
    for entry in read_pairs(path):
        match, name = files.find(entry), entry.image.stem
        truth = None
        if match.path:
            truth = write_boxes(options.root, f"{subset}_boxes", name, [TruthFrame(None, entry.boxes)])
        label = entry.audio.parent.name if subset == "s4" else None
        clips.add(name, match, label=label, split="test", truth=truth)
    return clips


def find_clip(layout: Layout, place: str, name: str) -> tuple[Match, str | None]:
    """Return the video and None; if there is no video, its first frame and its audio file."""
    video = layout.video(place, name)
    image, audio = layout.image(place, name, 1), layout.audio(place, name)
    if video.path is None and image and audio:
        return Match(image, video.looked_for), audio
    return video, None


def manifest_name(options: argparse.Namespace) -> str:
    """Return s4.csv, or s4_boxes.csv."""
    return f"{options.subset}_boxes.csv" if options.truth == "boxes" else f"{options.subset}.csv"


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest, such as s4.csv or s4_boxes.csv, and the masks or boxes of each clip."""
    parser = script_parser(__doc__, manifest_name)
    parser.add_argument("--subset", choices=list(FOLDERS), default="s4", help="One source, several, or semantic.")
    parser.add_argument("--truth", choices=["masks", "boxes"], default="masks", help="Ground truth of S4 and MS3.")
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
