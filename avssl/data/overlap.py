"""Find the test clips that are trained on, by their names and by the content of their files.

Public lists overlap: vggss_144k.txt, with which localization papers train, holds 3 709 of the 5 158 clips of VGG-SS.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avssl.core.manifest import Manifest
from avssl.core.names import printable
from avssl.data.content import same_content
from avssl.data.official.clip_names import clip_key, video_of

_NUM_SHOWN = 3
_FLICKR_ID = re.compile(r"\d{7,12}")

Spans = list[tuple[float, float]]


@dataclass(frozen=True)
class Overlap:
    """The test clips that are trained on."""

    num_test: int
    """Number of test clips."""
    by_name: list[str]
    """Test clips of a name that is trained on: YouTube id and second, Flickr id, or name in the official files."""
    by_content: list[str]
    """Test clips with the content of a file that is trained on, in the same time."""
    contents_compared: bool
    """False if files of one side are not there, or in shards."""

    @property
    def names(self) -> list[str]:
        """Ids of all test clips that are trained on."""
        return list(dict.fromkeys([*self.by_name, *self.by_content]))

    @property
    def share(self) -> float:
        """Share of the test clips, in [0, 1]."""
        return len(self.names) / max(1, self.num_test)

    def __str__(self) -> str:
        compared = "names and contents" if self.contents_compared else "names alone, as files are not there"
        if not self.names:
            return f"none of {self.num_test} test clips is trained on ({compared} compared)"
        first = ", ".join(map(printable, self.names[:_NUM_SHOWN]))
        return (
            f"{len(self.names)} of {self.num_test} test clips ({100 * self.share:.1f} %) are trained on: "
            f"{len(self.by_name)} by name, {len(self.by_content)} by content ({compared} compared). "
            f"The first: {first}. Scores on them tell nothing about new clips"
        )

    def plain(self) -> dict[str, object]:
        """Return the numbers and all ids, for JSON."""
        counts = {"num_test": self.num_test, "num_trained_on": len(self.names), "share": self.share}
        return counts | {"by_name": self.by_name, "by_content": self.by_content}


def find_overlap(train: Manifest, test: Manifest) -> Overlap:
    """Find the rows of ``test`` that are also in ``train``.

    Args:
        train: Rows that are trained on.
        test: Rows that are tested on.
    """
    ids = [str(name) for name in test["id"]]
    trained = set(filter(None, clip_keys(train)))
    same = named_in(trained, clip_keys(test))
    content, compared = _same_content(train, test)
    return Overlap(
        len(test),
        [name for name, found in zip(ids, same, strict=True) if found],
        [name for name, found in zip(ids, content, strict=True) if found],
        compared,
    )


def named_in(trained: set[str], keys: Iterable[str | None]) -> list[bool]:
    """Return for each key whether it is among others; the key of a whole video stands for all of its segments."""
    whole = {video for key in trained if key.endswith("@") and (video := video_of(key))}
    videos = {video for key in trained if (video := video_of(key))}
    return [
        key is not None
        and (key in trained or (key.endswith("@") and video_of(key) in videos) or video_of(key) in whole)
        for key in keys
    ]


def clip_keys(manifest: Manifest) -> list[str | None]:
    """Return the key of each row's clip, None where its name says nothing.

    The official name counts whatever it is. A file's name counts if it is the segment of a YouTube video, or the
    number of a Flickr video.
    """
    official = manifest["official_id"] if "official_id" in manifest else [None] * len(manifest)
    paths = manifest["source_path" if "source_path" in manifest else "path"]
    return [
        clip_key(str(name)) if name else _key_of_file(str(path)) for name, path in zip(official, paths, strict=True)
    ]


def _key_of_file(path: str) -> str | None:
    key = clip_key(path)
    is_segment = video_of(key) is not None and not key.endswith("@")
    return key if is_segment or _FLICKR_ID.fullmatch(key) else None


def _same_content(train: Manifest, test: Manifest) -> tuple[list[bool], bool]:
    """Return for each test row whether a training row has the same file, or one of equal content, and the same time."""
    nothing = [False] * len(test)
    if any(column in rows for column in ("shard_header_bytes", "member_bytes") for rows in (train, test)):
        return nothing, False
    trained, tested = _files(train), _files(test)
    if not all(any(path.is_file() for path, _ in files) for files in (trained, tested)):
        return nothing, False
    firsts = same_content([path for path, _ in [*trained, *tested]])
    spans: dict[int, Spans] = {}
    for first, (_, span) in zip(firsts, trained, strict=False):
        spans.setdefault(first, []).append(span)
    pairs = zip(firsts[len(trained) :], tested, strict=True)
    return [_meets(spans.get(first, []), span) for first, (_, span) in pairs], True


def _files(rows: Manifest) -> list[tuple[Path, tuple[float, float]]]:
    """Return the file and the time of each row."""
    starts, stops = (
        rows[name] if name in rows else np.full(len(rows), np.nan) for name in ("start_seconds", "stop_seconds")
    )
    spans = zip(np.nan_to_num(starts, nan=-np.inf), np.nan_to_num(stops, nan=np.inf), strict=True)
    return [(rows.file(row), (float(start), float(stop))) for row, (start, stop) in enumerate(spans)]


def _meets(spans: Spans, span: tuple[float, float]) -> bool:
    """Return True if a time has a part in common with one of several."""
    return any(start < span[1] and span[0] < stop for start, stop in spans)
