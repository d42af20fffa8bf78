"""Store beside the packaged weights what their training clips look and sound like, so that they tell foreign videos.

    python benchmarks/demo_world.py avssl/hub/demo_weights --grid MANIFEST

It takes about three minutes of a core, and keeps its clips in --work. There are statistics of each corpus: of clips of
SoundingShapes (and of StampScenes with --stamps), encoded as mp4, half as the weights were trained on (96 x 96 pixels,
8 frames per second) and half as `avssl synthesize` draws them by default, and of the training sentences of GRID as they
are. Other clips set the thresholds: every second one of the generated, and every second test sentence of GRID, as the
model is surer of those that it was trained on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avssl.core.batch import Batch
from avssl.core.manifest import Manifest, read_manifest
from avssl.data.dataset import ClipDataset
from avssl.data.eval_loader import EvalLoader
from avssl.engine import Precision
from avssl.hub.pretrained import PretrainedModel, from_pretrained
from avssl.hub.training_world import MOST_CLIPS, TrainingWorld, measure_world, save_worlds
from avssl.synthetic import SHAPES, SceneSettings, Split, World, synthesize_corpus
from avssl.synthetic.stamps import StampWorld, package_folders

LOOK: dict[str, Any] = {"width": 96, "height": 96, "video_fps": 8.0}
TRAINED = SceneSettings(**LOOK, object_weights=(4.0, 1.0, 1.0), off_screen_fraction=0.05)
SPLITS = {"trained": Split(256, TRAINED), "default": Split(256, SceneSettings())}
SEED = 5
WINDOWS = 2
"""Windows of each clip. Sentences of GRID begin and end with silence, and the middle alone would not know that."""


def add_worlds(release: Path, work: Path, packages: tuple[Path, ...], grid: Path | None) -> None:
    """Write the statistics of SoundingShapes into a release, and of GRID and StampScenes where they are named."""
    corpora = {"SoundingShapes": halves([corpus(work / "world", SPLITS, SHAPES)])}
    if grid is not None:
        sentences = read_manifest(grid)
        split = sentences["split"].astype(str)
        train, test = (sentences.select(np.flatnonzero(split == name)) for name in ("train", "test"))
        corpora["GRID"] = [train.select(np.arange(MOST_CLIPS // 2))], [test.select(np.arange(0, len(test), 2))]
    if packages:
        stamps = StampWorld.load(packages)
        # StampScenes has fixed names of splits, so that each look is a folder of its own.
        looks = {name: {"train": split} for name, split in SPLITS.items()}
        made = [corpus(work / f"world-stamps-{name}", look, stamps) for name, look in looks.items()]
        corpora["StampScenes"] = halves(made)
    pretrained = from_pretrained(release)
    worlds = {name: measured(pretrained, *manifests) for name, manifests in corpora.items()}
    save_worlds(release, list(worlds.values()))
    for title, world in worlds.items():
        for name, novelty in world.streams.items():
            print(f"{title}, {name}: threshold {novelty.threshold:.1f}, n = {novelty.num_rows}")


def corpus(folder: Path, splits: dict[str, Split], world: World) -> Manifest:
    """Return the manifest of a corpus, made on the first call."""
    if not (folder / "manifest.csv").exists():
        synthesize_corpus(folder, splits, SEED, world=world)
    return read_manifest(folder / "manifest.csv")


def halves(manifests: list[Manifest]) -> tuple[list[Manifest], list[Manifest]]:
    """Return the clips whose statistics are taken, and those that set the thresholds."""
    first, second = ([each.select(np.arange(start, len(each), 2)) for each in manifests] for start in (0, 1))
    return first, second


def measured(pretrained: PretrainedModel, fitted: list[Manifest], held_out: list[Manifest]) -> TrainingWorld:
    """Return the statistics of clips, with thresholds set by others."""
    world = measure_world(pretrained.encoder(Precision()), *(_batches(pretrained, each) for each in (fitted, held_out)))
    assert world is not None, "there are enough clips"
    return world


def _batches(pretrained: PretrainedModel, manifests: list[Manifest]) -> Iterator[Batch]:
    for manifest in manifests:
        dataset = ClipDataset(manifest, pretrained.sampling, 0)
        yield from (batch for batch, _, _ in EvalLoader(dataset, 16, clips_per_row=WINDOWS))


def main() -> None:
    """Add the statistics to a release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=Path, help="folder of the weights")
    parser.add_argument("--stamps", type=Path, nargs="+", default=[], help="folders of the packages of StampScenes")
    parser.add_argument("--grid", type=Path, help="manifest of datasets/grid.py; default: none")
    parser.add_argument("--work", type=Path, default=Path("demo_world.work"), help="folder for clips")
    options = parser.parse_args()
    torch.set_num_threads(1)
    packages = tuple(package_folders(options.stamps)) if options.stamps else ()
    add_worlds(options.release, options.work, packages, options.grid)


if __name__ == "__main__":
    main()
