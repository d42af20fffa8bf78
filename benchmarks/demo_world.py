"""Store beside the packaged weights what their training clips look and sound like, so that they tell foreign videos.

    python benchmarks/demo_world.py avssl/hub/demo_weights     about 3 minutes of a core; keeps its clips in --work

The statistics are fitted to clips of SoundingShapes, encoded as mp4: half as the weights were trained on (96 x 96
pixels, 8 frames per second), half as `avssl synthesize` draws them by default. Every second clip sets the thresholds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avssl.core.manifest import read_manifest
from avssl.data.dataset import ClipDataset
from avssl.data.eval_loader import EvalLoader
from avssl.engine import Precision
from avssl.hub.pretrained import from_pretrained
from avssl.hub.training_world import measure_world, save_world
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

LOOK: dict[str, Any] = {"width": 96, "height": 96, "video_fps": 8.0}
SPLITS = {
    "trained": Split(256, SceneSettings(**LOOK, object_weights=(4.0, 1.0, 1.0), off_screen_fraction=0.05)),
    "default": Split(256, SceneSettings()),
}
SEED = 5


def add_world(release: Path, work: Path) -> None:
    """Write the statistics into a release."""
    if not (work / "manifest.csv").exists():
        synthesize_corpus(work, SPLITS, SEED)
    manifest = read_manifest(work / "manifest.csv")
    pretrained = from_pretrained(release)
    dataset = ClipDataset(manifest, pretrained.sampling, 0)
    halves = (EvalLoader(dataset, 16, rows=np.arange(first, len(manifest), 2)) for first in (0, 1))
    world = measure_world(pretrained.encoder(Precision()), *((batch for batch, _, _ in half) for half in halves))
    assert world is not None, "there are enough clips"
    save_world(release, world)
    for name, novelty in world.streams.items():
        print(f"{name}: threshold {novelty.threshold:.1f}, n = {novelty.num_rows}")


def main() -> None:
    """Add the statistics to a release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, help="folder of the weights")
    parser.add_argument("--work", type=Path, default=Path("demo_world.work"), help="folder for clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    add_world(options.release, options.work)


if __name__ == "__main__":
    main()
