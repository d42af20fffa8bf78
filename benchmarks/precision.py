"""Measure a training step in {fp32, bf16} x {contiguous, channels_last, channels_last_2d}, side by side in one run.

    python benchmarks/precision.py              about 3 minutes on 2 CPU cores; then the table
    python benchmarks/precision.py --video avid_r2plus1d_18 --batch-size 4 --file avid.jsonl
    python benchmarks/precision.py --table      print the measurements so far

The step is that of configs/soundingshapes_cpu.yaml, or the same with another video encoder, on a batch of its size in
memory: transforms, model, loss and backward pass. A round times the six in turn with the probe of
``train.precision: auto``, and records its choice. Rounds are appended to --file, and a run continues where the last one
stopped. A time is the median over the rounds; a ratio is the median of the rounds' own ratios, which other load
disturbs least. CPU seconds cover all threads of the process: on a shared machine they are more reliable than the wall
clock, which the probe uses.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rows import append_row, bf16_units, machine, read_rows

from avssl.config import Config, choose, load_config
from avssl.core.batch import Batch, BatchIndex
from avssl.engine import Precision, all_precisions, choose_device, probe_precision, seed_everything
from avssl.training.build import build_sampling, build_task
from avssl.training.setup import choose_precision, precision_trial
from avssl.training.tasks import PretrainTask

CONFIG = Path(__file__).parents[1] / "configs" / "soundingshapes_cpu.yaml"
BASE = "fp32 contiguous"
TARGET = 2.0


def made_up_batch(config: Config, num_clips: int) -> Batch:
    """Return a raw batch of noise with the loader's shape for square frames."""
    sampling = build_sampling(config)
    generator = torch.Generator().manual_seed(0)
    side = sampling.short_side
    assert side is not None, "build_sampling sets it"
    shape = (num_clips, sampling.num_frames, 3, side, side)
    video = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    audio = torch.randn(num_clips, sampling.num_samples, generator=generator) / 10
    rows = torch.arange(num_clips)
    return Batch(video, audio, BatchIndex(rows, rows, rows), torch.full((num_clips, 2), side))


def made_up_task(config: Config) -> PretrainTask:
    """Return an untrained task with statistics that leave spectrograms unchanged."""
    seed_everything(config.train.seed)
    task = build_task(config)
    standardize = task.transform.standardize
    standardize.set_statistics(torch.zeros_like(standardize.mean), torch.ones_like(standardize.mean))
    return task


def measure_round(config: Config, device: torch.device) -> dict[str, Any]:
    """Return the seconds a step of each precision, and the choice of ``auto``."""
    task, batch = made_up_task(config), made_up_batch(config, config.optim.batch_size)
    trial = precision_trial(task, batch.to(device), device)
    cpu: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def timed_trial(precision: Precision) -> Iterator[Callable[[], None]]:
        def timed_step() -> None:
            began = time.process_time()
            step()
            cpu[str(precision)].append(time.process_time() - began)

        with trial(precision) as step:
            yield timed_step

    times = probe_precision(all_precisions(), timed_trial)
    taken = choose_precision(config, task, batch, device).precision
    # The first call of each is the probe's warm-up.
    cpu_seconds = {name: min(values[1:]) for name, values in cpu.items()}
    seconds = {str(precision): value for precision, value in times.seconds.items()}
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "taken": str(taken), "clips": len(batch)}


def speedup(rows: list[dict[str, Any]], clock: str, name: str) -> float:
    """Return the speed relative to fp32 contiguous: the median of the rounds' ratios."""
    return statistics.median(row[clock][BASE] / row[clock][name] for row in rows)


def table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table and a line about the machine."""
    lines = [
        "| precision | ms a step | lowest | highest | times fp32 contiguous | in CPU seconds | chosen by `auto` |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    taken = Counter(row["taken"] for row in rows)
    names = list(rows[0]["seconds"])
    for name in names:
        seconds = [row["seconds"][name] for row in rows]
        times = " | ".join(f"{1000 * f(seconds):.0f}" for f in (statistics.median, min, max))
        ratios = " | ".join(f"{speedup(rows, clock, name):.2f}" for clock in ("seconds", "cpu_seconds"))
        lines.append(f"| {name} | {times} | {ratios} | {taken[name]} of {len(rows)} |")
    default, fastest = taken.most_common(1)[0][0], max(names, key=lambda name: speedup(rows, "seconds", name))
    units = ", ".join(rows[0]["bf16_units"])
    aim = f" (aim: at least {TARGET:g} times, as there are bf16 units: {units})" if units else " (no bf16 units here)"
    lines += [
        "",
        f"{rows[0]['machine']}; {rows[0]['clips']} clips a step, {len(rows)} rounds. `auto` chooses {default}; the "
        f"fastest is {fastest}, {speedup(rows, 'seconds', fastest):.2f} times as fast as {BASE}{aim}.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure the missing rounds, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("precision.jsonl"))
    parser.add_argument("--video", help="Name of a video encoder, in place of the config's.")
    parser.add_argument("--device", default="auto", help='"auto", "cpu", "cuda" or "cuda:N".')
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--minutes", type=float, default=3.0, help="Start no round later than this.")
    parser.add_argument("--batch-size", type=int, help="Clips a step; default: the config's.")
    parser.add_argument("--table", action="store_true", help="Only print the measurements so far.")
    options = parser.parse_args()
    device, config = choose_device(options.device), load_config(CONFIG)
    if options.video is not None:
        config.model.video = choose("model.video", options.video)
    config.optim.batch_size = options.batch_size or config.optim.batch_size
    here = {"machine": machine(device), "bf16_units": bf16_units(device)}
    rows, began = read_rows(options.file), time.monotonic()
    if any(row["machine"] != here["machine"] for row in rows) and not options.table:
        raise SystemExit(
            f"{options.file}: rows of {rows[0]['machine']}, but this is {here['machine']}. Choose another --file."
        )
    while not options.table and len(rows) < options.rounds and time.monotonic() - began < 60 * options.minutes:
        rows.append(here | measure_round(config, device))
        append_row(options.file, rows[-1])
        print(f"round {len(rows)} of {options.rounds}", flush=True)
    if not rows:
        raise SystemExit(f"{options.file}: no round has been measured; run without --table.")
    print(table(rows))


if __name__ == "__main__":
    main()
