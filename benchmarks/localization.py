"""Compare methods of sound-source localization on SoundingShapes, with their baselines.

    python benchmarks/localization.py               train what is missing for three minutes, then print the tables
    python benchmarks/localization.py --minutes 60  the same for longer
    python benchmarks/localization.py --table       print the measurements so far

Encoders, clips, epochs and learning rate are equal for all methods; temperatures are 0.1 (LVS: 0.07), and the rest is
as published except where the objective's config file differs. The last weights of a run are scored: nothing is chosen
by boxes or masks. The training set has 2 560 clips of one to three objects, 5 % of them with off-screen sound. Test
clips have two or three objects and a sound event: 400 single clips, 200 interactive pairs (the same frames twice,
another object sounding), 200 clips in which two of three objects sound (at events at least 0.15 s from those of the
other); and 300 clips without a visible sounding object, 200 with off-screen sound and 100 silent. The first run renders
all of them, which takes three minutes. Rows are appended to --file, weights are kept in --models, and an interrupted
training continues in the next run. Seeds set the initial weights and the order of the clips. Finally the long trainings
are scored on 400 clips and 500 pairs of another seed of the world, at three frame sizes and smoothed once or twice.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from localization_measures import TwoSources, baselines, by_size, measure, two_sources
from localization_tables import tables
from objectives import PRECISION, SCENE, read_rows
from shapes_in_memory import Clips, MemoryLoader, Shapes, fixed_batches, shapes
from short_runs import fit_in_runs, work

from avssl.config import Config, config_from_dict, read_yaml
from avssl.core.whole_file import whole_file
from avssl.data.sampling import ClipSampling
from avssl.engine import LoopSettings, seed_everything
from avssl.hub.pretrained import FULL_FRAME_SCALE
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.tasks import PretrainTask
from avssl.transforms import VideoEval, estimate_statistics

EPOCHS, LONG_EPOCHS, TOO_LONG_EPOCHS = 10, 36, 72
MORE_EPOCHS = 20
"""Epochs over three times the clips, those of "train" and "train_more"."""
BATCH = 32
RATE = 3e-3
SEEDS = (0, 1, 2)
CLIPS_SEED = 2

SEVERAL = SceneSettings(**SCENE | {"object_weights": (0.0, 1.0, 1.0)})
SPLITS = {
    "train": Split(2560, SceneSettings(**SCENE, off_screen_fraction=0.05)),
    "train_two": Split(1280, SceneSettings(**SCENE | {"object_weights": (0.0, 1.0, 1.0)}, num_sounding=2)),
    "val": Split(240, SceneSettings(**SCENE)),
    "several": Split(400, SEVERAL),
    "pairs": Split(400, SceneSettings(**asdict(SEVERAL) | {"interactive_pairs": True})),
    "two": Split(200, SceneSettings(**SCENE | {"object_weights": (0.0, 0.0, 1.0)}, num_sounding=2)),
    "off_screen": Split(200, SceneSettings(**asdict(SEVERAL) | {"off_screen_fraction": 1.0})),
    "silent": Split(100, SceneSettings(**asdict(SEVERAL) | {"silent_fraction": 1.0})),
    "train_more": Split(5120, SceneSettings(**SCENE, off_screen_fraction=0.05)),
}


@dataclass(frozen=True)
class Method:
    """Changes of a method to the common config."""

    objective: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    epochs: int = EPOCHS
    seeds: tuple[int, ...] = SEEDS[:1]
    splits: tuple[str, ...] = ("train",)
    """Splits of the training set."""
    frame_size: int = SCENE["width"]
    """Height and width of test frames in pixels; training frames have 96."""
    weights: str = ""
    """The method whose weights this one evaluates, if it trains none of its own."""


DEFAULT, LONG = "pooled + best cell (default)", "default, long"
BEST = "default, long, three times the clips, larger frames"
BOTH = {"name": "info_nce", "temperature": 0.1, "pooling": "both"}
HALF = {"dropout": {"video": 0.5}}
FNAC = {"temperature": 0.1, "audio_weight": 12.5, "image_weight": 12.5, "foreground_weight": 12.5, "warmup_epochs": 3}
DENSE = {"name": "dense_av", "num_heads": 2, "temperature": 0.1, "silence_dbfs": -60.0, "pooled_weight": 1.0}
LARGER = round(SCENE["width"] * FULL_FRAME_SCALE)
METHODS: dict[str, Method] = {
    "global embedding": Method({"name": "info_nce", "temperature": 0.1, "pooling": "pooled"}),
    "EZ-VSL": Method({"name": "info_nce", "temperature": 0.1, "pooling": "max"}, seeds=SEEDS),
    "LVS": Method({"name": "lvs"}),
    "SLAVC": Method({"name": "slavc", "temperature": 0.1, "momentum": 0.99}, HALF),
    "FNAC": Method({"name": "fnac", "max_over": "cells", **FNAC}, HALF),
    "SSL-TIE": Method({"name": "ssl_tie"}),
    "DenseAV, 2 heads": Method({**DENSE, "negative_sounds": 4}, seeds=SEEDS),
    DEFAULT: Method(BOTH, seeds=SEEDS),
    "default, silence and noise as negatives": Method({**BOTH, "negative_sounds": 4}, seeds=SEEDS),
    LONG: Method(BOTH, epochs=LONG_EPOCHS, seeds=SEEDS),
    "default, long, larger frames": Method(BOTH, epochs=LONG_EPOCHS, seeds=SEEDS, frame_size=LARGER, weights=LONG),
    "default, too long, larger frames": Method(BOTH, epochs=TOO_LONG_EPOCHS, seeds=SEEDS[:2], frame_size=LARGER),
    BEST: Method(BOTH, epochs=MORE_EPOCHS, seeds=SEEDS, splits=("train", "train_more"), frame_size=LARGER),
    "DenseAV, long, two sounds in a third": Method(
        {**DENSE, "negative_sounds": 4}, epochs=20, splits=("train", "train_two"), frame_size=LARGER
    ),
}
UNTRAINED, UNSEEN_CLIPS = "random-init", "unseen clips: "
UNSEEN, UNSEEN_SEED = {"several": 400, "pairs": 1000}, 7
PICTURES = (96, LARGER, 144)
Job = tuple[str, int]
"""(method, seed)."""


def settings(method: Method, seed: int) -> Config:
    """Return a method's config: that of `avssl demo` with smaller frames and encoders."""
    tree = copy.deepcopy(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_cpu.yaml"))
    tree["transform"]["video"]["size"] = SCENE["width"]
    tree["transform"]["spectrogram"]["hop_seconds"] = 0.02
    tree["sampling"] |= {"num_frames": 6, "audio_seconds": 1.5}
    tree["model"]["video"]["width"] = 24
    tree["model"] |= method.model
    tree["objective"] = dict(method.objective)
    tree["optim"] |= {"lr": RATE, "epochs": method.epochs, "batch_size": BATCH}
    tree["train"]["seed"] = seed
    return config_from_dict(tree)


def untrained(config: Config, world: Clips) -> PretrainTask:
    """Return a task without training of its own, whose transform has its statistics."""
    seed_everything(config.train.seed)
    task = build_task(config, pretrained=True)
    raw = fixed_batches(world, world.rows("train")[:256], build_sampling(config))
    sounds = (task.transform.spectrogram(batch.audio) for batch in raw)
    task.transform.standardize.set_statistics(*estimate_statistics(sounds))
    return task


def train(
    task: PretrainTask, config: Config, world: Clips, place: Path, until: float, splits: tuple[str, ...] = ("train",)
) -> None:
    """Train ``task``, or load the finished weights of ``place`` with .pt.

    Raises:
        OutOfTime: If it takes longer; the folder ``place`` keeps its state.
    """
    weights = place.with_suffix(".pt")
    if weights.exists():
        task.load_state_dict(torch.load(weights, weights_only=True))
        return
    rows = np.flatnonzero(np.isin(world.split, splits))
    loader = MemoryLoader(world, rows, config.optim.batch_size, config.train.seed, build_sampling(config))
    total = config.optim.epochs * loader.steps_per_epoch
    loop = LoopSettings(
        total, loader.steps_per_epoch, log_every=100, grad_clip=config.optim.grad_clip, precision=PRECISION
    )
    fit_in_runs(task, loader, build_optimizer(config, task), build_schedule(config, total), loop, place, until)
    with whole_file(weights) as temporary:
        torch.save(task.state_dict(), temporary)


@dataclass(frozen=True)
class Bench:
    """Clips, and the places of rows and weights."""

    world: Shapes
    two: TwoSources
    file: Path
    models: Path
    until: float
    """Time to stop, by :func:`time.monotonic`."""

    def model(self, name: str, seed: int) -> PretrainTask:
        """Return a method's task with trained weights, at the method's size of test frames."""
        method = METHODS[DEFAULT if name == UNTRAINED else name]
        config = settings(method, seed)
        task = untrained(config, self.world)
        if name != UNTRAINED:
            place = self.models / f"{(method.weights or name).replace(' ', '_')}-{seed}"
            train(task, config, self.world, place, self.until, method.splits)
        task.transform.video_eval = VideoEval(method.frame_size, crop="full")
        return task

    def unseen(self, sampling: ClipSampling) -> Shapes:
        """Return other clips of the same kind."""
        splits = {name: replace(SPLITS[name], num_clips=count) for name, count in UNSEEN.items()}
        return shapes(self.models / "unseen.clips", splits, UNSEEN_SEED, sampling)


def run(bench: Bench, job: Job) -> dict[str, Any]:
    """Make one row and append it."""
    name, seed = job
    began = time.perf_counter()
    sampling = build_sampling(settings(METHODS[LONG], seed))
    if name == "baselines":
        numbers = baselines(bench.world, seed)
    elif name.startswith(UNSEEN_CLIPS):
        task = bench.model(name.removeprefix(UNSEEN_CLIPS), seed)
        numbers = {"sizes": by_size(task, bench.unseen(sampling), sampling, PICTURES, (1, 2))}
    else:
        task = bench.model(name, seed)
        numbers = measure(task, bench.world, bench.two, sampling) | {
            "epochs": 0 if name == UNTRAINED else METHODS[name].epochs,
            "parameters": sum(p.numel() for p in task.model.parameters()),
        }
    about = {"threads": torch.get_num_threads(), "torch": torch.__version__, "seconds": time.perf_counter() - began}
    row = {"method": name, "seed": seed} | numbers | about
    with bench.file.open("a") as out:
        out.write(json.dumps(row) + "\n")
    return row


def jobs(methods: list[str]) -> list[Job]:
    """Return the names of all rows: every method once, then the other seeds."""
    wanted = {name: method.seeds for name, method in METHODS.items()}
    every = {"baselines": SEEDS[:1], UNTRAINED: SEEDS[:1], **wanted}
    found = [(name, seed) for seed in SEEDS for name, seeds in every.items() if seed in seeds]
    found += [(UNSEEN_CLIPS + name, seed) for name in (LONG, BEST) for seed in SEEDS]
    return [job for job in found if job[0] in (methods or [job[0]])]


def done(rows: list[dict[str, Any]]) -> set[Job]:
    return {(row["method"], row["seed"]) for row in rows}


def main() -> None:
    """Make the missing rows while there is time, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("localization.jsonl"))
    parser.add_argument("--clips", type=Path, default=Path("localization.clips"), help="folder of the rendered clips")
    parser.add_argument("--models", type=Path, default=Path("localization.models"), help="folder of the weights")
    parser.add_argument("--minutes", type=float, default=3.0, help="an unfinished training continues in the next run")
    parser.add_argument("--methods", nargs="*", default=[], help="only these methods")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="only print the measurements so far")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    until = time.monotonic() + 60 * options.minutes
    if not options.table:
        sampling = build_sampling(settings(METHODS[LONG], 0))
        world = shapes(options.clips, SPLITS, CLIPS_SEED, sampling)
        two = two_sources(world, SPLITS["two"], CLIPS_SEED, sampling)
        bench = Bench(world, two, options.file, options.models, until)
        work(
            lambda: [job for job in jobs(options.methods) if job not in done(read_rows(options.file))],
            partial(run, bench),
            until,
        )
    print(tables(read_rows(options.file)))


if __name__ == "__main__":
    main()
