"""The clips of StampScenes that `benchmarks/real.py` trains on and tests with, in memory.

A split is named by the pool of photographs and recordings that its scenes are made of, and by the kind of its scenes:
"unseen-several" has two or three objects, of which the sounding one has a photograph and a recording that no training
clip shows or plays.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from shapes_in_memory import Shapes, shapes

from avssl.data.sampling import ClipSampling
from avssl.synthetic import SceneSettings, Split, draw_scene
from avssl.synthetic.scene import Scene
from avssl.synthetic.stamps import StampWorld

SEED = 4
POOLS = {
    "test": "seen photographs and recordings",
    "unseen_photographs": "unseen photographs",
    "unseen_recordings": "unseen recordings",
    "unseen": "both unseen",
}
"""Pools of test clips, and what tables call them. All of their classes are heard and seen in training."""
KINDS = ("several", "single", "pairs", "off_screen", "silent")

WINDOW = ClipSampling(num_frames=6, frames_per_second=4.0, audio_seconds=1.5, sample_rate_hz=24_000)
"""Window around a scored event; models may see any number of frames in its 1.5 s."""
LOOK: dict[str, Any] = {"width": 96, "height": 96, "video_fps": 8.0}
SEVERAL = SceneSettings(**LOOK, object_weights=(0.0, 1.0, 1.0))
SCENES = {
    "several": Split(240, SEVERAL),
    "single": Split(200, SceneSettings(**LOOK, object_weights=(1.0,))),
    "pairs": Split(200, SceneSettings(**asdict(SEVERAL) | {"interactive_pairs": True})),
    "off_screen": Split(150, SceneSettings(**asdict(SEVERAL) | {"off_screen_fraction": 1.0})),
    "silent": Split(100, SceneSettings(**asdict(SEVERAL) | {"silent_fraction": 1.0})),
}
SPLITS = {
    "train": Split(3840, SceneSettings(**LOOK, object_weights=(4.0, 1.0, 1.0), off_screen_fraction=0.05)),
    "val-several": Split(240, SEVERAL),
    **{f"{pool}-{kind}": SCENES[kind] for pool in POOLS for kind in ("several", "single")},
    **{f"{pool}-{kind}": SCENES[kind] for pool in ("test", "unseen") for kind in ("pairs", "off_screen", "silent")},
}


@dataclass(frozen=True)
class Draw:
    """Draws a scene of StampScenes; the packages are read when the first one is drawn."""

    packages: tuple[Path, ...]
    """Folders of the packages; empty for where Debian installs them."""

    def __call__(self, settings: SceneSettings, seed: int, name: str, index: int) -> Scene:
        pool, _, kind = name.partition("-")
        # Scenes of one pool and number would have the same objects, whatever their settings.
        return draw_scene(settings, seed + (KINDS.index(kind) if kind else 0), pool, index, self._world)

    @cached_property
    def _world(self) -> StampWorld:
        return StampWorld.load(self.packages or None)


def stamps(folder: Path, packages: tuple[Path, ...]) -> Shapes:
    """Return the clips, rendered on the first call and mapped from ``folder`` afterwards.

    Raises:
        InputError: If they must be rendered and the packages are not there.
    """
    return shapes(folder, SPLITS, SEED, WINDOW, Draw(packages))
