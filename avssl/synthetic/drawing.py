"""Draw random scenes.

A scene is a pure function of (settings, seed, split, index, world): all random numbers come from generators seeded by
these, so a corpus does not depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from avssl.core.errors import InputError
from avssl.synthetic.scene import Scene, SceneSettings, generator
from avssl.synthetic.shapes.world import SHAPES
from avssl.synthetic.world import World


def draw_scene(settings: SceneSettings, seed: int, split: str, index: int, world: World = SHAPES) -> Scene:
    """Draw the scene of clip ``index`` of a split, a pure function of its arguments.

    Args:
        settings: Distribution of scenes.
        seed: Random seed of the corpus.
        split: Name of the split; other names have other scenes.
        index: Number of the clip in the split, >= 0. With ``interactive_pairs``, clips 2k and
            2k + 1 share their frames.
        world: World of the scene.

    Raises:
        InputError: If the world has no such split, or does not know one of the settings.

    Example:
        >>> settings = SceneSettings(object_weights=(0.0, 1.0))  # two objects in each scene
        >>> scene = draw_scene(settings, seed=0, split="train", index=7)
        >>> len(scene.objects), len(scene.sounding), scene.objects[0].kind in KINDS
        (2, 1, True)
    """
    world.check(settings, split)
    pair = index // 2 if settings.interactive_pairs else index
    luck = generator(world.name, seed, split, index, "nuisance")
    nuisance = _draw_nuisance(settings, luck, index)
    source = int(luck.integers(index)) if nuisance == "near_duplicate" else pair
    rng = generator(world.name, seed, split, source, "scene")
    objects = world.draw_objects(settings, split, rng)
    order = rng.permutation(len(objects))
    first = index % 2 if settings.interactive_pairs else 0
    able = [int(i) for i in order if objects[i].can_sound]
    sounding = tuple(sorted(able[first : first + settings.num_sounding]))
    heard = tuple(objects[i] for i in sounding)
    scene = Scene(settings, objects, sounding, heard, nuisance, int(rng.integers(2**62)), world, split)
    return _apply_nuisance(scene, luck)


def _draw_nuisance(settings: SceneSettings, luck: np.random.Generator, index: int) -> str:
    names = ("off_screen", "mismatched", "silent", "near_duplicate")
    fractions = np.array([getattr(settings, f"{name}_fraction") for name in names])
    if fractions.sum() > 1:
        raise InputError(f"the fractions of nuisances add up to {fractions.sum():.2f}, above 1.")
    draw = int(np.searchsorted(np.cumsum(fractions), luck.random(), side="right"))
    if draw == len(names) or (names[draw] == "near_duplicate" and index == 0):
        return "none"
    return names[draw]


def _apply_nuisance(scene: Scene, luck: np.random.Generator) -> Scene:
    if scene.nuisance == "silent":
        return replace(scene, sounding=(), heard=())
    if scene.nuisance == "near_duplicate":
        look = np.array([luck.uniform(0.9, 1.1), luck.uniform(-0.05, 0.05)])
        quieter = luck.uniform(0.8, 1.0)
        heard = tuple(replace(o, loudness=o.loudness * quieter) for o in scene.heard)
        return replace(scene, heard=heard, look=look)
    if scene.nuisance in ("off_screen", "mismatched"):
        # An off-screen source is of a kind that is not visible; a mismatched one may be of any kind.
        seen = {o.kind for o in scene.objects}
        for _ in range(100):
            one = replace(scene.settings, object_weights=(1.0,), num_sounding=1, interactive_pairs=False)
            other = scene.world.draw_objects(one, scene.split, luck)
            if scene.nuisance == "mismatched" or other[0].kind not in seen:
                break
        return replace(scene, sounding=(), heard=other)
    return scene
