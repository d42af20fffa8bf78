"""Train the weights that come with avssl, so that `avssl localize` and `avssl app` work without training.

    python benchmarks/demo_weights.py avssl/hub/demo_weights     about 15 minutes of a core; resumes

A small pair of encoders is trained on 2 560 clips of SoundingShapes as `avssl synthesize` draws them, with clutter, at
96 x 96 pixels; in 5 % of them the sound comes from off screen. No label, box or mask is used, and the last weights are
released. Their scores are printed and written into the card: on 400 unseen clips of two or three objects, and on as
many without a visible sounding object.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import torch
from demo_world import LOOK, add_world
from localization import Method, settings, train, untrained
from localization_measures import look, plain_ap, table_numbers, truth_of, visible
from shapes_in_memory import shapes

from avssl.evaluation import random_object
from avssl.hub.pretrained import FULL_FRAME_SCALE, save_pretrained
from avssl.synthetic import SceneSettings, Split
from avssl.training.build import build_sampling
from avssl.transforms import VideoEval

METHOD = Method({"name": "info_nce", "temperature": 0.1, "pooling": "both", "negative_sounds": 4}, epochs=30)
SEVERAL = SceneSettings(**LOOK, object_weights=(0.0, 1.0, 1.0))
SPLITS = {
    "train": Split(2560, SceneSettings(**LOOK, object_weights=(4.0, 1.0, 1.0), off_screen_fraction=0.05)),
    "several": Split(400, SEVERAL),
    "off_screen": Split(200, SceneSettings(**LOOK, object_weights=(0.0, 1.0, 1.0), off_screen_fraction=1.0)),
    "silent": Split(200, SceneSettings(**LOOK, object_weights=(0.0, 1.0, 1.0), silent_fraction=1.0)),
}


def main() -> None:
    """Train, measure and release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the release")
    parser.add_argument("--work", type=Path, default=Path("demo_weights.work"), help="folder for clips and checkpoints")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = settings(METHOD, seed=0)
    sampling = build_sampling(config)
    world = shapes(options.work / "clips", SPLITS, 3, sampling)
    task = untrained(config, world)
    train(task, config, world, options.work / "training", math.inf)
    task.transform.video_eval = VideoEval(round(LOOK["width"] * FULL_FRAME_SCALE), crop="full")
    rows = visible(world, "several")
    seen = look(task, world, rows, world.point_start[rows], sampling)
    truth = truth_of(world, rows)
    maps = {
        "": seen.maps(),
        "other_": seen.maps(seen.swapped()),
        "object_": random_object(torch.from_numpy(world.masks[rows]))[0],
    }
    found = table_numbers(maps, truth)
    confidence = maps[""].amax(dim=(1, 2))
    aps = {}
    for split in ("off_screen", "silent"):
        others = world.rows(split)
        start = torch.full((len(others),), (world.settings.duration_seconds - sampling.audio_seconds) / 2).numpy()
        aps[split] = plain_ap(confidence, look(task, world, others, start, sampling).maps().amax(dim=(1, 2)))
    about = {
        "made with": "`python benchmarks/demo_weights.py`",
        "trained on": f"2 560 generated clips of SoundingShapes, {METHOD.epochs} epochs, no labels",
        "pointing": f"{found['pointing']:.3f} (with another clip's sound {found['other_pointing']:.3f}, "
        f"a random object {found['object_pointing']:.3f}; n = {found['n']}, one seed)",
        "cIoU >= 0.5, adaptive": f"{found['ciou']:.3f} (another sound {found['other_ciou']:.3f})",
        "average precision of the confidence": f"{aps['off_screen']:.3f} against sounds from off screen, "
        f"{aps['silent']:.3f} against silence (n = 200 each; chance {len(rows) / (len(rows) + 200):.3f})",
    }
    for name, value in about.items():
        print(f"{name}: {value}")
    notice = "Apache-2.0, like the project. They know generated shapes, and nothing of real videos."
    save_pretrained(options.out, task.model, task.transform, config, about, license_id="apache-2.0", notice=notice)
    add_world(options.out, options.work / "world")


if __name__ == "__main__":
    main()
