"""Settings of the demo: the data set, the training run, and the number of overlays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from avssl.config import (
    AudioTransformConfig,
    Config,
    ModelConfig,
    MonitorConfig,
    OptimConfig,
    SamplingConfig,
    TrainConfig,
    TransformConfig,
    VideoTransformConfig,
    choose,
)
from avssl.core.ranges import Seed, checked
from avssl.synthetic import SceneSettings, Split

BACKEND: Final = "pyav"
"""The same on every machine, so that a seed gives the same result; and the fastest at opening short files."""

TRAIN = SceneSettings(object_weights=(0.6, 0.2, 0.12, 0.08))
SINGLE = SceneSettings(object_weights=(1.0,))
SEVERAL = SceneSettings(object_weights=(0.0, 1.0, 1.0))
PAIRS = replace(SEVERAL, interactive_pairs=True)


TRAIN_CLIPS: Final = 1920
"""Clips of the training set."""


@dataclass(frozen=True)
class DemoPlan:
    """Length of the demo; shorter on a machine on which all of it would take too long."""

    epochs: int = 12
    """Epochs of pretraining."""
    test_clips: int = 500
    """Clips of each of the three test sets."""


@checked
@dataclass(frozen=True)
class DemoSettings:
    """Options of the demo; a finished stage is reused if they are unchanged."""

    seed: Seed = 0
    """Random seed of the corpus, the initial weights, the data order and augmentation."""
    tiny: bool = False
    """Run every stage on very little data: takes a minute, and the numbers mean nothing."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one."""

    def splits(self, plan: DemoPlan) -> dict[str, Split]:
        """Return the splits: the training set and three test sets."""
        if self.tiny:
            short = {name: replace(settings, duration_seconds=2.5) for name, settings in _SETTINGS.items()}
            return {name: Split(count, short[name]) for name, count in _TINY.items()}
        sizes = {name: TRAIN_CLIPS if name == "train" else plan.test_clips for name in _SETTINGS}
        return {name: Split(count, _SETTINGS[name]) for name, count in sizes.items()}

    @property
    def num_overlays(self) -> int:
        """Number of overlay videos."""
        return 1 if self.tiny else 6

    @property
    def windows_per_clip(self) -> int:
        """Windows of each clip for probes and retrieval."""
        return 1

    def config(self, corpus: Path, plan: DemoPlan) -> Config:
        """Return the configuration of the pretraining run."""
        return Config(
            data=replace(Config().data, source=str(corpus / "manifest.csv"), split="train", backend=BACKEND),
            sampling=SamplingConfig(num_frames=8, frames_per_second=4.0),
            transform=TransformConfig(
                video=VideoTransformConfig(
                    scale=(0.7, 1.0), brightness=0.0, contrast=0.0, saturation=0.0, eval_crop="full"
                ),
                audio=AudioTransformConfig(gain=(0.7, 1.3)),
            ),
            model=ModelConfig(
                video=choose("model.video", "small_video", temporal_stride=1),
                audio=choose("model.audio", "small_audio", strides=(2, 2, 2, 1)),
                head=choose("model.head", "mlp_bn", out_features=64, hidden=64),
            ),
            objective=choose("objective", "info_nce", temperature=0.1, pooling="both", max_over="space"),
            optim=OptimConfig(lr=2e-3, batch_size=8 if self.tiny else 32, epochs=plan.epochs, grad_clip=5.0),
            train=TrainConfig(seed=self.seed, device=self.device, checkpoint_every_seconds=60.0),
            monitor=MonitorConfig(every_steps=0),
        )


_SETTINGS = {"train": TRAIN, "single": SINGLE, "several": SEVERAL, "pairs": PAIRS}
_TINY = {"train": 32, "single": 16, "several": 8, "pairs": 4}
SPLITS = tuple(_SETTINGS)
"""Names of the splits."""
