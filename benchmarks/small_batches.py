"""Compare InfoNCE with objectives without negatives at small batches, and SwAV with and without local views.

    python benchmarks/small_batches.py                train what is missing for three minutes, then print the table
    python benchmarks/small_batches.py --minutes 40   the same for longer; every row takes about a minute of one core
    python benchmarks/small_batches.py --table        print the measurements so far

Sources of the claims: LeJEPA, https://arxiv.org/abs/2511.08544, VICReg, https://arxiv.org/abs/2105.04906, and Barlow
Twins, https://arxiv.org/abs/2103.03230, that small batches suffice without negatives; SwAV,
https://arxiv.org/abs/2006.09882, that local views help. Clips, networks and measures are those of objectives.py, for
half of its epochs: every row has seen the same clips, and small batches take more steps. The learning rate is the
square root of batch / 32 times the one that objectives.py chose for the method (--rates), a rule that no row was tuned
for. Rows are appended to --file, and a run continues where the last one stopped.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import objectives
import torch
from objectives import EPOCHS, METHODS, RATES, SPLITS, chance_cells, measure, score, settings, spread
from rows import append_row, machine, read_rows
from shapes_in_memory import Shapes, shapes

from avssl.training.build import build_sampling

SIZES = (8, 16, 32, 64)
SMALL = ("info_nce", "sigreg", "vicreg", "barlow_twins")
"""Objectives compared at every batch size, by name."""
LOCAL_VIEWS = (0, 4)
SEEDS = (0, 1)
COLUMNS = {
    "object_video": "object, video",
    "action_video": "action, video",
    "object_audio": "object, audio",
    "action_audio": "action, audio",
    "R@10": "R@10",
    "rank_video": "rank, video",
}


def jobs() -> list[tuple[str, int, int, int]]:
    """Return (method, batch size, local views, seed) of every row, one seed of all before the next."""
    names = {str(options["name"]): method for method, options in reversed(METHODS.items())}
    small = [(names[name], size, 0) for name in SMALL if name in names for size in SIZES]
    crops = [(names["swav"], 32, count) for count in LOCAL_VIEWS if "swav" in names]
    return [(*job, seed) for seed in SEEDS for job in (*small, *crops)]


def tuned_rate(rows: list[dict[str, Any]], method: str) -> float:
    """Return the rate that objectives.py chose for a method; the first it tries if it was not run."""
    tried = [row for row in rows if row["stage"] == "tune" and row["method"] == method]
    return float(max(tried, key=score)["lr"]) if tried else RATES[0]


def run(world: Shapes, rate: float, method: str, size: int, local_views: int, seed: int) -> dict[str, Any]:
    """Train and measure one row."""
    began = time.process_time()
    lr, epochs = rate * math.sqrt(size / 32), EPOCHS // 2
    objectives.BATCH = size
    METHODS["this row"] = METHODS[method] | ({"local_views": local_views} if local_views else {})
    task = objectives.train("this row", world, lr, epochs, seed)
    return {
        "method": method,
        "batch": size,
        "local_views": local_views,
        "seed": seed,
        "lr": lr,
        "epochs": epochs,
        **measure(world, task, "single", seed),
        "cpu_seconds": time.process_time() - began,
        "machine": machine(torch.device("cpu")),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of the mean and standard deviation over seeds, with chance."""
    if not rows:
        return "no row yet"
    lines = [
        f"| method | batch | local views | seeds | {' | '.join(COLUMNS.values())} | CPU s |",
        f"| --- | ---: | ---: | ---: |{' ---: |' * len(COLUMNS)} ---: |",
    ]
    for method, size, count in dict.fromkeys(job[:3] for job in jobs()):
        own = [row for row in rows if (row["method"], row["batch"], row["local_views"]) == (method, size, count)]
        if own:
            cells = [spread([row[key] for row in own], key) for key in COLUMNS]
            seconds = sum(row["cpu_seconds"] for row in own) / len(own)
            lines.append(f"| {method} | {size} | {count} | {len(own)} | {' | '.join(cells)} | {seconds:.0f} |")
    lines.append(f"| chance | | | | {' | '.join(chance_cells(rows[0], COLUMNS))} | |")
    first = rows[0]
    probed = f"probes fitted on {first['n_fit']:.0f} and scored on {first['n_test']:.0f} clips"
    return "\n".join([*lines, "", f"{first['epochs']} epochs; {probed}, R@10 among {first['gallery']:.0f}."])


def main() -> None:
    """Make the missing rows while there is time, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    results = Path(__file__).parent / "results"
    parser.add_argument("--file", type=Path, default=Path("small_batches.jsonl"))
    parser.add_argument("--rates", type=Path, default=results / "objectives.jsonl", help="rows of objectives.py")
    parser.add_argument("--clips", type=Path, default=Path("objectives.clips"), help="folder of the rendered clips")
    parser.add_argument("--minutes", type=float, default=3.0, help="start no row that would end later")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the measurements so far")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    until, longest = time.monotonic() + 60 * options.minutes, 0.0
    if not options.table:
        world = shapes(options.clips, SPLITS, 0, build_sampling(settings(METHODS["InfoNCE"], RATES[0], 1, 0)))
        tuned = read_rows(options.rates)
        done = {(row["method"], row["batch"], row["local_views"], row["seed"]) for row in read_rows(options.file)}
        for job in (job for job in jobs() if job not in done):
            began = time.monotonic()
            if longest and began + longest > until:
                break
            append_row(options.file, run(world, tuned_rate(tuned, job[0]), *job))
            longest = max(longest, time.monotonic() - began)
            print(*job, f"{time.monotonic() - began:.0f} s", flush=True)
    print(table(read_rows(options.file)))


if __name__ == "__main__":
    main()
