"""A world: what the objects of a scene look and sound like, and where they are.

Two worlds share the engine of this package (scenes, frames, audio, truth, corpus): SoundingShapes
(:mod:`avssl.synthetic.shapes`) and StampScenes (:mod:`avssl.synthetic.stamps`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from avssl.synthetic.scene import Scene, SceneObject, SceneSettings


class World(ABC):
    """Objects with an appearance and a sound, and backgrounds.

    Example:
        >>> isinstance(SHAPES, World), SHAPES.name, SHAPES.test_splits
        (True, 'soundingshapes', ('test',))
        >>> scene = draw_scene(SceneSettings(), seed=0, split="train", index=0, world=SHAPES)
        >>> scene.world is SHAPES
        True
    """

    name: str
    """Name of the world; part of every random key."""
    test_splits: tuple[str, ...] = ("test",)
    """Names of the splits that are made beside "train"."""

    def check(self, settings: SceneSettings, split: str) -> None:  # noqa: B027 (a default, not an omission)
        """Raise InputError if the world has no such split, or does not know one of the settings."""

    @abstractmethod
    def draw_objects(self, settings: SceneSettings, split: str, rng: np.random.Generator) -> tuple[SceneObject, ...]:
        """Draw the objects of a scene, far to near; at least ``num_sounding`` of them can sound, as far as possible."""

    @abstractmethod
    def draw_background(self, settings: SceneSettings, split: str, seed: int, height: int, width: int) -> np.ndarray:
        """Render a still background, (height, width, 3) float32 in [0, 1]."""

    def room(self, scene: Scene, waveform: np.ndarray) -> np.ndarray:
        """Return the waveform (S,) of the audible objects as it is heard in the room of the scene."""
        return waveform

    def columns(self, scene: Scene) -> dict[str, str | None]:
        """Return further columns of the manifest row of a scene."""
        return {}
