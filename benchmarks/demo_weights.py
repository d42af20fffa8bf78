"""Train the weights that come with avssl, so that `avssl localize` and `avssl app` work without training.

    python benchmarks/demo_weights.py avssl/hub/demo_weights --grid MANIFEST     25 minutes of a core; resumes
    python benchmarks/demo_weights.py OUT --shapes-alone                         the weights of SoundingShapes alone
    python benchmarks/demo_weights.py OUT --grid MANIFEST --stamps FOLDERS       StampScenes too

MANIFEST is that of `python datasets/grid.py FOLDER`, which tells where GRID is published; FOLDERS are those of the
Debian packages of StampScenes (docs/worlds.md).

A small pair of encoders is trained on 2 560 clips of SoundingShapes as `avssl synthesize` draws them, with clutter, at
96 x 96 pixels; in 5 % of them the sound comes from off screen. Then it is trained on these and on the training
sentences of GRID together (benchmarks/demo_training.py). No label, box or mask is used, and the last weights are
released. Their scores are printed and written into the card, each beside its baselines: on unseen clips of two or three
objects, and on unseen sentences of GRID.

The packaged weights do not know StampScenes: to a model of those photographs the frames of any real video look
familiar, and it would not warn of videos that it knows nothing about.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import real_grid
import torch
from demo_training import EachWorld, Part, WorldsLoader
from demo_world import LOOK, add_worlds
from localization import Method, settings, train, untrained
from localization_measures import look, plain_ap, table_numbers, truth_of, visible
from objectives import PRECISION
from real_stamps import POOLS, stamps
from shapes_in_memory import Shapes, shapes
from short_runs import fit_in_runs

from avssl.core.errors import InputError
from avssl.core.whole_file import whole_file
from avssl.data.sampling import ClipSampling
from avssl.engine import LoopSettings
from avssl.evaluation import random_object
from avssl.hub.pretrained import FULL_FRAME_SCALE, save_pretrained
from avssl.models import ClipEncoder
from avssl.synthetic import SceneSettings, Split
from avssl.synthetic.stamps import package_folders
from avssl.training.build import build_optimizer, build_sampling, build_schedule
from avssl.training.tasks import PretrainTask
from avssl.transforms import VideoEval

METHOD = Method({"name": "info_nce", "temperature": 0.1, "pooling": "both", "negative_sounds": 4}, epochs=30)
SEVERAL = SceneSettings(**LOOK, object_weights=(0.0, 1.0, 1.0))
SPLITS = {
    "train": Split(2560, SceneSettings(**LOOK, object_weights=(4.0, 1.0, 1.0), off_screen_fraction=0.05)),
    "several": Split(400, SEVERAL),
    "off_screen": Split(200, SceneSettings(**LOOK, object_weights=(0.0, 1.0, 1.0), off_screen_fraction=1.0)),
    "silent": Split(200, SceneSettings(**LOOK, object_weights=(0.0, 1.0, 1.0), silent_fraction=1.0)),
}
STEPS = 1000
"""Steps on all worlds, after the epochs on SoundingShapes."""
SHARES = {"SoundingShapes": (32, 1), "GRID": (3, 8), "StampScenes": (64, 1)}
"""Clips of each world in a step, and windows of each clip."""
NOTICES = {
    "SoundingShapes": "Apache-2.0, like the project. They were trained on generated shapes.",
    "GRID": "They were also trained on the videos of speaker s1 of GRID (Cooke, Barker, Cunningham and Shao, 2006, "
    "https://zenodo.org/records/3625687, CC BY 4.0), and hold none of them. Of other people they know nothing.",
    "StampScenes": "They were also trained on photographs and recordings of the packages tuxpaint-stamps-default "
    "(GPL-2) and gcompris-qt-data (a free license for each file), and hold none of them.",
}


def train_on_all(task: PretrainTask, worlds: dict[str, Any], sampling: ClipSampling, config: Any, place: Path) -> None:
    """Train on all worlds together, or load the finished weights of ``place`` with .pt."""
    weights = place.with_suffix(".pt")
    if weights.exists():
        task.load_weights(torch.load(weights, weights_only=True))
        return
    alone = task.objective
    parts = [Part(clips, *SHARES[name]) for name, clips in worlds.items()]
    task.objective = EachWorld(alone, parts)
    loader = WorldsLoader(parts, config.train.seed, sampling)
    loop = LoopSettings(
        STEPS, loader.steps_per_epoch, log_every=100, grad_clip=config.optim.grad_clip, precision=PRECISION
    )
    optimizer, schedule = build_optimizer(config, task), build_schedule(config, STEPS)
    fit_in_runs(task, loader, optimizer, schedule, loop, place, math.inf)
    task.objective = alone
    with whole_file(weights) as temporary:
        torch.save(task.weights(), temporary)


def pointing_of(task: PretrainTask, world: Shapes, split: str, sampling: ClipSampling) -> dict[str, float]:
    """Return the scores of the maps of a split of two or three objects: of the own audio and of baselines."""
    rows = visible(world, split)
    seen = look(task, world, rows, world.point_start[rows], sampling)
    maps = {
        "": seen.maps(),
        "other_": seen.maps(seen.swapped()),
        "object_": random_object(torch.from_numpy(world.masks[rows]))[0],
    }
    return table_numbers(maps, truth_of(world, rows))


def on_shapes(task: PretrainTask, world: Shapes, sampling: ClipSampling) -> dict[str, str]:
    """Return the lines of the card about SoundingShapes."""
    found = pointing_of(task, world, "several", sampling)
    confidence = {}
    for split in ("several", "off_screen", "silent"):
        rows = visible(world, split) if split == "several" else world.rows(split)
        middle = (world.settings.duration_seconds - sampling.audio_seconds) / 2
        start = np.nan_to_num(world.point_start[rows], nan=middle)
        confidence[split] = look(task, world, rows, start, sampling).maps().amax(dim=(1, 2))
    aps = {split: plain_ap(confidence["several"], confidence[split]) for split in ("off_screen", "silent")}
    others = len(confidence["silent"])
    chance = len(confidence["several"]) / (len(confidence["several"]) + others)
    return {
        "SoundingShapes, pointing": shown(found),
        "SoundingShapes, cIoU >= 0.5, adaptive": f"{found['ciou']:.3f} (another sound {found['other_ciou']:.3f})",
        "SoundingShapes, average precision of the confidence": f"{aps['off_screen']:.3f} against sounds from off "
        f"screen, {aps['silent']:.3f} against silence (n = {others} each; chance {chance:.3f})",
    }


def on_stamps(task: PretrainTask, world: Shapes, sampling: ClipSampling) -> dict[str, str]:
    """Return the lines of the card about StampScenes."""
    return {
        f"StampScenes, pointing, {title}": shown(pointing_of(task, world, f"{pool}-several", sampling))
        for pool, title in POOLS.items()
    }


def on_grid(task: PretrainTask, clips: real_grid.Sentences, sampling: ClipSampling) -> dict[str, str]:
    """Return the lines of the card about GRID."""
    test = clips.rows("test")
    found = real_grid.peaks_on_lips(ClipEncoder(task.model, task.transform, PRECISION), clips, test, sampling)
    start = np.full(len(test), (clips.settings.duration_seconds - sampling.audio_seconds) / 2)
    seen = look(task, clips, test, start, sampling)
    sure = {
        name: seen.maps(queries).amax(dim=(1, 2))
        for name, queries in {"own": seen.queries, "other": seen.swapped(), "silence": seen.silence}.items()
    }
    return {
        "GRID, peak in the box of the lips": f"{found['on_lips']:.3f} (with another sentence "
        f"{found['shuffled_on_lips']:.3f}, with silence {found['silent_on_lips']:.3f}, chance "
        f"{found['chance_on_lips']:.3f}; n = {len(test)} sentences of the same speaker, one seed)",
        "GRID, highest cosine": f"{sure['own'].mean():.2f} with the own voice, {sure['other'].mean():.2f} with another "
        f"sentence, {sure['silence'].mean():.2f} with silence (average precision of own against silence "
        f"{plain_ap(sure['own'], sure['silence']):.3f}, against another sentence "
        f"{plain_ap(sure['own'], sure['other']):.3f}; chance 0.500)",
    }


def shown(found: dict[str, float]) -> str:
    """Return pointing beside its baselines."""
    return (
        f"{found['pointing']:.3f} (with another clip's sound {found['other_pointing']:.3f}, "
        f"a random object {found['object_pointing']:.3f}; n = {found['n']}, one seed)"
    )


def main() -> None:
    """Train, measure and release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the release")
    parser.add_argument("--grid", type=Path, help="manifest of datasets/grid.py")
    parser.add_argument("--stamps", type=Path, nargs="+", default=[], help="folders of the packages of StampScenes")
    parser.add_argument("--shapes-alone", action="store_true", help="stop after the training on SoundingShapes")
    parser.add_argument("--work", type=Path, default=Path("demo_weights.work"), help="folder for clips and checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    grid = None if options.shapes_alone else checked_grid(options.grid)
    packages = tuple(package_folders(options.stamps)) if options.stamps else ()
    config = settings(METHOD, seed=0)
    sampling = build_sampling(config)
    worlds: dict[str, Any] = {"SoundingShapes": shapes(options.work / "shapes.clips", SPLITS, 3, sampling)}
    if grid is not None:
        worlds["GRID"] = real_grid.sentences(grid, options.work / "grid-whole_frame.clips", real_grid.WHOLE)
    if packages:
        worlds["StampScenes"] = stamps(options.work / "stamps.clips", packages)
    task = untrained(config, worlds["SoundingShapes"])
    train(task, config, worlds["SoundingShapes"], options.work / "training", math.inf)
    if len(worlds) > 1:
        train_on_all(task, worlds, sampling, config, options.work / "_".join(["on", *worlds]))
    task.transform.video_eval = VideoEval(round(LOOK["width"] * FULL_FRAME_SCALE), crop="full")
    about = described(worlds)
    for name, world in worlds.items():
        about |= MEASURES[name](task, world, sampling)
    for name, value in about.items():
        print(f"{name}: {value}")
    notice = "\n".join(NOTICES[name] for name in worlds)
    save_pretrained(options.out, task.model, task.transform, config, about, license_id="apache-2.0", notice=notice)
    add_worlds(options.out, options.work, packages, grid)


def checked_grid(manifest: Path | None) -> Path:
    """Return the manifest of GRID.

    Raises:
        InputError: If there is none.
    """
    if manifest is None or not manifest.is_file():
        raise InputError(
            f"{manifest or '--grid'}: no manifest of GRID. Get speaker s1 (video and alignments, CC BY 4.0) from "
            f"https://zenodo.org/records/3625687, run python datasets/grid.py FOLDER, and name FOLDER/manifest.csv "
            "with --grid. --shapes-alone trains without it."
        )
    return manifest


def described(worlds: dict[str, Any]) -> dict[str, str]:
    """Return the lines of the card about the training."""
    options = {"SoundingShapes": "", "GRID": " --grid MANIFEST", "StampScenes": " --stamps FOLDERS"}
    flags = "".join(options[name] for name in worlds) or " --shapes-alone"
    titles = {"SoundingShapes": "generated SoundingShapes", "GRID": "one speaker of GRID", "StampScenes": "StampScenes"}
    counts = ", ".join(f"{len(world.rows('train'))} of {name}" for name, world in worlds.items())
    then = f", then {STEPS} steps on all" if len(worlds) > 1 else ""
    return {
        "made with": f"`python benchmarks/demo_weights.py avssl/hub/demo_weights{flags}`",
        "trained on": " and ".join(titles[name] for name in worlds),
        "training": f"clips: {counts}; {METHOD.epochs} epochs on the first{then}; no labels, seed 0",
    }


MEASURES = {"SoundingShapes": on_shapes, "GRID": on_grid, "StampScenes": on_stamps}


if __name__ == "__main__":
    main()
