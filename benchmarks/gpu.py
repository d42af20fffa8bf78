"""Measure training on a GPU: steps, losses, and clips from shards, in at most 6 minutes on a machine with one GPU.

    python benchmarks/gpu.py                          measure what is missing, then print the tables
    python benchmarks/gpu.py --table                  print the tables of the measurements so far
    python benchmarks/gpu.py --device cpu --small     a miniature of every measurement, in seconds, as a test

Rows are appended to --file, and a run continues where the last one stopped; after --minutes, what is being measured is
given up and left for the next run. A step is a training step on a batch that is already on the device: transforms,
networks, InfoNCE, backward pass and optimizer. Each stage changes one thing: fp32 as torch sets it (cuDNN's
convolutions in TF32), bf16, channels last (all make frames in the model's format); then, each beside that, cuDNN's
search for the fastest convolutions, an optimizer that is not fused, (2+1)D convolutions as 2-D ones on views, and
``--train.compile all``. All stages of a case use the same batch, the largest power of two up to 256 whose fp32
activations take at most half of the GPU's memory, as counted. Operations are those of the networks, counted by
torch.utils.flop_counter; the ceiling is a large bf16 product measured in the same run. Beside the times stand the
bounds of benchmarks/roofline.py for an H200. A measurement that fails (no memory, no compiler) becomes a row with the
reason.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import losses
import torch
import waiting
from config_cost import model_cost
from gpu_plan import FULL, SMALL, Case, Plan
from gpu_tables import tables
from peak_memory import peak, reset_peak
from precision import made_up_batch, made_up_task
from rows import append_row, machine, read_rows

from avssl.config import Config
from avssl.core.batch import Batch
from avssl.core.manifest import Manifest, read_manifest
from avssl.engine import Precision
from avssl.engine.compilation import compiled
from avssl.media.prepared.clip import CopySettings
from avssl.recipes.prepare import prepare
from avssl.synthetic import synthesize_corpus
from avssl.training.build import build_optimizer

ROOFLINE = Path(__file__).with_name("roofline.py")
MOST_STEP_SECONDS = 3.0
"""Timed steps end after this time; there are at least two."""


FAST = Precision("bf16", "channels_last")


@dataclass(frozen=True)
class Stage:
    """Way of running a step."""

    precision: Precision = FAST
    cudnn_benchmark: bool = False
    fused_optimizer: bool = True
    compiled: bool = False


STAGES = {
    "fp32": Stage(Precision("fp32", "contiguous")),
    "bf16": Stage(Precision("bf16", "contiguous")),
    "+ channels last": Stage(),
    "with cuDNN's search": Stage(cudnn_benchmark=True),
    "optimizer not fused": Stage(fused_optimizer=False),
    "on 2-D views": Stage(Precision("bf16", "channels_last_2d")),
    "with compile": Stage(compiled=True),
}


class TimeIsOver(BaseException):
    """Raised in whatever runs when the time is over; no Exception, so that nothing that retries catches it."""


# ---------------------------------------------------------------- one measurement each


def ceiling(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Return the operations a second of the bf16 product, the best of 13 calls."""
    a, b = (torch.randn(plan.matmul_size, plan.matmul_size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = min(timed(lambda: a @ b, device) for _ in range(13))
    return {"tflops": 2 * plan.matmul_size**3 / seconds / 1e12}


def bounds(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Return the rows of roofline.py for every case and its batch."""
    small = ["--small"] if plan is SMALL else []
    processes, rows = [], []
    try:
        for case in plan.cases:
            clips = str(inputs(plan, case, device)[0].optim.batch_size)
            command = [sys.executable, str(ROOFLINE), "--case", case.name, "--clips", clips, "--rows", *small]
            processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        for process in processes:
            out, _ = process.communicate()
            if process.returncode:
                raise RuntimeError(f"{' '.join(map(str, process.args))} ended with status {process.returncode}")
            rows += [json.loads(line) for line in out.splitlines()]
    finally:
        for process in processes:  # the time may be over
            process.kill()
    return {"bounds": rows}


def step(plan: Plan, case: Case, stage: Stage, device: torch.device) -> dict[str, Any]:
    """Return the seconds and the peak memory of a training step."""
    config, batch, flops = inputs(plan, case, device)
    task = made_up_task(config).to(device).train()
    optimizer = build_optimizer(config, task)
    if not stage.fused_optimizer:
        for group in optimizer.param_groups:
            group.update(fused=False, foreach=None)

    def train_steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            task(batch).total.backward()
            optimizer.step()

    with (
        stage.precision.applied_to(task, device),
        torch.backends.cudnn.flags(enabled=True, benchmark=stage.cudnn_benchmark),
        compiled(task, plan.compiled_parts if stage.compiled else "none", plan.compile_backend),
    ):
        warmup_seconds = timed(lambda: train_steps(3), device)
        reset_peak(device.type)
        count = max(2, min(plan.num_steps, int(MOST_STEP_SECONDS / timed(lambda: train_steps(1), device))))
        seconds = timed(lambda: train_steps(count), device) / count
    return {
        "clips": len(batch),
        "seconds": seconds,
        "steps": count,
        "peak_gib": peak(device.type) / 2**30,
        "flops": flops,
        "warmup_seconds": warmup_seconds,
    }


def shards(plan: Plan, folder: Path, case: Case, device: torch.device) -> dict[str, Any]:
    """Return the clips a second from a prepared copy, and the share of the time in which the device is idle."""
    config = inputs(plan, case, device)[0]
    config = replace(config, data=replace(config.data, num_workers=plan.num_workers))
    copy = waiting.repeated(prepared_copy(plan, folder, config.sampling.short_side))
    idle, rate = waiting.measure(config, copy, plan.num_loaded_steps, device)
    return {"clips": config.optim.batch_size, "clips_per_second": rate, "idle": idle, "workers": plan.num_workers}


@lru_cache(maxsize=1)
def inputs(plan: Plan, case: Case, device: torch.device) -> tuple[Config, Batch, int]:
    """Return the settings of a case, a raw batch on the device, and the operations of its networks."""
    config = case_config(plan, case, device)
    clips = config.optim.batch_size
    return config, made_up_batch(config, clips).to(device), model_cost(config, clips, Precision()).flops


def case_config(plan: Plan, case: Case, device: torch.device) -> Config:
    """Return the settings of a case with the batch of the rule above."""
    clip_bytes = model_cost(case.config(2), 2, Precision()).saved_bytes / 2
    clips = plan.most_clips
    while clips > 1 and clips * clip_bytes > memory_bytes(device) / 2:
        clips //= 2
    return case.config(clips)


def prepared_copy(plan: Plan, folder: Path, short_side: int) -> Manifest:
    """Return the shards of a synthesized corpus; make both if they are missing."""
    corpus, copy = folder / "corpus", folder / f"copy{short_side}"
    workers = plan.num_workers
    if not (corpus / "manifest.csv").is_file():
        synthesize_corpus(corpus, {"train": plan.scenes}, num_workers=workers)
    if not (copy / "manifest.csv").is_file():
        prepare(
            corpus / "manifest.csv",
            copy,
            settings=CopySettings(short_side=short_side),
            rows_per_shard=8,
            num_workers=workers,
        )
    return read_manifest(copy / "manifest.csv")


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds until the device has finished."""
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def memory_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


# ---------------------------------------------------------------- all of them


def measurements(plan: Plan, folder: Path, device: torch.device) -> Iterator[tuple[dict[str, Any], Callable[[], Any]]]:
    """Yield the keys that name a row and the function that measures it, the slowest last."""

    def steps(compiled: bool) -> Iterator[tuple[dict[str, Any], Callable[[], Any]]]:
        for case, (name, stage) in product(plan.cases, STAGES.items()):
            if stage.compiled == compiled:
                yield key("step", case) | {"stage": name}, partial(step, plan, case, stage, device)

    def key(what: str, case: Case) -> dict[str, Any]:
        return {"what": what, "pair": case.pair, "clip": case.clip}

    yield {"what": "ceiling"}, partial(ceiling, plan, device)
    yield {"what": "bound"}, partial(bounds, plan, device)
    yield from steps(compiled=False)
    for name, clips, size in plan.losses:
        loss = {"what": "loss", "loss": name, "N": clips, "D": size}
        yield loss, partial(losses.measure, name, clips, size, device.type)
    for case in plan.cases:
        yield key("shards", case), partial(shards, plan, folder, case, device)
    yield from steps(compiled=True)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeIsOver in the context after a time."""

    def stop(*_: Any) -> None:
        raise TimeIsOver

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def measure_missing(plan: Plan, file: Path, folder: Path, device: torch.device, minutes: float) -> None:
    """Append the rows that the file lacks, until the time is over."""
    began, here = time.monotonic(), machine(device)
    there = read_rows(file)
    if there and there[0]["machine"] != here:
        raise SystemExit(f"{file}: rows of {there[0]['machine']}, but this is {here}. Choose another --file.")
    todo = list(measurements(plan, folder, device))
    try:
        with time_limit(60 * minutes):
            for key, measure in todo:
                if is_measured(key, there):
                    continue
                try:
                    row = measure()
                except (RuntimeError, NotImplementedError) as error:  # no memory, no compiler: the rest is measured
                    row = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
                append_row(file, {"machine": here} | key | row)
                print(f"{time.monotonic() - began:4.0f} s  {key | row}", flush=True)
                gc.collect()
                torch.compiler.reset()
                torch.cuda.empty_cache()
    except TimeIsOver:
        left = [" ".join(map(str, key.values())) for key, _ in todo if not is_measured(key, read_rows(file))]
        print(f"left for the next run: {'; '.join(left)}")


def is_measured(key: dict[str, Any], rows: list[dict[str, Any]]) -> bool:
    """Return True if there is a row of this measurement."""
    return any(key.items() <= row.items() for row in rows)


def main() -> int:
    """Measure, or only print; exit with status 2 if there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--folder", type=Path, default=Path("gpu_corpus"), help="Folder of the corpus and its shards.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="A miniature of every measurement.")
    parser.add_argument("--minutes", type=float, default=5.5, help="Measurements end then; tables follow.")
    parser.add_argument("--table", action="store_true", help="Only print the measurements so far.")
    options = parser.parse_args()
    if not options.table:
        if options.device == "cuda" and not torch.cuda.is_available():
            print("torch sees no GPU here. --device cpu --small shows that the script runs.", file=sys.stderr)
            return 2
        plan, device = SMALL if options.small else FULL, torch.device(options.device)
        measure_missing(plan, options.file, options.folder, device, options.minutes)
    rows = read_rows(options.file)
    if not rows:
        raise SystemExit(f"{options.file}: nothing is measured yet; leave out --table.")
    print(tables(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
