"""Measure time and memory of InfoNCE over all pairs, in chunks and as the sigmoid loss, and of AVID and CMA.

    python benchmarks/losses.py                  CPU: steps of AVID and CMA and CMA's search for N = 20k and 200k rows,
                                                 then the losses of all pairs of N = 1k ... 64k clips
    python benchmarks/losses.py --device cuda    the same on a GPU
    python benchmarks/losses.py --table          prints what is measured so far
    python benchmarks/losses.py --threads 2      by default one, so that other work on the machine disturbs less

Each measurement is a process of its own: value and gradient of the loss of N clips, after one small call. Rows are
appended to --file as they are made, and a run goes on where the last one stopped. A row that is not expected to end
within --minutes of the start waits for the next run; one that needs more than that is made first in a run of its own.
Extra memory is the peak during the call less what was there before it (inputs included there). CPU seconds are those of
the process, all threads together: on a machine that others use they say more than the wall clock. Objectives with a
memory are measured on one and on two threads, in turns; see memory_losses.py.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from memory_losses import MOST_SECONDS, measure_search, measure_step, search_table, step_table
from peak_memory import peak, reset_peak
from rows import append_row, read_rows
from torch import Tensor

from avssl.objectives import info_nce, sigmoid_loss

CHUNK_SIZE = 256
TARGET = (16384, 512)
MEMORIES = [(20_000, 128), (200_000, 128)]
SIZES = [(n * 1024, 128) for n in (1, 2, 4, 8, 16, 32, 64)]
MOST_GIB = 8.0
# Tensors of N x N float32 that the naive loss holds at its peak, as measured.
NAIVE_SQUARES = 5

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "naive": lambda video, audio: info_nce(video, audio, 0.07),
    "chunked": lambda video, audio: info_nce(video, audio, 0.07, chunk_size=CHUNK_SIZE),
    "sigmoid": lambda video, audio: sigmoid_loss(video, audio, 10.0, -10.0, chunk_size=CHUNK_SIZE),
}

WITH_MEMORY: dict[str, Callable[[int, int, str], dict[str, Any]]] = {"search": measure_search, "step": measure_step}


def measure(name: str, num_clips: int, size: int, device: str) -> dict[str, Any]:
    """Measure one row: the best of up to three calls within about five seconds."""
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(num_clips, size, generator=generator).to(device).requires_grad_() for _ in range(2)]
    loss = LOSSES[name]
    for small in (64, min(num_clips, 512)):
        loss(*(x[:small] for x in inputs)).backward()
    for x in inputs:  # their gradients are there before and after
        x.grad = torch.zeros_like(x)
    before = reset_peak(device)
    wall, cpu = [], []
    while len(wall) < 3 and sum(wall) < 5:
        began, began_cpu = time.perf_counter(), time.process_time()
        value = loss(*inputs)
        value.backward()
        value = value.item()  # waits for a GPU
        if device == "cuda":
            torch.cuda.synchronize()
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - began_cpu)
    return {
        "loss": name,
        "N": num_clips,
        "D": size,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "seconds": min(wall),
        "cpu_seconds": min(cpu),
        "extra_mib": (peak(device) - before) / 2**20,
        "value": value,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def wanted() -> list[tuple[str, int, int]]:
    """Return all measurements over pairs: the target first, then small to large."""
    pairs = [TARGET, *SIZES]
    return [(name, n, d) for n, d in pairs for name in LOSSES if name != "naive" or naive_gib(n) <= MOST_GIB]


def wanted_in_all() -> list[tuple[str, int, int]]:
    return [(name, n, d) for name in WITH_MEMORY for n, d in MEMORIES] + wanted()


def naive_gib(num_clips: int) -> float:
    return NAIVE_SQUARES * num_clips**2 * 4 / 2**30


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table; ratios are to the naive row of the same size."""
    lines = [
        "| N | D | loss | s | CPU s | extra MiB | time / naive | CPU time / naive | memory / naive |",
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    by_size = {(row["N"], row["D"], row["loss"]): row for row in rows}
    for row in sorted(rows, key=lambda row: (row["D"], row["N"], list(LOSSES).index(row["loss"]))):
        naive = by_size.get((row["N"], row["D"], "naive"), {})
        # A small loss raises no peak of memory in a process that has needed more before.
        ratios = [
            f"{row[key] / naive[key]:.3f}" if naive.get(key) else "-" for key in ("seconds", "cpu_seconds", "extra_mib")
        ]
        numbers = f"{row['seconds']:.3f} | {row['cpu_seconds']:.3f} | {row['extra_mib']:.1f}"
        lines.append(f"| {row['N']} | {row['D']} | {row['loss']} | {numbers} | {' | '.join(ratios)} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("losses.jsonl"))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("LOSS", "N", "D"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        torch.set_num_threads(options.threads)
        print(json.dumps(measure_one(options.one[0], *map(int, options.one[1:]), options.device)))
        return
    began = time.monotonic()
    if not options.table:
        arguments = ["--device", options.device, "--threads", str(options.threads)]
        measure_missing(options.file, arguments, began + 60 * options.minutes)
    rows = read_rows(options.file)
    print(table([row for row in rows if row["loss"] in LOSSES]))
    for name, its_table in {"search": search_table, "step": step_table}.items():
        print(f"\n{its_table([row for row in rows if row['loss'] == name])}")
    left = [f"{name} {n} x {d}" for name, n, d in wanted_in_all() if (name, n, d) not in _keys(rows)]
    if left:
        print(f"\nleft for the next run: {', '.join(left)}")


def measure_one(name: str, num_clips: int, size: int, device: str) -> dict[str, Any]:
    if name in LOSSES:
        return measure(name, num_clips, size, device)
    began = time.perf_counter()
    row = {"loss": name, "N": num_clips, "D": size} | WITH_MEMORY[name](num_clips, size, device)
    return row | {"seconds": time.perf_counter() - began, "torch": torch.__version__}


def measure_missing(file: Path, arguments: list[str], until: float) -> None:
    """Append a row for each missing measurement that should end in time."""
    first = True
    for name, num_clips, size in wanted_in_all():
        rows = read_rows(file)
        if (name, num_clips, size) in _keys(rows):
            continue
        if not first and time.monotonic() + _expected(rows, name, num_clips, size) > until:
            continue
        first = False
        command = [sys.executable, __file__, *arguments, "--one", name, str(num_clips), str(size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        append_row(file, json.loads(done.stdout))
        print(done.stdout.strip(), flush=True)


def _keys(rows: list[dict[str, Any]]) -> set[tuple[str, int, int]]:
    return {(row["loss"], row["N"], row["D"]) for row in rows}


def _expected(rows: list[dict[str, Any]], name: str, num_clips: int, size: int) -> float:
    """Return the expected seconds, from the largest smaller row of the same loss and a start of Python."""
    if name in WITH_MEMORY:
        return MOST_SECONDS
    known = [row for row in rows if row["loss"] == name and row["N"] < num_clips]
    if not known:
        return 5.0
    largest = max(known, key=lambda row: row["N"])
    return 5 + float(largest["seconds"]) * (num_clips / largest["N"]) ** 2 * size / largest["D"]


if __name__ == "__main__":
    main()
