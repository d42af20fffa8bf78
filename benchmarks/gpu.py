"""Measure training on a GPU: steps, losses, and clips from shards, in under 8 minutes on a machine with one GPU.

    python benchmarks/gpu.py                          measure what is missing, then print the tables
    python benchmarks/gpu.py --table                  print the tables of the measurements so far
    python benchmarks/gpu.py --device cpu --small     a miniature of every measurement, in seconds, as a test

Rows are appended to --file, and a run continues where the last one stopped; no measurement begins later than --minutes.
A step is a training step on a batch that is already on the device: transforms, networks, InfoNCE, backward pass and
optimizer. Each stage adds one thing: fp32 as torch sets it (cuDNN's convolutions in TF32), bf16, channels last (all
make frames in the model's format), torch.compile of the model. All stages of a pair use the same batch, the largest
power of two up to 256 whose fp32 activations take at most half of the GPU's memory, as counted. Operations are those
of the networks, counted by torch.utils.flop_counter; the ceiling is a large bf16 product measured in the same run. A
measurement that fails (no memory, no compiler) becomes a row with the reason.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import losses
import torch
import waiting
from config_cost import model_cost
from gpu_plan import FULL, SMALL, Plan
from gpu_tables import tables
from peak_memory import peak, reset_peak
from precision import made_up_batch, made_up_task
from rows import append_row, machine, read_rows

from avssl.config import Config, choose, load_config
from avssl.core.manifest import Manifest, read_manifest
from avssl.engine import Precision
from avssl.media.prepared.clip import CopySettings
from avssl.recipes.prepare import prepare
from avssl.synthetic import synthesize_corpus
from avssl.training.build import build_optimizer

CONFIG = Path(__file__).parents[1] / "configs" / "avid_kinetics.yaml"
COMPILED = "+ compile"
STAGES = {
    "fp32": Precision("fp32", "contiguous"),
    "bf16": Precision("bf16", "contiguous"),
    "+ channels last": Precision("bf16", "channels_last"),
    COMPILED: Precision("bf16", "channels_last"),
}


# ---------------------------------------------------------------- one measurement each


def ceiling(plan: Plan, device: torch.device) -> dict[str, Any]:
    """Return the operations a second of the bf16 product, the best of 13 calls."""
    a, b = (torch.randn(plan.matmul_size, plan.matmul_size, device=device, dtype=torch.bfloat16) for _ in range(2))
    seconds = min(timed(lambda: a @ b, device) for _ in range(13))
    return {"tflops": 2 * plan.matmul_size**3 / seconds / 1e12}


def step(plan: Plan, pair: str, shape: tuple[int, int], stage: str, device: torch.device) -> dict[str, Any]:
    """Return the seconds and the peak memory of a training step."""
    config = pair_config(plan, pair, shape, device)
    task, batch = made_up_task(config).to(device).train(), made_up_batch(config, config.optim.batch_size).to(device)
    if stage == COMPILED:
        task.model = torch.compile(task.model, backend=plan.compile_backend)
    optimizer = build_optimizer(config, task)

    def train_steps(count: int) -> None:
        for _ in range(count):
            optimizer.zero_grad()
            task(batch).total.backward()
            optimizer.step()

    with STAGES[stage].applied_to(task, device):
        warmup_seconds = timed(lambda: train_steps(3), device)
        reset_peak(device.type)
        seconds = timed(lambda: train_steps(plan.num_steps), device) / plan.num_steps
    return {
        "clips": len(batch),
        "seconds": seconds,
        "peak_gib": peak(device.type) / 2**30,
        "flops": model_cost(config, len(batch), Precision()).flops,
        "warmup_seconds": warmup_seconds,
    }


def shards(plan: Plan, folder: Path, pair: str, shape: tuple[int, int], device: torch.device) -> dict[str, Any]:
    """Return the clips a second from a prepared copy, and the share of the time in which the device is idle."""
    config = pair_config(plan, pair, shape, device)
    config = replace(config, data=replace(config.data, num_workers=plan.num_workers))
    copy = waiting.repeated(prepared_copy(plan, folder, config.sampling.short_side))
    idle, rate = waiting.measure(config, copy, plan.num_loaded_steps, device)
    return {"clips": config.optim.batch_size, "clips_per_second": rate, "idle": idle, "workers": plan.num_workers}


def pair_config(plan: Plan, pair: str, shape: tuple[int, int], device: torch.device) -> Config:
    """Return AVID's inputs and optimizer with these encoders, this clip shape, and the batch of the rule above."""
    base, (frames, size), (video, audio) = load_config(CONFIG), shape, plan.pairs[pair]
    config = replace(
        base,
        sampling=replace(base.sampling, num_frames=frames, short_side=round(size / 0.875)),
        transform=replace(base.transform, video=replace(base.transform.video, size=size)),
        model=replace(base.model, video=video, audio=audio),
        objective=choose("objective", "info_nce", pooling="pooled"),
    )
    clip_bytes = model_cost(config, 2, Precision()).saved_bytes / 2
    clips = plan.most_clips
    while clips > 1 and clips * clip_bytes > memory_bytes(device) / 2:
        clips //= 2
    return replace(config, optim=replace(config.optim, batch_size=clips))


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
    cases = [(pair, shape) for pair in plan.pairs for shape in plan.shapes]

    def steps(stages: list[str]) -> Iterator[tuple[dict[str, Any], Callable[[], Any]]]:
        for (pair, shape), stage in product(cases, stages):
            key = {"what": "step", "pair": pair, "clip": clip_name(shape), "stage": stage}
            yield key, partial(step, plan, pair, shape, stage, device)

    yield {"what": "ceiling"}, partial(ceiling, plan, device)
    yield from steps([stage for stage in STAGES if stage != COMPILED])
    for name, clips, size in plan.losses:
        key = {"what": "loss", "loss": name, "N": clips, "D": size}
        yield key, partial(losses.measure, name, clips, size, device.type)
    for pair, shape in cases:
        key = {"what": "shards", "pair": pair, "clip": clip_name(shape)}
        yield key, partial(shards, plan, folder, pair, shape, device)
    yield from steps([COMPILED])


def clip_name(shape: tuple[int, int]) -> str:
    return f"{shape[0]} x {shape[1]}²"


def measure_missing(plan: Plan, file: Path, folder: Path, device: torch.device, minutes: float) -> None:
    """Append the rows that the file lacks, until the time is over."""
    began, here = time.monotonic(), machine(device)
    there = read_rows(file)
    if there and there[0]["machine"] != here:
        raise SystemExit(f"{file}: rows of {there[0]['machine']}, but this is {here}. Choose another --file.")
    for key, measure in measurements(plan, folder, device):
        if any(key.items() <= row.items() for row in there):
            continue
        if time.monotonic() - began > 60 * minutes:
            print(f"left for the next run: {' '.join(map(str, key.values()))}, and what follows it")
            return
        try:
            row = measure()
        except (RuntimeError, NotImplementedError) as error:  # no memory, no compiler: the rest can be measured
            row = {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
        append_row(file, {"machine": here} | key | row)
        print(f"{time.monotonic() - began:4.0f} s  {key | row}", flush=True)
        gc.collect()
        torch.compiler.reset()
        torch.cuda.empty_cache()


def main() -> int:
    """Measure, or only print; exit with status 2 if there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("gpu.jsonl"))
    parser.add_argument("--folder", type=Path, default=Path("gpu_corpus"), help="Folder of the corpus and its shards.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="A miniature of every measurement.")
    parser.add_argument("--minutes", type=float, default=7.0, help="No measurement begins later than this.")
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
