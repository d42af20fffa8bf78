"""The motions of StampScenes: slow and small, and independent of the sound.

So only recognition finds the source: neither the motion of an object nor its time tells whether it sounds.
Lengths are in units of the object's radius, times in seconds, angles in radians; y points down.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from avssl.synthetic.actions import TAU, Motion, Pose


def _motion(period: float, pose: Callable[[np.ndarray], Pose]) -> Motion:
    return Motion(pose, np.zeros_like, np.ones_like, period, (), (), 0.0, False)


def glide(rng: np.random.Generator) -> Motion:
    """Move to and fro along a line."""
    period, phase, heading = rng.uniform(4.0, 9.0), rng.random(), rng.uniform(-0.35, 0.35)
    reach, lean = rng.uniform(0.35, 0.8), rng.uniform(-0.08, 0.08)

    def pose(t: np.ndarray) -> Pose:
        along = reach * np.sin(TAU * (t / period + phase))
        return Pose(along * np.cos(heading), along * np.sin(heading), lean + np.zeros_like(t), np.ones_like(t))

    return _motion(period, pose)


def sway(rng: np.random.Generator) -> Motion:
    """Tilt from side to side."""
    period, phase, reach = rng.uniform(1.6, 3.5), rng.random(), rng.uniform(0.08, 0.2)

    def pose(t: np.ndarray) -> Pose:
        wave = np.sin(TAU * (t / period + phase))
        return Pose(0.08 * wave, np.zeros_like(t), reach * wave, np.ones_like(t))

    return _motion(period, pose)


def bob(rng: np.random.Generator) -> Motion:
    """Move up and down."""
    period, phase, reach = rng.uniform(0.9, 2.2), rng.random(), rng.uniform(0.08, 0.2)
    lean = rng.uniform(-0.08, 0.08)

    def pose(t: np.ndarray) -> Pose:
        wave = reach * np.sin(TAU * (t / period + phase))
        return Pose(np.zeros_like(t), wave, lean + np.zeros_like(t), np.ones_like(t))

    return _motion(period, pose)


def approach(rng: np.random.Generator) -> Motion:
    """Come nearer and go away."""
    period, phase, reach = rng.uniform(3.5, 8.0), rng.random(), rng.uniform(0.06, 0.16)

    def pose(t: np.ndarray) -> Pose:
        wave = np.sin(TAU * (t / period + phase))
        return Pose(np.zeros_like(t), reach * wave, np.zeros_like(t), 1.0 + reach * wave)

    return _motion(period, pose)


def drift(rng: np.random.Generator) -> Motion:
    """Wander along a flat ellipse."""
    period, phase, sense = rng.uniform(4.0, 8.0), rng.random(), rng.choice([-1.0, 1.0])
    wide, tall = rng.uniform(0.25, 0.6), rng.uniform(0.05, 0.2)

    def pose(t: np.ndarray) -> Pose:
        turn = TAU * (t / period + phase)
        return Pose(wide * np.cos(turn), tall * np.sin(sense * turn), 0.05 * np.sin(turn), np.ones_like(t))

    return _motion(period, pose)


MOTION_TABLE: dict[str, Callable[[np.random.Generator], Motion]] = {
    f.__name__: f for f in (glide, sway, bob, approach, drift)
}
"""Name of a motion → a function that draws its parameters."""
MOTIONS: tuple[str, ...] = tuple(MOTION_TABLE)
