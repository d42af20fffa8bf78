"""Which augmentation makes views that teach: pairs of operations by probe, shortcuts between views, and costs.

    python benchmarks/augmentation.py                 train what is missing for three minutes, then print the tables
    python benchmarks/augmentation.py --minutes 30    the same for longer; a row takes some 20 seconds of one core
    python benchmarks/augmentation.py --table         print the tables of the measurements so far, and draw them
    python benchmarks/augmentation.py --shortcuts     how often a view finds its partner by color or spectrogram alone
    python benchmarks/augmentation.py --cost          time of each operation beside the default transform, in one run
    python benchmarks/augmentation.py --views         draw views of a few clips under each operation

The tables are figure 5 of SimCLR (Chen et al., 2020, https://arxiv.org/abs/2002.05709), for frames and for audio: one
small encoder learns from two views of a clip of one modality, by InfoNCE between them, and a linear probe on few labels
and 20 nearest neighbors on its frozen features name the kind of the sounding object. Frames are squares around the
object at an instant when it sounds, as SimCLR's images show one object each. Unlike in SimCLR both views are augmented,
and the operations come in the fixed order of the transform, so that a table is symmetric; its diagonal holds single
operations. Strengths are those of the preset "simclr", and random erasing covers half of the clips.

Rows are appended to --file, and a run continues where the last one stopped.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from augmentation_shortcuts import (
    color_histograms,
    found_by_aligned_spectrogram,
    found_by_histogram,
    found_by_mean_spectrum,
    found_by_spectrogram,
)
from augmentation_tables import draw_pairs, draw_views, tables
from rows import append_row, read_rows
from shapes_in_memory import MemoryLoader, Shapes, fixed_batches, shapes
from short_runs import work
from torchvision.transforms.v2.functional import resize

from avssl.config import Config, config_from_dict
from avssl.core.batch import Batch, LossTerms
from avssl.engine import LoopSettings, Task, WarmupCosine, create_optimizer, fit, seed_everything
from avssl.evaluation import knn_classifier, linear_probe
from avssl.objectives import info_nce
from avssl.reports.text_table import text_table
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_model, build_sampling, build_transform
from avssl.transforms import AUDIO_PRESETS, VIDEO_PRESETS, ClipTransform, estimate_statistics

MODALITIES = ("video", "audio")
STEPS = {"video": 300, "audio": 30}
BATCH, LR, TEMPERATURE = 64, 3e-3, 0.2
SEEDS = (0, 1)
NUM_GALLERY = 64
GALLERY_SEEDS = tuple(range(10))
SCENE = {"width": 128, "height": 128, "video_fps": 8.0, "duration_seconds": 3.0, "object_weights": (1.0,)}
SIDE = 64
"""Pixels of the square around the object."""
SPLITS = {"train": Split(1024, SceneSettings(**SCENE)), "single": Split(1000, SceneSettings(**SCENE))}
LABELED_OF_KIND = 20
"""Training clips of each kind for the linear probe; with all of them it does well on untrained audio features too."""


def world_of_objects(folder: Path) -> Shapes:
    """Return clips of one visible sounding object whose frames are the square around it when it sounds.

    A square has 1.6 times the longer side of the object, so that a crop of the frame shows a part of it.
    """
    sampling = build_sampling(settings("video", "none"))
    world = shapes(folder, SPLITS, 0, sampling)
    rows = np.flatnonzero(np.isfinite(world.point_start))
    frames = np.empty((len(rows), 1, 3, SIDE, SIDE), dtype=np.uint8)
    for number, row in enumerate(rows):
        instant = world.point_start[row] + sampling.video_seconds / 2
        frame = world.video[row, min(int(instant * world.settings.video_fps + 1e-6), world.settings.num_frames - 1)]
        where = np.nonzero(world.masks[row, 0])
        low, high = (np.array([side(axis) for axis in where]) for side in (np.min, np.max))
        length = min(max(16, int(1.6 * (high + 1 - low).max())), *frame.shape[1:])
        top, left = (
            min(max(0, int(c)), n - length) for c, n in zip((low + high + 1 - length) / 2, frame.shape[1:], strict=True)
        )
        square = torch.from_numpy(frame[:, top : top + length, left : left + length].copy())
        frames[number, 0] = resize(square, [SIDE, SIDE], antialias=True).numpy()
    same = np.broadcast_to(frames, (len(rows), world.settings.num_frames, *frames.shape[2:]))
    table = {
        name: getattr(world, name)[rows]
        for name in ("ids", "split", "kind", "action", "num_objects", "nuisance", "point_start", "masks")
    }
    return Shapes(
        video=same, audio=world.audio[rows], settings=replace(world.settings, width=SIDE, height=SIDE), **table
    )


def _of_preset(modality: str, *options: str) -> dict[str, Any]:
    preset = {"video": VIDEO_PRESETS, "audio": AUDIO_PRESETS}[modality]["simclr"]
    return {option: preset[option] for option in options}


OPERATIONS: dict[str, dict[str, dict[str, Any]]] = {
    "video": {
        "crop": {**_of_preset("video", "scale"), "ratio": (0.75, 1.3333333)},
        "color": _of_preset("video", "brightness", "contrast", "saturation", "hue", "jitter_probability"),
        "gray": _of_preset("video", "grayscale_probability"),
        "blur": _of_preset("video", "blur_probability"),
        "erase": {"erase_probability": 0.5},
    },
    "audio": {
        "pitch": _of_preset("audio", "max_semitones"),
        "shift": _of_preset("audio", "max_shift_seconds"),
        "filter": _of_preset("audio", "filter_probability"),
        "mix": _of_preset("audio", "mix_probability"),
        "noise": _of_preset("audio", "noise_probability"),
        "mask": _of_preset("audio", "max_time_width", "max_freq_width"),
    },
}
"""Options of each operation, on top of the preset "none"."""
WHOLE = ("none", "default", "simclr")
UNTRAINED = "random-init"


class ViewsTask(Task):
    """InfoNCE between two views of a clip, of one modality."""

    def __init__(self, transform: ClipTransform, config: Config, modality: str) -> None:
        super().__init__()
        model = build_model(config)
        self.transform, self.modality = transform, modality
        encoder, head = (getattr(model, f"{modality}_{part}") for part in ("encoder", "head"))
        self.model = torch.nn.Sequential(encoder, head)

    def forward(self, batch: Batch) -> LossTerms:
        views = getattr(self.transform, f"{self.modality}_views")(batch)
        first, second = self.model(views).chunk(2)
        return LossTerms(info_nce(first, second, TEMPERATURE), {})

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        self.transform.video_augment.set_output(dtype, memory_format)


def settings(modality: str, views: str, seed: int = 0) -> Config:
    """Return the settings of a run whose views are a preset, or operations joined by +, in this modality."""
    group: dict[str, Any] = {"preset": views if views in WHOLE else "none"}
    for name in views.split("+") if views not in (*WHOLE, UNTRAINED) else ():
        group |= OPERATIONS[modality][name]
    tree = {
        "sampling": {"num_frames": 1, "frames_per_second": 4.0, "audio_seconds": 1.5},
        "transform": {"video": {"size": 48}, "spectrogram": {"name": "log_mel", "hop_seconds": 0.02}},
        "model": {"video": {"name": "small_video", "width": 24}, "head": {"name": "mlp_bn", "out_features": 64}},
        "objective": {"name": "info_nce", "pooling": "pooled", "within_modal": 1.0},
        "train": {"seed": seed},
    }
    tree["transform"].setdefault(modality, {}).update(group)
    return config_from_dict(tree)


def transform_of(config: Config, world: Shapes) -> ClipTransform:
    """Return the transform of two views, with the statistics of training clips."""
    transform = build_transform(config)
    transform.num_views = 2
    batches = fixed_batches(world, world.rows("train")[:256], build_sampling(config))
    transform.standardize.set_statistics(*estimate_statistics(transform.spectrogram(raw.audio) for raw in batches))
    return transform


def train(world: Shapes, modality: str, views: str, seed: int) -> ViewsTask:
    """Return a trained task, or an untrained one for :data:`UNTRAINED`."""
    config = settings(modality, views, seed)
    seed_everything(seed)
    task = ViewsTask(transform_of(config, world), config, modality)
    if views == UNTRAINED:
        return task
    loader, steps = MemoryLoader(world, world.rows("train"), BATCH, seed, build_sampling(config)), STEPS[modality]
    fit(
        task,
        loader,
        create_optimizer(task.model, "adamw", lr=LR, weight_decay=1e-4),
        WarmupCosine(LR, steps, steps // 10),
        settings=LoopSettings(steps, loader.steps_per_epoch, log_every=steps),
        progress=sys.stderr.isatty(),
    )
    return task


@torch.inference_mode()
def measure(world: Shapes, task: ViewsTask, seed: int) -> dict[str, Any]:
    """Return the accuracy of a linear probe and of 20 nearest neighbors for the kind of the object."""
    task.eval()
    sampling = build_sampling(settings(task.modality, UNTRAINED))
    features = []
    for raw in fixed_batches(world, np.arange(len(world.ids)), sampling):
        if task.modality == "video":
            features.append(task.model[0](task.transform.video_input(raw.video, raw.valid_hw)))
        else:
            features.append(task.model[0](task.transform.audio_input(raw.audio)))
    x = torch.cat(features).numpy()
    known, test = (rows[world.kind[rows] != ""] for rows in (world.rows("train"), world.rows("single")))
    kinds = sorted(set(world.kind[known]))
    few = np.concatenate([known[world.kind[known] == kind][:LABELED_OF_KIND] for kind in kinds])
    return {
        "probe": linear_probe(x[few], world.kind[few], x[test], world.kind[test], seed=seed).accuracy,
        "knn": knn_classifier(x[known], world.kind[known], x[test], world.kind[test]).accuracy,
        "chance": 1 / len(kinds),
        "n_probe": len(few),
        "n_knn": len(known),
        "n_test": len(test),
    }


def jobs() -> Iterator[tuple[str, str, int]]:
    """Yield (modality, views, seed) of every row, all of one seed before the next."""
    for seed in SEEDS:
        for modality in MODALITIES:
            yield from ((modality, name, seed) for name in (UNTRAINED, *WHOLE))
            names = list(OPERATIONS[modality])
            yield from ((modality, name, seed) for name in names)
            yield from ((modality, "+".join(pair), seed) for pair in combinations(names, 2))


def run(world: Shapes, file: Path, modality: str, views: str, seed: int) -> dict[str, Any]:
    """Make one row and append it."""
    began = time.process_time()
    numbers = measure(world, train(world, modality, views, seed), seed)
    steps = 0 if views == UNTRAINED else STEPS[modality]
    row = {"modality": modality, "views": views, "seed": seed, "steps": steps, "samples": steps * BATCH, **numbers}
    row["seconds"] = time.process_time() - began
    append_row(file, row)
    return row


def missing(file: Path, modalities: Sequence[str]) -> list[tuple[str, str, int]]:
    done = {(row["modality"], row["views"], row["seed"]) for row in read_rows(file)}
    return [job for job in jobs() if job not in done and job[0] in modalities]


def shortcuts(world: Shapes) -> str:
    """Return how often each shortcut finds the partner of a view among 64, for each preset and operation."""
    rows = []
    measures: dict[str, tuple[tuple[str, Callable[..., float]], ...]] = {
        "video": (("color histogram", found_by_histogram),),
        "audio": (
            ("nearest spectrogram", found_by_spectrogram),
            ("mean spectrum", found_by_mean_spectrum),
            ("best shift in time", found_by_aligned_spectrogram),
        ),
    }
    for modality in MODALITIES:
        for views in (*WHOLE, *OPERATIONS[modality]):
            transform = transform_of(settings(modality, views), world)
            found = [[] for _ in measures[modality]]
            for seed in GALLERY_SEEDS:
                loader = MemoryLoader(
                    world, world.rows("train"), NUM_GALLERY, seed, build_sampling(settings(modality, views))
                )
                pair = getattr(transform, f"{modality}_views")(next(iter(loader))).chunk(2)
                if modality == "video":
                    augment = transform.video_augment
                    pair = [color_histograms(view, augment.mean, augment.std) for view in pair]
                for number, (_, measure_one) in enumerate(measures[modality]):
                    found[number].append(measure_one(*pair))
            for (name, _), values in zip(measures[modality], found, strict=True):
                rows.append([modality, views, name, f"{np.mean(values):.3f}", f"{np.std(values, ddof=1):.3f}"])
    header = ["modality", "views", "shortcut", "finds its partner", "sd"]
    n = f"n = {len(GALLERY_SEEDS)} draws of {NUM_GALLERY} training clips; chance {1 / NUM_GALLERY:.3f}."
    return f"{text_table(header, rows)}\n\n{n}"


def costs(world: Shapes) -> str:
    """Return milliseconds of all threads per clip and view under each operation, and the ratio to the default."""
    rows = []
    for modality in MODALITIES:
        transforms = {name: transform_of(settings(modality, name), world) for name in (*WHOLE, *OPERATIONS[modality])}
        loader = MemoryLoader(world, world.rows("train"), BATCH, 0, build_sampling(settings(modality, "none")))
        batch, seconds = next(iter(loader)), {name: [] for name in transforms}
        for _ in range(12):  # side by side, so that a slow moment of the machine meets all of them
            for name, transform in transforms.items():
                began = time.process_time()
                getattr(transform, f"{modality}_views")(batch)
                seconds[name].append(time.process_time() - began)
        best = {name: min(values) for name, values in seconds.items()}
        for name, value in best.items():
            each = 1e3 * value / (2 * BATCH)
            rows.append([modality, name, f"{each:.3f}", f"{value / best['default']:.2f}"])
    header = ["modality", "views", "ms per clip and view", "times the default"]
    return f"{text_table(header, rows)}\n\nBest of 12 batches of {BATCH} clips, {torch.get_num_threads()} thread(s)."


def main() -> None:
    """Make the missing rows while there is time, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", type=Path, default=Path("augmentation.jsonl"))
    parser.add_argument("--clips", type=Path, default=Path("augmentation.clips"), help="folder of the rendered clips")
    parser.add_argument("--picture", type=Path, default=Path("augmentation.png"), help="file of the drawing")
    parser.add_argument("--minutes", type=float, default=3.0, help="start no row after this time")
    parser.add_argument("--modalities", nargs="*", default=MODALITIES, choices=MODALITIES, help="only these")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="only print and draw the measurements so far")
    parser.add_argument("--shortcuts", action="store_true", help="print how often a view finds its partner")
    parser.add_argument("--cost", action="store_true", help="print the time of each operation")
    parser.add_argument("--views", action="store_true", help="draw views of a few clips")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.table:
        print(tables(read_rows(options.file)))
        draw_pairs(read_rows(options.file), options.picture)
        return
    world = world_of_objects(options.clips)
    if options.shortcuts:
        print(shortcuts(world))
    elif options.cost:
        print(costs(world))
    elif options.views:
        sampling = build_sampling(settings("video", "none"))
        named = {m: {v: transform_of(settings(m, v), world) for v in ("default", "simclr")} for m in MODALITIES}
        draw_views(world, sampling, named, options.picture)
    else:
        until = time.monotonic() + 60 * options.minutes
        work(lambda: missing(options.file, options.modalities), lambda job: run(world, options.file, *job), until)
        print(tables(read_rows(options.file)))


if __name__ == "__main__":
    main()
