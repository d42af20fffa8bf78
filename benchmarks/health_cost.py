"""Measure the health check of a file at each depth, in milliseconds of one core.

    python benchmarks/health_cost.py FOLDER [--files 100]

The files are the first ones of the folder by name that are ok; every depth checks each of them, in turn.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import get_args

import torch

from avssl.data.health.report import Depth, HealthSettings, probe_file
from avssl.data.media_files import walk_media


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--backend", default="pyav")
    options = parser.parse_args()
    torch.set_num_threads(1)
    paths = [str(options.folder / path) for path in sorted(walk_media(options.folder))]
    reports = {path: probe_file(path, HealthSettings(backend=options.backend)) for path in paths[: options.files]}
    healthy = {path: report.info for path, report in reports.items() if report.info and report.error is None}
    if not healthy:
        raise SystemExit(f"{options.folder}: no healthy file.")
    seconds = sum(info.duration_seconds for info in healthy.values())
    cost = dict.fromkeys(get_args(Depth), 0.0)
    for path in healthy:
        for depth in cost:
            start = time.process_time()
            probe_file(path, HealthSettings(depth, options.backend))
            cost[depth] += time.process_time() - start
    print(f"{len(healthy)} files of {seconds / len(healthy):.1f} s on average ({options.backend})")
    for depth, spent in cost.items():
        print(f"{depth:>8}: {1000 * spent / len(healthy):8.1f} ms a file, {seconds / spent:6.0f} times real time")


if __name__ == "__main__":
    main()
