"""The eight actions of SoundingShapes: how an object moves, and when its motion makes a sound.

An action is a closed-form motion, so its event times are analytic. An event is a point in time that is both visible and
audible: the contact of a bounce, the turning point of a shake, the maximum of a pulse. Between events an *activity* in
[0, 1] drives the object's sustained sound, and a *pitch* ratio bends it (the Doppler glide of an orbit).

Lengths are in units of the object's radius, times in seconds, angles in radians; y points down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from avssl.synthetic.tempo import STEADY, Tempo

TAU = 2.0 * np.pi


@dataclass(frozen=True)
class Pose:
    """Position of an object at given times, relative to its home; every field has the shape of the times."""

    dx: np.ndarray
    """Horizontal offset, in radii."""
    dy: np.ndarray
    """Vertical offset, in radii, downwards."""
    angle: np.ndarray
    """Rotation, in radians."""
    scale: np.ndarray
    """Size relative to the object's radius."""


@dataclass(frozen=True)
class Motion:
    """An action with random parameters."""

    pose: Callable[[np.ndarray], Pose]
    """Pose at any times."""
    activity: Callable[[np.ndarray], np.ndarray]
    """Loudness of the sustained sound in [0, 1] at any times; 0 if only events sound."""
    pitch: Callable[[np.ndarray], np.ndarray]
    """Pitch ratio of the sustained sound at any times."""
    period_seconds: float
    """Time between the first events of two cycles."""
    event_phases: tuple[float, ...]
    """Phases in [0, 1) of the events of one cycle."""
    event_strengths: tuple[float, ...]
    """Loudness of the hit at each event phase, in [0, 1]; 0 for a swell without a hit."""
    phase: float
    """Phase at time 0, in [0, 1)."""
    is_impact: bool
    """True if events are contacts: frames that show one are drawn at its exact time."""
    tempo: Tempo = STEADY
    """Changes of tempo; ``pose``, ``activity`` and ``pitch`` follow it already."""

    def events(self, duration_seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the times (E,) of the events in [0, duration), ascending, and their strengths (E,)."""
        cycles = np.arange(-1, int(float(self.tempo.clock(np.asarray(duration_seconds))) / self.period_seconds) + 2)
        times = ((cycles[:, None] + np.asarray(self.event_phases)) - self.phase) * self.period_seconds
        times = self.tempo.seconds(times)
        strengths = np.broadcast_to(np.asarray(self.event_strengths), times.shape)
        inside = (times >= 0) & (times < duration_seconds)
        order = np.argsort(times[inside], kind="stable")
        return times[inside][order], strengths[inside][order]

    def with_tempo(self, tempo: Tempo) -> Motion:
        """Return the motion whose clock runs faster and slower, and its sound with it."""
        return replace(
            self,
            pose=lambda t: self.pose(tempo.clock(t)),
            activity=lambda t: self.activity(tempo.clock(t)),
            pitch=lambda t: self.pitch(tempo.clock(t)),
            tempo=tempo,
        )


def _motion(
    period: float,
    phase: float,
    pose: Callable[[np.ndarray], Pose],
    events: dict[float, float],
    *,
    activity: Callable[[np.ndarray], np.ndarray] = np.zeros_like,
    pitch: Callable[[np.ndarray], np.ndarray] = np.ones_like,
    is_impact: bool = False,
) -> Motion:
    """Make a motion whose ``events`` map phases of a cycle to strengths."""
    return Motion(pose, activity, pitch, period, tuple(events), tuple(events.values()), phase, is_impact)


def bounce(rng: np.random.Generator) -> Motion:
    """Fall and rebound on the spot; each contact with the floor is a hit."""
    period, phase, height, tilt = rng.uniform(0.45, 0.75), rng.random(), rng.uniform(1.5, 2.2), rng.uniform(-0.3, 0.3)

    def pose(t: np.ndarray) -> Pose:
        cycle = np.mod(t / period + phase, 1.0)
        squash = 1.0 - 0.12 * np.exp(-np.minimum(cycle, 1.0 - cycle) * 18.0)
        return Pose(np.zeros_like(t), 0.9 - height * 4.0 * cycle * (1.0 - cycle), tilt + np.zeros_like(t), squash)

    return _motion(period, phase, pose, {0.0: 1.0}, is_impact=True)


def hop(rng: np.random.Generator) -> Motion:
    """Leap sideways, rest, and leap back; the take-off is soft and the landing loud."""
    period, phase, width = rng.uniform(0.9, 1.3), rng.random(), rng.choice([-1.0, 1.0]) * rng.uniform(0.8, 1.1)
    flight = 0.45

    def pose(t: np.ndarray) -> Pose:
        total = t / period + phase
        cycle, leap = np.mod(total, 1.0), np.floor(total)
        air = np.minimum(cycle / flight, 1.0)
        side = np.where(np.mod(leap, 2.0) == 0, 1.0, -1.0)
        dx = width * side * (2.0 * air - 1.0)
        return Pose(dx, 0.4 - 1.6 * 4.0 * air * (1.0 - air), 0.35 * side * np.sin(np.pi * air), np.ones_like(t))

    return _motion(period, phase, pose, {0.0: 0.45, flight: 1.0}, is_impact=True)


def swing(rng: np.random.Generator) -> Motion:
    """Swing as a pendulum; the sound swells with its speed, loudest at the bottom."""
    period, phase, length, reach = rng.uniform(1.1, 1.6), rng.random(), rng.uniform(1.7, 2.2), rng.uniform(0.8, 1.0)

    def pose(t: np.ndarray) -> Pose:
        angle = reach * np.sin(TAU * (t / period + phase))
        return Pose(length * np.sin(angle), length * (np.cos(angle) - 0.8), -angle, np.ones_like(t))

    def activity(t: np.ndarray) -> np.ndarray:
        return np.cos(TAU * (t / period + phase)) ** 4

    return _motion(period, phase, pose, {0.0: 0.0, 0.5: 0.0}, activity=activity)


def spin(rng: np.random.Generator) -> Motion:
    """Turn on the spot; tick every quarter turn over a steady sound."""
    period, phase, sense = rng.uniform(0.7, 1.1), rng.random(), rng.choice([-1.0, 1.0])

    def pose(t: np.ndarray) -> Pose:
        return Pose(np.zeros_like(t), np.zeros_like(t), sense * TAU * (t / period + phase), np.ones_like(t))

    quarters = {0.0: 0.55, 0.25: 0.55, 0.5: 0.55, 0.75: 0.55}
    return _motion(period, phase, pose, quarters, activity=lambda t: 0.3 * np.ones_like(t))


def shake(rng: np.random.Generator) -> Motion:
    """Tremble sideways; rattle at every turning point."""
    period, phase, reach, tilt = rng.uniform(0.26, 0.34), rng.random(), rng.uniform(0.35, 0.5), rng.uniform(-0.4, 0.4)

    def pose(t: np.ndarray) -> Pose:
        wave = np.sin(TAU * (t / period + phase))
        return Pose(reach * wave, np.zeros_like(t), tilt + 0.15 * wave, np.ones_like(t))

    return _motion(period, phase, pose, {0.25: 0.8, 0.75: 0.8})


def roll(rng: np.random.Generator) -> Motion:
    """Roll to and fro between two stops; rumble on the way and hit the stops."""
    period, phase, reach = rng.uniform(1.6, 2.4), rng.random(), rng.uniform(1.5, 2.0)

    def pose(t: np.ndarray) -> Pose:
        cycle = np.mod(t / period + phase, 1.0)
        dx = reach * (1.0 - 4.0 * np.abs(cycle - 0.5))
        return Pose(dx, np.zeros_like(t), dx, np.ones_like(t))

    def activity(t: np.ndarray) -> np.ndarray:
        return 0.55 + 0.25 * np.sin(TAU * 17.0 * t)  # modulated at 17 Hz: rolling sounds rough, unlike orbiting

    return _motion(period, phase, pose, {0.0: 1.0, 0.5: 1.0}, activity=activity, is_impact=True)


def pulse(rng: np.random.Generator) -> Motion:
    """Swell and shrink on the spot; louder and higher as it grows."""
    period, phase, tilt = rng.uniform(0.8, 1.2), rng.random(), rng.uniform(-0.4, 0.4)

    def size(t: np.ndarray) -> np.ndarray:
        return 0.5 + 0.5 * np.cos(TAU * (t / period + phase))

    return _motion(
        period,
        phase,
        lambda t: Pose(np.zeros_like(t), np.zeros_like(t), tilt + np.zeros_like(t), 0.75 + 0.5 * size(t)),
        {0.0: 0.0},
        activity=lambda t: size(t) ** 2,
        pitch=lambda t: 0.9 + 0.25 * size(t),
    )


def orbit(rng: np.random.Generator) -> Motion:
    """Circle a point; a steady sound whose pitch glides with the distance (Doppler)."""
    period, phase, sense = rng.uniform(1.3, 1.9), rng.random(), rng.choice([-1.0, 1.0])
    wide, tall = rng.uniform(1.4, 1.8), rng.uniform(0.9, 1.3)

    def turn(t: np.ndarray) -> np.ndarray:
        return TAU * (t / period + phase)

    return _motion(
        period,
        phase,
        lambda t: Pose(wide * np.sin(sense * turn(t)), tall * np.cos(turn(t)), np.zeros_like(t), np.ones_like(t)),
        {0.0: 0.0},
        activity=lambda t: 0.55 + 0.35 * np.cos(turn(t)),
        pitch=lambda t: 1.0 + 0.16 * np.sin(turn(t)),
    )


ACTION_TABLE: dict[str, Callable[[np.random.Generator], Motion]] = {
    f.__name__: f for f in (bounce, hop, swing, spin, shake, roll, pulse, orbit)
}
"""Action → a function that draws its parameters."""

ACTIONS: tuple[str, ...] = tuple(ACTION_TABLE)
"""Names of the actions, the classes of action recognition: bounce, hop, swing, spin, shake, roll, pulse, orbit."""
