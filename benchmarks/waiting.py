"""Measure how long the demo's model waits for clips from files and from a prepared copy, side by side in one run.

    python benchmarks/loader.py --folder FOLDER     make the files and the copies
    python benchmarks/waiting.py FOLDER

On a CPU the decoders and the model share the cores, so decoding slows the model too: compare the clips a second. On a
GPU, waiting is idle time.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from avssl.config import Config
from avssl.core.manifest import Manifest, read_manifest
from avssl.engine import Precision, choose_device
from avssl.recipes.demo.settings import DemoSettings
from avssl.training.build import build_loader, build_optimizer, build_task

PRECISION = Precision("bf16", "channels_last")
ROWS = 480


def repeated(manifest: Manifest) -> Manifest:
    """Return the rows repeated under other ids, as a corpus of a few files is soon read."""
    columns = {name: manifest[name].tolist() * (ROWS // len(manifest) + 1) for name in manifest.table.column_names}
    columns["id"] = [f"{name}#{place}" for place, name in enumerate(columns["id"])]
    return Manifest.from_columns(columns, manifest.root)


def measure(config: Config, manifest: Manifest, steps: int, device: torch.device) -> tuple[float, float]:
    """Return the share of time spent waiting for the next batch, and clips a second, after ten steps."""
    task = build_task(config).to(device)
    task.transform.standardize.set_statistics(
        torch.zeros_like(task.transform.standardize.mean), torch.ones_like(task.transform.standardize.mean)
    )
    optimizer = build_optimizer(config, task)
    batches = iter(build_loader(config, manifest, device, 0.1))
    waited = total = 0.0
    with PRECISION.applied_to(task, device):
        for step in range(steps + 10):
            began = time.perf_counter()
            batch = next(batches).to(device)
            ready = time.perf_counter()
            optimizer.zero_grad()
            task(batch).total.backward()
            optimizer.step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if step >= 10:
                waited += ready - began
                total += time.perf_counter() - began
    return waited / total, steps * config.optim.batch_size / total


def main() -> None:
    """Print a line for each source."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=30)
    options = parser.parse_args()
    device = choose_device("auto")
    raw = read_manifest(options.folder / "manifest.csv")
    ordinary = raw.select(np.array([str(name).startswith("340x256_gop250") for name in raw["id"]]))
    copy = read_manifest(options.folder / "copy128" / "manifest.csv")
    print(f"{device}, batches of 32 clips of 8 x 112 + 2 s, {options.steps} steps\n")
    print("| source | waits | clips a second |\n| --- | ---: | ---: |")
    base = DemoSettings().config(options.folder)
    for name, manifest, clips_per_read in (
        ("files, 340x256, keyframe every 250, 1 clip a read", ordinary, 1),
        ("the same, 8 clips a read", ordinary, 8),
        ("prepared copy, 1 clip a read", copy, 1),
    ):
        config = replace(base, data=replace(base.data, clips_per_read=clips_per_read))
        share, rate = measure(config, repeated(manifest), options.steps, device)
        print(f"| {name} | {share:.0%} | {rate:.1f} |", flush=True)


if __name__ == "__main__":
    main()
