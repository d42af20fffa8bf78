"""AudioSet: ten-second pieces of YouTube videos with the sounds that are heard in them.

Source: Gemmeke et al., 2017, https://research.google.com/audioset/. Annotations: CC BY 4.0; the videos
are their owners'.
Files: balanced_train_segments.csv, unbalanced_train_segments.csv, eval_segments.csv and
class_labels_indices.csv, from https://research.google.com/audioset/download.html.
Expects: these in ROOT (or ROOT/annotations, ROOT/metadata), and videos or audio files (WAV, FLAC ...) anywhere
below ROOT: ID_30.000.mp4, ID_30000_40000.wav, YID.wav (see SEGMENT_FORMS). Link rot takes a tenth or more.
Run: python datasets/audioset.py /data/audioset --subset balanced eval

Most segments have several labels: avssl finetune reads them with --labels.multi-label, and avssl probe with
--multi-label; both then report mAP. The official counts of segments are 22 160, 2 041 789 and 20 371.

"unbalanced-100k" is a fixed part of the unbalanced set for smaller experiments: the 100 000 segments
whose video ids have the smallest SHA-256 digests (of the id in ASCII, compared as bytes). It depends on
the official file alone, so it is the same everywhere, whatever has been downloaded. It is not the list
of 100 000 that the AVID paper used; that comes under a non-commercial license.
"""

from __future__ import annotations

import argparse
import hashlib
import heapq
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from avssl.core.manifest import ManifestError
from avssl.data.official.annotations import find_annotation, read_table
from avssl.data.official.clip_files import ClipFiles
from avssl.data.official.clip_list import ClipList
from avssl.data.official.clip_names import SEGMENT_FORMS, video_of
from avssl.data.official.column_tables import OddTableError, as_seconds, decimals, read_column_blocks
from avssl.recipes.dataset_script import annotation_folders, lists_of, run_script, script_parser

SOURCE = "https://research.google.com/audioset/download.html"

NUM_SAMPLES = 100_000
"""Of unbalanced-100k."""

SUBSETS = {
    "balanced": ("balanced_train_segments.csv", "train", 22160),
    "unbalanced": ("unbalanced_train_segments.csv", "train", 2041789),
    "unbalanced-100k": ("unbalanced_train_segments.csv", "train", NUM_SAMPLES),
    "eval": ("eval_segments.csv", "test", 20371),
}
"""Name -> official file, the split it becomes, its number of segments."""


COLUMNS = ["YTID", "start_seconds", "end_seconds", "positive_labels"]


def collect(options: argparse.Namespace) -> ClipList:
    """Collect the segments of the subsets, with their display names as labels."""
    folders = annotation_folders(options, "annotations", "metadata")
    names = class_names(find_annotation(folders, "class_labels_indices.csv", source=SOURCE))
    expected: dict[str, int] = {}
    for subset in options.subset:
        _, split, count = SUBSETS[subset]
        expected[split] = expected.get(split, 0) + count
    title, hint = f"AudioSet {' + '.join(options.subset)}", f" Accepted names: {SEGMENT_FORMS}."
    files, lists = ClipFiles(options.root), lists_of(options, "annotations", "metadata")
    clips = ClipList(options.root, title, expected, hint, files=files, lists=lists)
    for subset in options.subset:
        name, split, _ = SUBSETS[subset]
        blocks = segments(find_annotation(folders, name, source=SOURCE), names)
        for block in sample(blocks) if subset == "unbalanced-100k" else blocks:
            add_segments(clips, files, block, options, split=split, subset=subset)
    return clips


def class_names(path: Path) -> dict[str, str]:
    """Read machine id → display name, such as /m/0284vy3 → Train horn."""
    return {line["mid"]: line["display_name"] for line in read_table(path, ["index", "mid", "display_name"])}


def segments(path: Path, names: Mapping[str, str]) -> Iterator[pa.Table]:
    """Yield the lines of a segments file as blocks of columns: YTID, start and stop in seconds, display names."""
    num_rows = 0
    try:
        for block in read_column_blocks(path, COLUMNS, "#"):
            num_rows += len(block)
            yield _typed(block, names)
    except OddTableError as error:
        _check_lines(path, names)
        raise ManifestError(str(error)) from error
    if not num_rows:
        raise ManifestError(f"{path}: no records.")


def _typed(block: pa.Table, names: Mapping[str, str]) -> pa.Table:
    """Convert a block of strings."""
    block = block.filter(pc.not_equal(block["YTID"], "YTID"))  # some copies name the columns in a line
    start, stop = as_seconds(block["start_seconds"]), as_seconds(block["end_seconds"])
    if not pc.all(pc.greater(stop, start)).as_py() or not pc.all(pc.not_equal(block["YTID"], "")).as_py():
        raise OddTableError("a segment has no id, or ends before it starts.")
    coded = block["positive_labels"].combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    texts = [_display_names(text, names) for text in coded.dictionary.to_pylist()]
    label = pa.DictionaryArray.from_arrays(coded.indices, pa.array(texts, pa.string()))
    return pa.table({"YTID": block["YTID"], "start": start, "stop": stop, "label": label})


def _display_names(machine_ids: str, names: Mapping[str, str]) -> str:
    try:
        return "|".join(names[machine_id] for machine_id in machine_ids.split(","))
    except KeyError as error:
        raise OddTableError(f"unknown class {error}.") from error


def _check_lines(path: Path, names: Mapping[str, str]) -> None:
    """Raise the error of the first line that deviates from the official format."""
    for line in read_table(path, COLUMNS, header=False, comment="#"):
        if line["YTID"] == "YTID":
            continue
        start = line.seconds("start_seconds")
        if line.seconds("end_seconds") <= start:
            raise line.wrong("end_seconds", f"more than start_seconds ({start:g})")
        if any(machine_id not in names for machine_id in line["positive_labels"].split(",")):
            raise line.wrong("positive_labels", "ids of class_labels_indices.csv")


def sample(blocks: Iterable[pa.Table]) -> list[pa.Table]:
    """Return the segments whose ids have the smallest digests, in the order of the file."""
    kept = list(blocks)
    ids = (video for block in kept for video in block["YTID"].to_pylist())
    digests = ((hashlib.sha256(video.encode()).digest(), row) for row, video in enumerate(ids))
    chosen = sorted(row for _, row in heapq.nsmallest(NUM_SAMPLES, digests))
    return [pa.concat_tables(kept).unify_dictionaries().take(chosen)]


def add_segments(
    clips: ClipList, files: ClipFiles, table: pa.Table, options: argparse.Namespace, *, split: str, subset: str
) -> None:
    """Add the segments: one by one those of a video of which there is a file, all others at once."""
    listed = {video_of(key) for each in clips.lists for key in each.keys}
    wanted = sorted(video for video in listed if video) if clips.lists else list(files.video_ids)
    near = pc.is_in(table["YTID"], pa.array(wanted, pa.string()))
    if not clips.lists:
        clips.add_absent(table.select(["YTID", "start", "label"]).filter(pc.invert(near)), split, _missing)
    for batch in table.filter(near).to_batches(max_chunksize=1 << 14):
        for row in batch.to_pylist():
            match = files.segment(row["YTID"], row["start"])
            clips.add(
                f"{row['YTID']}_{row['start']:.3f}",
                match,
                label=row["label"].split("|"),
                split=split,
                span=(row["start"], row["stop"]) if match.whole and options.untrimmed else None,
                subset=subset,
            )


def _missing(table: pa.Table) -> pa.Table:
    """Return the columns of missing clips."""
    video, start = table["YTID"], table["start"]
    second = pc.utf8_lpad(pc.cast(pc.floor(start), pa.int64()).cast(pa.string()), 6, "0")
    return pa.table(
        {
            "id": pc.binary_join_element_wise(video, decimals(start, 3), "_"),
            "path": pc.binary_join_element_wise(video, pc.binary_join_element_wise(second, ".mp4", ""), "_"),
            "label": table["label"].cast(pa.string()),
            "reason": pa.array(["not found"] * len(table)),
        }
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Write the manifest."""
    parser = script_parser(__doc__, segments=True)
    parser.add_argument(
        "--subset", nargs="+", choices=list(SUBSETS), default=["balanced", "eval"], help="One or several."
    )
    return run_script(parser, collect, argv)


if __name__ == "__main__":
    sys.exit(main())
