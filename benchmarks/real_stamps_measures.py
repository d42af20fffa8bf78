"""StampScenes for `benchmarks/real.py`: methods of localization, their training, and what they know afterwards."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from localization_measures import baselines, look, pair_numbers, pairs, rejection, table_numbers, truth_of, visible
from objectives import PRECISION
from real_stamps import LOOK, POOLS
from shapes_in_memory import Shapes, fixed_batches
from shapes_measures import encode, retrieval_numbers

from avssl.config import Config, config_from_dict, read_yaml
from avssl.data.sampling import ClipSampling
from avssl.evaluation import linear_probe
from avssl.hub.pretrained import FULL_FRAME_SCALE
from avssl.training.tasks import PretrainTask
from avssl.transforms import VideoEval

BATCH, RATE, EPOCHS, SHAPES_EPOCHS = 32, 3e-3, 24, 12
BOTH = {"name": "info_nce", "temperature": 0.1, "pooling": "both"}
DENSE = {"name": "dense_av", "num_heads": 2, "temperature": 0.1, "silence_dbfs": -60.0, "pooled_weight": 1.0}
STRONG: dict[str, dict[str, Any]] = {
    "video": {
        "scale": [0.5, 1.0],
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "jitter_probability": 0.8,
        "grayscale_probability": 0.1,
    },
    "audio": {
        "gain": [0.5, 2.0],
        "max_semitones": 2.0,
        "filter_probability": 0.8,
        "noise_probability": 0.5,
        "max_time_width": 12,
        "max_freq_width": 12,
    },
}
"""Other colors and sizes, pitch, room and noise, as a photograph or a recording of the same class might have."""

BACKBONE: dict[str, Any] = {
    "name": "timm",
    "backbone": "tf_efficientnet_lite0",
    "config": ["output_stride=16"],
    "pool": "max",
    "frozen": True,
}
"""Its map has 8 x 8 cells at :data:`BACKBONE_SIZE`."""
BACKBONE_SIZE = 128


@dataclass(frozen=True)
class Method:
    """Changes of a method to the common config."""

    objective: Mapping[str, Any] = field(default_factory=lambda: BOTH)
    epochs: int = EPOCHS
    first_on_shapes: bool = False
    """True to start from weights pretrained on SoundingShapes."""
    augmentation: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Changes of the augmentation of frames and of audio, as those of :data:`STRONG`."""
    video: Mapping[str, Any] = field(default_factory=dict)
    """Video encoder in place of the default's, and the size of its frames."""
    is_pretrained: bool = False
    """True to start that encoder from the public weights of ``--imagenet``."""


DEFAULT, UNTRAINED, BASELINES = "default", "random-init", "baselines"
METHODS = {
    DEFAULT: Method(),
    "default, first on SoundingShapes": Method(first_on_shapes=True),
    "default, silence and noise as negatives": Method({**BOTH, "negative_sounds": 4}),
    "default, strong augmentation": Method(augmentation=STRONG),
    "default, first on SoundingShapes, strong augmentation": Method(first_on_shapes=True, augmentation=STRONG),
    "EZ-VSL": Method({"name": "info_nce", "temperature": 0.1, "pooling": "max"}),
    "DenseAV, 2 heads": Method({**DENSE, "negative_sounds": 4}),
    "ImageNet backbone, frozen": Method(video=BACKBONE, is_pretrained=True),
    "the same backbone, frozen at random weights": Method(video=BACKBONE),
}
PRETRAINED = tuple(name for name, method in METHODS.items() if method.is_pretrained)


def settings(method: Method, seed: int, imagenet: Path | None = None) -> Config:
    """Return a method's config: that of `avssl demo` with smaller frames and encoders, and two frames of a window.

    Motion does not tell what sounds in this world. The second frame is that of the scored event. ``imagenet`` is the
    folder of the weights of a pretrained method.
    """
    tree = copy.deepcopy(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_cpu.yaml"))
    tree["transform"]["video"]["size"] = LOOK["width"]
    tree["transform"]["spectrogram"]["hop_seconds"] = 0.02
    tree["sampling"] |= {"num_frames": 2, "frames_per_second": 4 / 3, "audio_seconds": 1.5}
    tree["model"]["video"]["width"] = 24
    if method.video:
        tree["transform"]["video"]["size"] = BACKBONE_SIZE
        tree["model"]["video"] = dict(method.video)
        if method.is_pretrained:
            tree["model"]["video"]["pretrained"] = str(imagenet)
    for name, changes in method.augmentation.items():
        tree["transform"][name] |= changes
    tree["objective"] = dict(method.objective)
    tree["optim"] |= {"lr": RATE, "epochs": method.epochs, "batch_size": BATCH}
    tree["train"]["seed"] = seed
    return config_from_dict(tree)


def measure(task: PretrainTask, world: Shapes, sampling: ClipSampling, seed: int) -> dict[str, Any]:
    """Return the numbers of a model on each pool of test clips, and pointing on the validation clips."""
    task.transform.video_eval = whole_frames(task.transform.video_eval)
    validation = several(task, world, "val-", sampling)[0]
    pools = {}
    for pool in POOLS:
        prefix = f"{pool}-"
        numbers, own = several(task, world, prefix, sampling)
        if len(world.rows(f"{prefix}pairs")):
            rows, groups = pairs(world, f"{prefix}pairs")
            seen = look(task, world, rows, world.point_start[rows], sampling)
            maps = {"": seen.maps(), "swapped_": seen.maps(seen.swapped()), "image_": seen.activation}
            numbers |= pair_numbers(maps, truth_of(world, rows), groups)
            numbers |= rejection(task, world, sampling, own, prefix)
        pools[pool] = numbers
    for pool, numbers in recognition(task, world, sampling, seed).items():
        pools[pool] |= numbers
    return {"val_pointing": validation["pointing"], "pools": pools}


def whole_frames(used: VideoEval) -> VideoEval:
    """Return the transform of whole frames at the size of the tests, with the normalization of ``used``."""
    mean, std = (tuple(values.tolist()) for values in (used.mean, used.std))
    size = round(LOOK["width"] * FULL_FRAME_SCALE)
    return VideoEval(size, crop="full", interpolation=used.interpolation, mean=mean, std=std)


def several(
    task: PretrainTask, world: Shapes, prefix: str, sampling: ClipSampling
) -> tuple[dict[str, float], torch.Tensor]:
    """Return the scores of maps on clips of two or three objects, and the maps of their own audio."""
    rows = visible(world, f"{prefix}several")
    seen = look(task, world, rows, world.point_start[rows], sampling)
    maps = {
        "": seen.maps(),
        "swapped_": seen.maps(seen.swapped()),
        "silent_": seen.maps(seen.silence),
        "image_": seen.activation,
    }
    return table_numbers(maps, truth_of(world, rows)), maps[""]


def recognition(task: PretrainTask, world: Shapes, sampling: ClipSampling, seed: int) -> dict[str, dict[str, float]]:
    """Return object probes and retrieval by pool, on clips of one object; probes are fitted on training clips."""
    fit = np.flatnonzero((world.split == "train") & (world.num_objects == 1) & (world.kind != ""))
    tested = {pool: visible(world, f"{pool}-single") for pool in POOLS}
    rows = np.concatenate([fit, *tested.values()])
    start = np.nan_to_num(world.point_start[rows], nan=(world.settings.duration_seconds - sampling.audio_seconds) / 2)
    features = encode(task.model, task.transform, fixed_batches(world, rows, sampling, start), PRECISION)
    labels, first = world.kind[rows], len(fit)
    right = {
        name: linear_probe(
            features[name][:first], labels[:first], features[name][first:], labels[first:], seed=seed
        ).correct
        for name in ("video", "audio")
    }
    found: dict[str, dict[str, float]] = {}
    for pool, own in tested.items():
        place = np.arange(first, first + len(own))
        found[pool] = {"n_single": len(own), "kinds": len(set(labels[place])), "object_chance": 1 / len(set(labels))}
        found[pool] |= {f"object_{name}": float(right[name][place - len(fit)].mean()) for name in right}
        found[pool] |= retrieval_numbers(features, place)
        first += len(own)
    return found


def measure_baselines(world: Shapes, seed: int) -> dict[str, Any]:
    """Return the numbers of maps that ignore the audio, by pool."""
    return {"pools": {pool: baselines(world, seed, f"{pool}-") for pool in POOLS}}
