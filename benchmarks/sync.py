"""Measure `avssl sync` on clips whose audio is shifted by known offsets, and on audio that cannot tell.

    avssl synthesize shapes --num-clips 1000 --num-test-clips 200 --width 64 --height 64 --video-fps 25 \
        --duration-seconds 8 --tempo-spread 2 --object-weights 1 --clutter 0 --background-contrast 0
    avssl pretrain shapes/manifest.csv --config configs/soundingshapes_sync.yaml --out runs/sync
    python benchmarks/sync.py shapes/manifest.csv --checkpoint runs/sync --clips 200 -o sync.jsonl

The measurement is that of `avssl sync-eval` (avssl/downstream/synchronization.py), for four kinds of audio of each test
clip: its own, that of the next test clip, silence and a steady tone, all late by the same offset; and for its own audio
with the windows of an untrained model. One line for each: the share decided, the share whose lowest energy is within
0.1 s of the true offset (of all clips, and of those decided), and the median error. For own audio also ``by_action``:
clips, share within and share decided of each action of SoundingShapes. The last line has the baselines, a random offset
and always 0, and how many times real time the scans ran.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avssl.core.manifest import Manifest, read_manifest
from avssl.data.splits import split_rows
from avssl.downstream.synchronization import OWN, SHUFFLED, SILENCE, TOLERANCE_SECONDS, TONE, measure_sync
from avssl.hub.pretrained import from_pretrained, random_init


def by_action(report: dict[str, Any], rows: Manifest) -> dict[str, list[float]]:
    """Return clips, share within the tolerance and share decided of each action, for own audio."""
    actions = dict(zip(rows["id"].astype(str).tolist(), rows["action"].astype(str).tolist(), strict=True))
    clips = [(actions[clip["id"]], clip) for clip in report["clips"]]
    table = {}
    for name in sorted(set(actions.values())):
        errors = [abs(c["lowest_at_seconds"][OWN] - c["offset_seconds"]) for action, c in clips if action == name]
        decided = [c["decided"][OWN] for action, c in clips if action == name]
        within = np.mean(np.array(errors) <= TOLERANCE_SECONDS + 1e-6)
        table[name] = [len(errors), round(float(within), 2), round(float(np.mean(decided)), 2)]
    return table


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
    manifest = read_manifest(options.manifest)
    tested = manifest.select(split_rows(manifest, "split", "test"))
    rows = tested.select(np.arange(min(options.clips, len(tested))))
    began = time.perf_counter()
    report = measure_sync(model, rows, audio=(OWN, SHUFFLED, SILENCE, TONE))
    taken = time.perf_counter() - began
    untrained = measure_sync(random_init(model, seed=1), rows, audio=(OWN,))
    lines = [dict(row) for row in report["rows"]] + [{**untrained["rows"][0], "audio": "own, untrained network"}]
    if "action" in rows:
        lines[0]["by_action"] = by_action(report, rows)
    seconds = sum(float(value) for value in rows["duration_seconds"]) * len(report["rows"])
    lines.append({**report["baselines"], "times_real_time": round(seconds / taken, 1)})
    for line in lines:
        text = json.dumps({"checkpoint": options.checkpoint, "n": report["about"]["n"], **_rounded(line)})
        print(text, flush=True)
        if options.out is not None:
            with options.out.open("a") as file:
                file.write(text + "\n")


def _rounded(line: dict[str, Any]) -> dict[str, Any]:
    def short(value: Any) -> Any:
        if isinstance(value, tuple):
            return [round(each, 4) for each in value]
        return round(value, 4) if isinstance(value, float) else value

    return {name: short(value) for name, value in line.items()}


if __name__ == "__main__":
    main()
