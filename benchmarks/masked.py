"""Masked ratio against step time and accuracy at equal CPU minutes, with vision transformers of one size.

    python benchmarks/masked.py                     train what is missing for five minutes, then print the table
    python benchmarks/masked.py --minutes 30        the same for longer
    python benchmarks/masked.py --train-seconds 300 longer trainings, whose rows are separate; --patch 16 shorter steps
    python benchmarks/masked.py --table             print the measurements so far

The claim of masked prediction is a cheaper step: hidden patches do not pass the encoders. Every row trains the same
towers on the same clips for as many CPU seconds, so that a cheaper step takes more of them; its schedule ends with the
time. "InfoNCE" encodes all patches and has no decoder. Convolutions cannot skip patches, so these rows stand apart
from the table of objectives.py, whose encoders are convolutions. One learning rate for all, which no row was tuned for.
Rows are appended to --file, and a run continues where the last one stopped.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from objectives import chance_cells, spread
from rows import append_row, machine, read_rows
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes
from shapes_measures import encode, probes, retrieval_numbers

from avssl.config import Config, config_from_dict, read_yaml
from avssl.engine import LoopSettings, Precision, fit, seed_everything
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.tasks import PretrainTask
from avssl.transforms import estimate_statistics

BATCH, SEEDS, RATE = 32, (0, 1, 2), 1e-3
TIMED_STEPS = 8
PRECISION = Precision()
SCENE: dict[str, Any] = {"width": 64, "height": 64, "video_fps": 8.0, "clutter": 0, "background_contrast": 0.0}
SPLITS = {
    "train": Split(640, SceneSettings(**SCENE, object_weights=(4.0, 1.0, 1.0))),
    "single": Split(240, SceneSettings(**SCENE | {"object_weights": (1.0,)})),
}
DECODER = {"decoder_width": 96, "decoder_blocks": 2, "decoder_heads": 3}
PREDICTOR = {"predictor_width": 96, "predictor_blocks": 2, "predictor_heads": 3}
CAV_MAE = {"name": "cav_mae", **DECODER}
MJEPA = {"name": "mjepa", "mask_ratios": [0.5], "own_weight": 1.0, "momentum": 0.99, **PREDICTOR}
RUNS: dict[str, dict[str, Any]] = {
    "InfoNCE": {"name": "info_nce", "temperature": 0.1, "pooling": "pooled"},
    **{f"CAV-MAE, {ratio:g}": CAV_MAE | {"mask_ratios": [ratio]} for ratio in (0.25, 0.5, 0.75, 0.9)},
    "CAV-MAE, 0.25 to 0.9": CAV_MAE | {"mask_ratios": [0.25, 0.5, 0.75, 0.9]},
    "CAV-MAE, 0.75, contrast 1": CAV_MAE | {"mask_ratios": [0.75], "contrast_weight": 1.0, "temperature": 0.1},
    "M-JEPA, 0.5": MJEPA,
    "M-JEPA, 0.5, contrast 1": MJEPA | {"contrast_weight": 1.0},
}
UNTRAINED = "random-init"
COLUMNS = {
    "object_video": "object, video",
    "action_video": "action, video",
    "object_audio": "object, audio",
    "action_audio": "action, audio",
    "R@10": "R@10",
    "rank_video": "rank, video",
    "rank_audio": "rank, audio",
}


def settings(objective: dict[str, Any], seed: int, patch: int = 8) -> Config:
    """Return configs/soundingshapes_cav_mae.yaml with smaller frames, patches of so many pixels and the objective."""
    tree = copy.deepcopy(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_cav_mae.yaml"))
    tree["transform"]["video"]["size"] = SCENE["width"]
    tree["sampling"] |= {"num_frames": 2, "frames_per_second": 4.0, "audio_seconds": 0.96}
    tree["model"]["video"] |= {"patch": patch, "grid": SCENE["width"] // patch}
    tree["model"]["audio"] |= {"patch": patch, "num_columns": 96 // patch, "num_rows": 64 // patch}
    tree["objective"] = dict(objective)
    tree["optim"] |= {"lr": RATE, "batch_size": BATCH}
    tree["train"]["seed"] = seed
    return config_from_dict(tree)


def train(config: Config, world: Shapes, train_seconds: float) -> tuple[PretrainTask, int, float]:
    """Return the task, trained for about so many CPU seconds, its number of steps and the CPU seconds of one."""
    _fitted(config, world, TIMED_STEPS)  # the first steps are slower
    step_seconds = _fitted(config, world, TIMED_STEPS)[1]
    steps = max(1, round(train_seconds / step_seconds))
    task, step_seconds = _fitted(config, world, steps)
    return task, steps, step_seconds


def _fitted(config: Config, world: Shapes, steps: int) -> tuple[PretrainTask, float]:
    """Return the task after ``steps`` steps, and the mean CPU seconds of one."""
    task = _untrained(config, world)
    loader = MemoryLoader(world, world.rows("train"), BATCH, config.train.seed, build_sampling(config))
    began = time.process_time()
    fit(
        task,
        loader,
        build_optimizer(config, task),
        build_schedule(config, steps),
        settings=LoopSettings(
            steps, loader.steps_per_epoch, log_every=100, grad_clip=config.optim.grad_clip, precision=PRECISION
        ),
        progress=False,
    )
    return task, (time.process_time() - began) / steps


def _untrained(config: Config, world: Shapes) -> PretrainTask:
    seed_everything(config.train.seed)
    task, sampling = build_task(config), build_sampling(config)
    sounds = (
        task.transform.spectrogram(raw.audio) for raw in fixed_batches(world, world.rows("train")[:256], sampling)
    )
    task.transform.standardize.set_statistics(*estimate_statistics(sounds))
    return task


def run(world: Shapes, name: str, seed: int, patch: int, train_seconds: float) -> dict[str, Any]:
    """Train and measure one row."""
    config = settings(RUNS.get(name, RUNS["InfoNCE"]), seed, patch)
    if name == UNTRAINED:
        task, steps, step_seconds = _untrained(config, world), 0, 0.0
    else:
        task, steps, step_seconds = train(config, world, train_seconds)
    clips = fixed_batches(world, np.arange(len(world.ids)), build_sampling(config))
    features = encode(task.model, task.transform, clips, PRECISION)
    labeled = np.flatnonzero((world.split == "train") & (world.num_objects == 1) & (world.kind != ""))
    test = world.rows("single")
    numbers = probes(world, features, labeled, test, seed) | retrieval_numbers(features, test)
    about = {"name": name, "seed": seed, "patch": patch, "train_seconds": train_seconds}
    about |= {"steps": steps, "step_seconds": step_seconds}
    return about | numbers | {"n_fit": len(labeled), "n_test": len(test), "machine": machine(torch.device("cpu"))}


def table(rows: list[dict[str, Any]], patch: int, train_seconds: float) -> str:
    """Return a Markdown table of the mean and standard deviation over seeds, with chance."""
    rows = [row for row in rows if (row["patch"], row["train_seconds"]) == (patch, train_seconds)]
    if not rows:
        return "no row yet"
    lines = [
        f"| objective, hidden share | seeds | s a step | steps | {' | '.join(COLUMNS.values())} |",
        f"| --- | ---: | ---: | ---: |{' ---: |' * len(COLUMNS)}",
    ]
    for name in (*RUNS, UNTRAINED):
        own = [row for row in rows if row["name"] == name]
        if own:
            cells = [spread([row[key] for row in own], key) for key in COLUMNS]
            step, steps = (statistics.mean(row[key] for row in own) for key in ("step_seconds", "steps"))
            lines.append(f"| {name} | {len(own)} | {step:.3f} | {steps:.0f} | {' | '.join(cells)} |")
    lines.append(f"| chance | | | | {' | '.join(chance_cells({'pointing_random_object': 0.0} | rows[0], COLUMNS))} |")
    first = rows[0]
    return "\n".join(
        [
            *lines,
            "",
            f"Patches of {patch}; {train_seconds:g} CPU seconds of training a row, {BATCH} clips a step; probes fitted "
            f"on {first['n_fit']} and scored on {first['n_test']} clips; R@10 among {first['gallery']:.0f}, with "
            f"shuffled audio at most {max(row['R@10_shuffled'] for row in rows):.3f}.",
        ]
    )


def main() -> None:
    """Make the missing rows while there is time, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("masked.jsonl"))
    parser.add_argument("--clips", type=Path, default=Path("masked.clips"), help="folder of the rendered clips")
    parser.add_argument("--minutes", type=float, default=5.0, help="start no row that would end later")
    parser.add_argument("--patch", type=int, default=8, help="side of a patch: 4, 8 or 16; longer steps if smaller")
    parser.add_argument("--train-seconds", type=float, default=60.0, help="CPU seconds of training of every row")
    parser.add_argument("--runs", nargs="*", default=[*RUNS, UNTRAINED], help="only these rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only print the measurements so far")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    until, longest = time.monotonic() + 60 * options.minutes, 0.0
    if not options.table:
        world = shapes(options.clips, SPLITS, 0, build_sampling(settings(RUNS["InfoNCE"], 0)))
        kind = options.patch, options.train_seconds
        done = {(row["name"], row["seed"], row["patch"], row["train_seconds"]) for row in read_rows(options.file)}
        for seed in SEEDS:
            for name in options.runs:
                began = time.monotonic()
                if (name, seed, *kind) in done or (longest and began + longest > until):
                    continue
                append_row(options.file, run(world, name, seed, *kind))
                longest = max(longest, time.monotonic() - began)
                print(name, seed, f"{time.monotonic() - began:.0f} s", flush=True)
    print(table(read_rows(options.file), options.patch, options.train_seconds))


if __name__ == "__main__":
    main()
