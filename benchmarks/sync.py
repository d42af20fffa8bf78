"""Measure `avssl sync` on clips whose audio is shifted by known offsets, and on audio that cannot tell.

    avssl synthesize shapes --num-clips 1000 --num-test-clips 200 --width 64 --height 64 --video-fps 25 \
        --duration-seconds 8 --tempo-spread 2 --object-weights 1 --clutter 0 --background-contrast 0
    avssl pretrain shapes/manifest.csv --config configs/soundingshapes_sync.yaml --out runs/sync
    python benchmarks/sync.py shapes/manifest.csv --checkpoint runs/sync --clips 200 -o sync.jsonl

Each test clip is scanned five times: its own audio late by an offset drawn uniformly from +-1 s (seed 0), the audio of
the next test clip ("foreign"), silence, a steady tone, and its own audio with the windows of an untrained model. For
each: the share decided, the share whose lowest energy is within 0.1 s of the true offset (of all clips, and of those
decided), and how many times real time the scan ran; for own audio also ``by_action``: clips, share within and share
decided of each action of SoundingShapes. A constant guess of 0 is within 0.1 s in 0.1 of uniform offsets,
a random guess in 0.0975.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avssl.core.manifest import read_manifest
from avssl.engine import Precision
from avssl.evaluation.intervals import wilson_interval
from avssl.hub.pretrained import PretrainedModel, from_pretrained, random_init
from avssl.localization import SyncCurve, sync_curve
from avssl.media import MediaReader, open_media

MAX_OFFSET, STEP, TOLERANCE = 1.0, 0.1, 0.1
SCANNED = MAX_OFFSET + 2 * STEP
"""Largest offset of the scan: a minimum at its edge is no offset."""


class Late:
    """A file whose audio is ``late`` seconds later than it was; none is cut off or filled up."""

    def __init__(self, reader: MediaReader, late: float) -> None:
        info = reader.info
        assert info.audio_start_seconds is not None
        assert info.audio_stop_seconds is not None
        self._reader, self._late, self.stream_frames = reader, late, reader.stream_frames
        self.info = replace(
            info, audio_start_seconds=info.audio_start_seconds + late, audio_stop_seconds=info.audio_stop_seconds + late
        )

    def read_audio(self, start: float, stop: float, rate: int, channels: int = 1) -> Tensor:
        return self._reader.read_audio(start - self._late, stop - self._late, rate, channels)


class Steady:
    """The frames of a file with a tone of 440 Hz."""

    def __init__(self, reader: MediaReader) -> None:
        self.info, self.stream_frames = reader.info, reader.stream_frames

    def read_audio(self, start: float, stop: float, rate: int, channels: int = 1) -> Tensor:
        at = round(start * rate) + torch.arange(round((stop - start) * rate), dtype=torch.float64)
        return 0.2 * torch.sin(2 * torch.pi * 440 * at / rate).float()[None].expand(channels, -1)


def scan(model: PretrainedModel, path: Path, sound: str, late: float, other: Path) -> tuple[SyncCurve, float]:
    """Return the curve of one clip with one kind of audio, and its seconds of video per second of work."""
    began = time.perf_counter()
    with open_media(path) as reader, open_media(other) as stranger:
        source = (
            Late(reader, late) if sound in ("own", "untrained") else Steady(reader) if sound == "steady" else reader
        )
        curve = sync_curve(
            source,
            model.encoder(Precision()),
            model.sampling,
            max_offset_seconds=SCANNED,
            step_seconds=STEP,
            audio_from={"foreign": stranger, "silent": "silence"}.get(sound),
        )
        length = (reader.info.video_stop_seconds or 0.0) - (reader.info.video_start_seconds or 0.0)
    return curve, length / (time.perf_counter() - began)


def main() -> None:
    """Measure and print one line of each kind of audio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--clips", type=int, default=100, help="test clips")
    parser.add_argument("-o", "--out", type=Path, help="JSON lines, appended")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = from_pretrained(options.checkpoint)
    untrained = random_init(model, seed=1)
    manifest = read_manifest(options.manifest)
    rows = [row for row in range(len(manifest)) if manifest.value(row, "split") == "test"][: options.clips]
    paths = [Path(manifest.location(row)) for row in rows]
    offsets = np.random.default_rng(0).uniform(-MAX_OFFSET, MAX_OFFSET, len(paths))
    for sound in ("own", "untrained", "foreign", "silent", "steady"):
        used = untrained if sound == "untrained" else model
        scans = [
            scan(used, path, sound, float(late), paths[(i + 1) % len(paths)])
            for i, (path, late) in enumerate(zip(paths, offsets, strict=True))
        ]
        decided = np.array([curve.is_decided for curve, _ in scans])
        near = np.abs(np.array([curve.lowest_at_seconds for curve, _ in scans]) - offsets) <= TOLERANCE + 1e-6
        line = {"checkpoint": options.checkpoint, "audio": sound, "n": len(scans), "decided": round(decided.mean(), 3)}
        if sound in ("own", "untrained"):
            line |= {"within": round(near.mean(), 3), "interval": _interval(near)}
            line |= {"within_of_decided": round(near[decided].mean(), 3) if decided.any() else None}
        if sound == "own" and "action" in manifest:
            actions = np.array([str(manifest.value(row, "action")) for row in rows])
            line["by_action"] = {
                name: [int((here := actions == name).sum()), *(round(x[here].mean(), 2) for x in (near, decided))]
                for name in np.unique(actions).tolist()
            }
        line |= {"times_real_time": round(float(np.median([speed for _, speed in scans])), 1)}
        print(json.dumps(line), flush=True)
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(json.dumps(line) + "\n")


def _interval(hits: np.ndarray) -> list[float]:
    return [round(float(end), 3) for end in wilson_interval(int(hits.sum()), len(hits))]


if __name__ == "__main__":
    main()
