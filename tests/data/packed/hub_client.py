"""Loads datasets of a hub in a process of its own, as the client reads HF_ENDPOINT and HF_HOME when it is imported.

Each line of its input is a call, ``["read", "hf:owner/clips"]``, and each line of its output what the call returned.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from typing import Any

import numpy as np

from avssl.core.errors import AvsslError
from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling
from avssl.data.content import content_hashes
from avssl.data.one_stream import OneStreamDataset
from avssl.data.packed.sources import read_packed
from avssl.media import MediaError

SAMPLING = ClipSampling(num_frames=4, frames_per_second=8.0, audio_seconds=1.0, sample_rate_hz=8000, short_side=32)
COLUMNS = ("id", "split", "label", "caption", "place")


def clip_hashes(manifest: Manifest, *, is_audio: bool = False) -> list[str]:
    """Return a hash of the frames and samples of a window of each row, or the reason why it cannot be decoded."""
    clips = OneStreamDataset(manifest, SAMPLING, 2, stream="audio") if is_audio else ClipDataset(manifest, SAMPLING, 2)
    found = []
    for row in range(len(manifest)):
        try:
            clip = clips.read(row, 0)
        except MediaError as error:
            found.append(error.reason)
        else:
            parts = [np.ascontiguousarray(part.numpy()).tobytes() for part in (clip.video, clip.audio)]
            found.append(hashlib.sha256(b"".join(parts)).hexdigest())
    return found


def read(name: str, token: str = "", is_audio: bool = False) -> dict[str, Any]:
    """Return the rows of a dataset, their hashes, and what gave no row; or the error."""
    os.environ["HF_TOKEN"] = token
    try:
        found = read_packed(name)
    except AvsslError as error:
        return {"error": str(error)}
    manifest = found.manifest
    columns = [name for name in COLUMNS if name in manifest]
    return {
        "rows": [{name: manifest.value(row, name) for name in columns} for row in range(len(manifest))],
        "content": content_hashes(manifest),
        "clips": clip_hashes(manifest, is_audio=is_audio),
        "failures": found.failures.select(["id", "reason", "message"]).to_pylist(),
    }


def push(name: str, splits: dict[str, list[tuple[str | None, int]]], token: str) -> dict[str, Any]:
    """Publish splits of (video file, class) as ``push_to_hub`` does."""
    import datasets

    os.environ["HF_TOKEN"] = token
    kinds = {"video": datasets.Video(), "label": datasets.ClassLabel(names=["dog", "cat"])}
    made = {
        split: datasets.Dataset.from_dict(
            {"video": [file for file, _ in rows], "label": [label for _, label in rows]},
            features=datasets.Features(kinds),
        )
        for split, rows in splits.items()
    }
    datasets.DatasetDict(made).push_to_hub(name, num_shards={split: min(2, len(made[split])) for split in made})
    return {}


def command(*words: str) -> dict[str, Any]:
    """Run a command line."""
    from avssl.cli import main

    return {"status": main(list(words))}


def _serve() -> None:
    answers, sys.stdout = sys.stdout, sys.stderr
    time.sleep = lambda _: None  # between tries of a hub that cannot be reached
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps({"read": read, "push": push, "command": command}[name](*arguments)), file=answers, flush=True)


if __name__ == "__main__":
    _serve()
