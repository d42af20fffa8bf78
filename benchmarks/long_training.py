"""Train the default objective for far too long, and look for the moment at which its heat maps are lost.

    python benchmarks/long_training.py                     train what is missing for three minutes, then print the table
    python benchmarks/long_training.py --minutes 15        the same for longer; an interrupted training continues
    python benchmarks/long_training.py --setting full      the setting of `localization.py`: 2 560 clips, 72 epochs
    python benchmarks/long_training.py --results           print the measurements so far

Every training is measured twelve times: pointing at test clips of two or three objects with their own, another clip's
and no audio, retrieval among held-out and among training clips, and the numbers of the monitors that need no masks.
"small" has 640 clips of 64 x 64 pixels and 4 frames, and 160 epochs (a step takes 0.06 s of one core);
"full" is the training that `docs/results.md` calls too long. Variants change one option of the default. Seeds set the
initial weights and the order of the clips; nothing is chosen by masks.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from localization import BATCH, BOTH, CLIPS_SEED, RATE, TOO_LONG_EPOCHS
from localization_measures import look, truth_of, visible
from objectives import PRECISION, SCENE
from rows import append_row, read_rows
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes
from short_runs import work

from avssl.config import Config, config_from_dict, flatten, read_yaml
from avssl.engine import Checkpointer, LoopSettings, WeightAverage, fit, seed_everything
from avssl.evaluation import localization_samples, random_object
from avssl.hub.pretrained import FULL_FRAME_SCALE
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_optimizer, build_sampling, build_schedule, build_task
from avssl.training.monitors import FixedClips
from avssl.training.monitors.clips import FP32, encode_clips
from avssl.training.monitors.embedding import embedding_numbers
from avssl.training.monitors.maps import map_numbers
from avssl.training.tasks import PretrainTask
from avssl.transforms import VideoEval, estimate_statistics

PARTS = 12
"""Measurements of a training, evenly spaced."""
GALLERY = 240
RESULTS = Path(__file__).parent / "results" / "long_training.jsonl"


@dataclass(frozen=True)
class Setting:
    """Size of the world, the networks and the training."""

    clips: int
    epochs: int
    side: int
    """Height and width of training frames in pixels; test frames are a third larger."""
    num_frames: int
    width: int
    test_clips: int

    @property
    def splits(self) -> dict[str, Split]:
        scene = SCENE | {"width": self.side, "height": self.side}
        several = SceneSettings(**scene | {"object_weights": (0.0, 1.0, 1.0)})
        return {
            "train": Split(self.clips, SceneSettings(**scene, off_screen_fraction=0.05)),
            "val": Split(GALLERY, SceneSettings(**scene)),
            "several": Split(self.test_clips, several),
        }


SETTINGS = {"small": Setting(640, 160, 64, 4, 16, 300), "full": Setting(2560, TOO_LONG_EPOCHS, 96, 6, 24, 400)}
DEFAULT = "default"
VARIANTS: dict[str, dict[str, Any]] = {
    DEFAULT: {},
    "weight decay 0": {"optim.weight_decay": 0.0},
    "weight decay 0.2": {"optim.weight_decay": 0.2},
    "temperature 0.05": {"objective.temperature": 0.05},
    "temperature 0.2": {"objective.temperature": 0.2},
    "best cell alone": {"objective.pooling": "max"},
    "pooled alone": {"objective.pooling": "pooled"},
    "no augmentation": {
        "transform.video.scale": [1.0, 1.0],
        "transform.video.flip_probability": 0.0,
        "transform.audio.gain": [1.0, 1.0],
    },
    "more augmentation": {"transform.video.scale": [0.4, 1.0], "transform.video.brightness": 0.4},
    "map dropout 0.5": {"model.dropout.video": 0.5},
    "average of weights": {"train.ema_decay": 0.999},
}
SEEDS = (0, 1, 2)
COLUMNS = {
    "pointing": "pointing",
    "pointing_swapped": "other audio",
    "pointing_silent": "silence",
    "R@10": "R@10, held out",
    "R@10_train": "R@10, training",
    "mirror": "mirror agreement",
    "mirror_chance": "its chance",
    "offset": "offset, cells",
}
Job = tuple[str, int, int]
"""(variant, seed, part)."""


def config_of(setting: Setting, variant: str, seed: int) -> Config:
    """Return the config of `avssl demo` with the setting's sizes and the variant's changes."""
    flat = flatten(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_cpu.yaml"))
    flat |= {f"objective.{name}": value for name, value in BOTH.items()}
    flat |= {
        "transform.video.size": setting.side,
        "transform.spectrogram.hop_seconds": 0.02,
        "sampling.num_frames": setting.num_frames,
        "sampling.audio_seconds": setting.num_frames / 4,
        "model.video.width": setting.width,
        "optim.lr": RATE,
        "optim.epochs": setting.epochs,
        "optim.batch_size": BATCH,
        "train.seed": seed,
    }
    return config_from_dict(nested(flat | VARIANTS[variant]))


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree of dotted names."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *groups, name = path.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[name] = value
    return tree


@dataclass(frozen=True)
class Bench:
    """Clips, and the places of rows and unfinished trainings."""

    name: str
    world: Shapes
    file: Path
    folder: Path

    @property
    def setting(self) -> Setting:
        return SETTINGS[self.name]


def run(bench: Bench, job: Job) -> dict[str, Any]:
    """Train to the end of a part, measure and append the row."""
    variant, seed, part = job
    began = time.perf_counter()
    config = config_of(bench.setting, variant, seed)
    seed_everything(seed)
    task = build_task(config)
    train_rows = bench.world.rows("train")
    raw = fixed_batches(bench.world, train_rows[:256], build_sampling(config))
    sounds = (task.transform.spectrogram(batch.audio) for batch in raw)
    task.transform.standardize.set_statistics(*estimate_statistics(sounds))
    loader = MemoryLoader(bench.world, train_rows, BATCH, seed, build_sampling(config))
    total = config.optim.epochs * loader.steps_per_epoch
    decay = config.train.ema_decay
    average = None if decay is None else WeightAverage(task.model, decay)
    stop = total * part // PARTS
    fit(
        task,
        loader,
        build_optimizer(config, task),
        build_schedule(config, total),
        settings=LoopSettings(
            stop,
            loader.steps_per_epoch,
            log_every=100,
            checkpoint_every=stop,
            grad_clip=config.optim.grad_clip,
            precision=PRECISION,
        ),
        checkpointer=Checkpointer(bench.folder / f"{bench.name}-{variant}-{seed}".replace(" ", "_")),
        average=average,
        resume=True,
        progress=False,
    )
    if average is not None:
        average.copy_to_model()  # the checkpoint holds the trained weights
    numbers = measure(task, bench.world, config)
    about = {"threads": torch.get_num_threads(), "torch": torch.__version__, "seconds": time.perf_counter() - began}
    row = {"setting": bench.name, "variant": variant, "seed": seed, "part": part, "steps": stop} | numbers | about
    append_row(bench.file, row)
    return row


@torch.no_grad()
def measure(task: PretrainTask, world: Shapes, config: Config) -> dict[str, float]:
    """Return pointing of test clips with larger frames, retrieval, and what the monitors measure on held-out clips."""
    sampling, own = build_sampling(config), task.transform.video_eval
    rows = visible(world, "several")
    truth = truth_of(world, rows)
    task.transform.video_eval = VideoEval(round(config.transform.video.size * FULL_FRAME_SCALE), crop="full")
    seen = look(task, world, rows, world.point_start[rows], sampling)
    task.transform.video_eval = own
    maps = {"": seen.maps(), "_swapped": seen.maps(seen.swapped()), "_silent": seen.maps(seen.silence)}
    maps["_random_object"] = random_object(torch.from_numpy(world.masks[rows]), seed=0)[0]
    numbers: dict[str, float] = {"n": len(rows)}
    for name, values in maps.items():
        numbers[f"pointing{name}"] = localization_samples(values, truth)["pointing"].mean().item()
    for name, split in (("", "val"), ("_train", "train")):
        clips = FixedClips(partial(fixed_batches, world, world.rows(split)[:GALLERY], sampling))
        found = embedding_numbers(*encode_clips(task, clips, "embeddings", FP32))
        numbers[f"R@10{name}"] = found["retrieval/R@10"]
        numbers["R@10_chance"] = found["retrieval/chance_R@10"]
        if split == "val":
            numbers |= map_numbers(task, clips, FP32)
    return numbers


def missing(rows: list[dict[str, Any]], setting: str, variants: list[str], seeds: list[int]) -> list[Job]:
    """Return the parts without a row: seed by seed, all variants of a seed, each training to its end."""
    done = {(row["variant"], row["seed"], row["part"]) for row in rows if row["setting"] == setting}
    every = [(v, seed, part) for seed in seeds for v in variants for part in range(1, PARTS + 1)]
    return [job for job in every if job not in done]


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown tables of each setting: the variants at their end, and the course of the default."""
    return "\n\n".join(
        part for name in SETTINGS for part in _tables([row for row in rows if row["setting"] == name], name)
    )


def _tables(rows: list[dict[str, Any]], setting: str) -> list[str]:
    if not rows:
        return []
    for row in rows:
        row["mirror"], row["mirror_chance"] = row["maps/mirror_agreement"], row["maps/chance_agreement"]
        row["offset"] = sum(row[f"maps/offset_{axis}"] ** 2 for axis in ("time", "down", "right")) ** 0.5
    head = [f"| {' | '.join(COLUMNS.values())} |", f"|{' ---: |' * len(COLUMNS)}"]
    ends = [f"| {setting}: at the end | seeds {head[0]}", f"| --- | ---: {head[1]}"]
    for variant in VARIANTS:
        last = [row for row in rows if row["variant"] == variant and row["part"] == PARTS]
        if last:
            ends.append(f"| {variant} | {len(last)} | {' | '.join(_spread([r[c] for r in last]) for c in COLUMNS)} |")
    course = [f"| {setting}: course of the default | seed {head[0]}", f"| --- | ---: {head[1]}"]
    for row in sorted((row for row in rows if row["variant"] == DEFAULT), key=lambda row: (row["seed"], row["part"])):
        course.append(f"| step {row['steps']} | {row['seed']} | {' | '.join(f'{row[c]:.3f}' for c in COLUMNS)} |")
    first = rows[0]
    note = (
        f"n = {first['n']} test clips, where a random object has {first['pointing_random_object']:.3f}; retrieval "
        f"among {GALLERY} clips, chance {first['R@10_chance']:.3f}."
    )
    return ["\n".join(part) for part in (ends, course) if len(part) > 2] + [note]


def _spread(values: list[float]) -> str:
    mean = f"{statistics.mean(values):.3f}"
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def main() -> None:
    """Make the missing rows while there is time, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=SETTINGS, default="small")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--seeds", nargs="*", type=int, default=list(SEEDS))
    parser.add_argument("--file", type=Path, default=RESULTS)
    parser.add_argument("--folder", type=Path, default=Path("long_training"), help="clips and unfinished trainings")
    parser.add_argument("--minutes", type=float, default=3.0, help="start no part after this time")
    parser.add_argument("--results", action="store_true", help="only print the measurements so far")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.results:
        setting = SETTINGS[options.setting]
        sampling = build_sampling(config_of(setting, DEFAULT, 0))
        world = shapes(options.folder / f"{options.setting}.clips", setting.splits, CLIPS_SEED, sampling)
        bench = Bench(options.setting, world, options.file, options.folder)
        left = partial(missing, setting=options.setting, variants=options.variants, seeds=options.seeds)
        work(lambda: left(read_rows(options.file)), partial(run, bench), time.monotonic() + 60 * options.minutes)
    print(table(read_rows(options.file)))


if __name__ == "__main__":
    main()
