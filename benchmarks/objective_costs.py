"""Measure a step of every objective with equal encoders and clips: seconds, operations, and memory kept for backward.

    python benchmarks/objective_costs.py                measure all methods of benchmarks/objectives.py, side by side
    python benchmarks/objective_costs.py --rounds 9     the same with more rounds; a round takes one step of each

A step is transforms, networks, loss, backward pass, optimizer and what follows it (targets, memories) on a batch of 32
clips in memory. Methods take turns, and seconds are the median of the rounds, so that other work on the machine falls
on all of them. Memory is what the forward pass keeps for the backward pass, counted tensor by tensor, and the buffers
of the objective. "ratio" is the time beside InfoNCE's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from objectives import BATCH, METHODS, PRECISION, RATES, SCENE, settings
from shapes_in_memory import fixed_batches, shapes

from avssl.core.batch import Batch
from avssl.core.draws import text_keys
from avssl.engine import seed_everything
from avssl.engine.cost import StepCost, step_cost
from avssl.objectives import MemoryRows
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_task
from avssl.training.tasks import PretrainTask

BASE = "InfoNCE"


@dataclass
class Measured:
    """One method: its task with an optimizer, its cost, and the seconds of each round."""

    task: PretrainTask
    optimizer: torch.optim.Optimizer
    cost: StepCost
    seconds: list[float]

    @property
    def state_bytes(self) -> int:
        return sum(x.nbytes for x in self.task.objective.buffers())


def prepared(method: str, batch: Batch, ids: np.ndarray) -> Measured:
    """Build a method's task and count one step of it."""
    config = settings(METHODS[method], RATES[0], 2, 0)
    seed_everything(0)
    task = build_task(config, MemoryRows(text_keys(ids), torch.arange(len(ids)))).train()
    sound = task.transform.spectrogram(batch.audio)
    task.transform.standardize.set_statistics(sound.mean((0, 1, 2)), sound.std((0, 1, 2)))
    task.on_epoch_start(0)
    optimizer = build_optimizer(config, task)
    with PRECISION.applied_to(task, "cpu"):
        cost = step_cost(task.model, lambda: task(batch).total)
        task.after_step()
    return Measured(task, optimizer, cost, [])


def run_step(measured: Measured, batch: Batch) -> float:
    """Return the seconds of one step."""
    with PRECISION.applied_to(measured.task, "cpu"):
        began = time.perf_counter()
        measured.optimizer.zero_grad()
        measured.task(batch).total.backward()
        measured.optimizer.step()
        measured.task.after_step()
        return time.perf_counter() - began


def table(found: dict[str, Measured]) -> str:
    """Return a Markdown table, in the order of the methods."""
    base = statistics.median(found[BASE].seconds)
    lines = [
        "| method | s / step | ratio | GFLOP / step | MiB kept for backward | MiB of the objective's state |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for method, measured in found.items():
        seconds = statistics.median(measured.seconds)
        sizes = f"{measured.cost.saved_bytes / 2**20:.0f} | {measured.state_bytes / 2**20:.2f}"
        lines.append(f"| {method} | {seconds:.3f} | {seconds / base:.2f} | {measured.cost.flops / 1e9:.1f} | {sizes} |")
    rounds = len(found[BASE].seconds)
    return "\n".join([*lines, "", f"Median of {rounds} rounds, {BATCH} clips, {torch.get_num_threads()} threads."])


def main() -> None:
    """Measure every method in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--clips", type=Path, default=Path("objective_costs.clips"), help="folder of the rendered clips"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sampling = build_sampling(settings(METHODS[BASE], RATES[0], 1, 0))
    world = shapes(options.clips, {"train": Split(320, SceneSettings(**SCENE))}, 0, sampling)
    batch = next(iter(fixed_batches(world, np.arange(BATCH), sampling)))
    methods = [method for method in METHODS if method != "supervised"]
    found = {method: prepared(method, batch, world.ids) for method in methods}
    for _ in range(1 + options.rounds):
        for measured in found.values():
            measured.seconds.append(run_step(measured, batch))
    for measured in found.values():
        del measured.seconds[0]  # the first round warms up
    print(table(found))


if __name__ == "__main__":
    main()
