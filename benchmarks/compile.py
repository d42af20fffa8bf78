"""Compare steps with and without torch.compile: breaks, programs and seconds.

    python benchmarks/compile.py                 trace a step of every objective; takes five minutes
    python benchmarks/compile.py --seconds       time steps of SimCLR's augmentation, eager and compiled (needs g++)

A step is transforms, networks, loss, backward pass and what follows it. The canvases of its batches have four sizes. A
part that is traced whole is one program; a break splits it, and what is compiled again for another canvas or a later
step counts as "again".
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_args

import torch
import torch._dynamo
from made_up import CONFIGS, everything, made_up_batch, ready_task, small, supervised_tasks, windows_of
from torch import fx
from torch._inductor import metrics

from avssl.config import Config, config_from_dict
from avssl.core.batch import Batch
from avssl.engine import Precision, Task
from avssl.engine.compilation import Compiled, compiled

CANVASES = ((64, 64), (64, 64), (65, 80), (96, 65))
"""Heights and widths of consecutive batches."""


@dataclass(frozen=True)
class Traced:
    """Result of compiling a step."""

    parts: int
    """Modules that were compiled."""
    programs: int
    """Programs of the first step; as many as parts without a break."""
    breaks: int
    """Places where tracing stopped."""
    again: int
    """Programs that later steps had to make."""

    @property
    def is_whole(self) -> bool:
        return self.programs == self.parts and not self.breaks and not self.again


def trace(task: Task, config: Config, what: Compiled = "all", precision: Precision | None = None) -> Traced:
    """Trace steps of a task on canvases of several sizes; nothing is generated, so programs run as they are."""
    programs = 0

    def count(program: fx.GraphModule, _: Any) -> Callable[..., Any]:
        nonlocal programs
        programs += 1
        return program.forward

    torch._dynamo.utils.counters.clear()
    first = 0
    with (precision or Precision()).applied_to(task, "cpu"), compiled(task, what, backend=count):
        for canvas in CANVASES:
            run_step(task, made_up_batch(config, windows_of(task), canvas))
            first = first or programs
    breaks = sum(torch._dynamo.utils.counters["graph_break"].values())
    parts = [module for part, modules in task.compilable().items() if what in (part, "all") for module in modules]
    return Traced(len(parts), first, breaks, programs - first)


def run_step(task: Task, batch: Batch) -> None:
    task(batch).total.backward()
    task.after_step()


def every_task() -> dict[str, Callable[[], tuple[Task, Config]]]:
    """Tasks by name, each built when it is called."""

    def pretraining(config: Config) -> Callable[[], tuple[Task, Config]]:
        return lambda: (ready_task(config), config)

    configs = everything() | {path.stem: small(path) for path in CONFIGS}
    chunked = config_from_dict({"train": {"embed_chunk_size": 3}})
    found = {name: pretraining(config) for name, config in {**configs, "in chunks": chunked}.items()}
    supervised = supervised_tasks()
    return found | {name: lambda name=name: (supervised[name], config_from_dict({})) for name in supervised}


@dataclass(frozen=True)
class Timed:
    """Times of steps in seconds."""

    first: float
    """With the making of the programs."""
    later: float
    """Median of the wall clock."""
    later_cpu: float
    """Shortest in seconds of the processor, which other programs disturb least."""
    kernels: int
    """Generated kernels of the programs; library calls (products, convolutions, spectra) come beside them."""


def seconds(what: Compiled, num_steps: int, preset: str = "simclr") -> Timed:
    """Time the first step and ``num_steps`` later ones, after one on each canvas."""
    config = config_from_dict({"transform": {"video": {"preset": preset}}})
    task = ready_task(config)
    batches = [made_up_batch(config, windows_of(task), canvas) for canvas in CANVASES]
    wall, cpu = [], []
    metrics.reset()
    with Precision().applied_to(task, "cpu"), compiled(task, what):
        for number in range(len(batches) + num_steps):
            start, start_cpu = time.perf_counter(), time.process_time()
            run_step(task, batches[number % len(batches)])
            wall.append(time.perf_counter() - start)
            cpu.append(time.process_time() - start_cpu)
    kept = slice(len(batches), None)
    return Timed(wall[0], statistics.median(wall[kept]), min(cpu[kept]), metrics.generated_kernel_count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="configurations to trace; with --seconds, parts to compile; or all")
    parser.add_argument("--seconds", action="store_true", help="time steps instead")
    parser.add_argument("--steps", type=int, default=8, help="steps that are timed")
    parser.add_argument("--preset", default="simclr", help="augmentation of frames in the steps that are timed")
    options = parser.parse_args()
    if options.seconds:
        print("| `--train.compile` | first step, s | later steps, s | CPU s | eager / compiled | in CPU s | kernels |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        eager = None
        for what in (part for part in get_args(Compiled) if part in (*(options.names or get_args(Compiled)), "none")):
            found = seconds(what, options.steps, options.preset)
            eager = eager or found
            ratios = f"{eager.later / found.later:.2f} | {eager.later_cpu / found.later_cpu:.2f}"
            times = f"{found.first:.2f} | {found.later:.3f} | {found.later_cpu:.3f}"
            print(f"| {what} | {times} | {ratios} | {found.kernels} |", flush=True)
        return
    print(f"{'configuration':<28}{'parts':>8}{'programs':>10}{'breaks':>8}{'again':>8}")
    for name, build in every_task().items():
        if not options.names or name in options.names:
            found = trace(*build())
            print(f"{name:<28}{found.parts:>8}{found.programs:>10}{found.breaks:>8}{found.again:>8}", flush=True)


if __name__ == "__main__":
    main()
