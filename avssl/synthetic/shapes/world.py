"""The world of SoundingShapes: objects of random shape, texture, color and pitch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from avssl.synthetic.actions import ACTION_TABLE, ACTIONS, Motion
from avssl.synthetic.layout import draw_homes
from avssl.synthetic.scene import SceneObject, SceneSettings, generator
from avssl.synthetic.shapes.background import render_background
from avssl.synthetic.shapes.outlines import KINDS
from avssl.synthetic.shapes.outlines import SHAPES as OUTLINES
from avssl.synthetic.shapes.timbres import PITCH_HZ, TIMBRES, hit, sustained
from avssl.synthetic.tempo import draw_tempo
from avssl.synthetic.world import World


@dataclass(frozen=True)
class ShapeObject(SceneObject):
    """A drawn object; ``loudness`` is its peak amplitude."""

    angle: float
    """Angle in radians, added to the action's."""
    colors: np.ndarray
    """(3, 3) float in [0, 1]: the two colors of the texture and the color of the outline."""
    pitch_hz: float
    sound_seed: int
    """Random seed of the noise in this object's sound."""

    def draw(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pose = self.motion.pose(seconds)
        cx = self.home_xy[0] + self.radius * pose.dx
        cy = self.home_xy[1] + self.radius * pose.dy
        half = int(np.ceil(1.1 * self.radius * pose.scale.max())) + 1
        corner = np.stack([np.floor(cy).astype(int) - half, np.floor(cx).astype(int) - half], axis=1)
        offsets = np.arange(2 * half + 1, dtype=np.float32) + 0.5
        size = (self.radius * pose.scale).astype(np.float32)[:, None, None]
        dy = (offsets[None, :, None] + (corner[:, 0] - cy).astype(np.float32)[:, None, None]) / size
        dx = (offsets[None, None, :] + (corner[:, 1] - cx).astype(np.float32)[:, None, None]) / size
        angle = (self.angle + pose.angle).astype(np.float32)[:, None, None]
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = cos * dx + sin * dy, cos * dy - sin * dx
        shape, texture = OUTLINES[self.kind]
        distance = shape(x, y) * size  # in pixels
        alpha = np.clip(0.5 - distance, 0.0, 1.0)
        outline = np.clip(2.0 + distance, 0.0, 1.0)[..., None]  # the last 1.5 pixels inside
        mixing = texture(x, y)[..., None]
        color = self.colors[0] + mixing * (self.colors[1] - self.colors[0])
        return corner, alpha, color + outline * (self.colors[2] - color)

    def sound(self, num_samples: int, sample_rate_hz: int) -> np.ndarray:
        rng = generator("sound", self.sound_seed)
        timbre, motion = TIMBRES[self.kind], self.motion
        time = np.arange(num_samples) / sample_rate_hz
        # Activity and pitch change slowly: they are computed 100 times per second and interpolated.
        knots = np.linspace(0.0, num_samples / sample_rate_hz, int(100 * num_samples / sample_rate_hz) + 2)
        activity = np.interp(time, knots, motion.activity(knots))
        wave = np.zeros(num_samples)
        if activity.any():
            wave += 0.7 * sustained(
                timbre, self.pitch_hz, activity, np.interp(time, knots, motion.pitch(knots)), sample_rate_hz, rng
            )
        times, strengths = motion.events(num_samples / sample_rate_hz)
        if any(motion.event_strengths):
            note = hit(timbre, self.pitch_hz, sample_rate_hz, rng)
            for start, strength in zip(np.ceil(times * sample_rate_hz - 1e-9).astype(int), strengths, strict=True):
                stop = min(start + len(note), num_samples)
                wave[start:stop] += strength * note[: max(stop - start, 0)]
        return self.loudness * wave / max(float(np.abs(wave).max()), 1e-9)


class ShapesWorld(World):
    """SoundingShapes."""

    name = "soundingshapes"

    def draw_objects(self, settings: SceneSettings, split: str, rng: np.random.Generator) -> tuple[SceneObject, ...]:
        return _draw_objects(settings, rng)

    def draw_background(self, settings: SceneSettings, split: str, seed: int, height: int, width: int) -> np.ndarray:
        return render_background(settings, seed, height, width)


SHAPES = ShapesWorld()
"""The world of SoundingShapes, in which scenes and corpora are made unless another one is given."""


def _colors(rng: np.random.Generator) -> np.ndarray:
    """Draw two colors of clearly different lightness and an outline in black or white."""
    hues = rng.random((2, 3))
    light = np.array([rng.uniform(0.65, 0.95), rng.uniform(0.1, 0.4)])
    mean = hues.mean(1, keepdims=True)
    pair = np.clip(light[:, None] + 0.75 * (hues - mean), 0.0, 1.0)
    pair = pair[rng.permutation(2)]
    return np.concatenate([pair, np.full((1, 3), rng.choice([0.02, 0.98]))]).astype(np.float32)


def _draw_objects(settings: SceneSettings, rng: np.random.Generator) -> tuple[ShapeObject, ...]:
    weights = np.asarray(settings.object_weights, dtype=float)
    count = 1 + int(rng.choice(len(weights), p=weights / weights.sum()))
    side = min(settings.width, settings.height)
    radii = rng.uniform(0.13, 0.185, count) * side
    homes = draw_homes(settings, radii, 1.8, rng)
    # Kinds differ within a scene: two of the same kind would leave "which one sounds?" unanswerable.
    kinds = rng.choice(len(KINDS), size=count, replace=count > len(KINDS))
    objects = []
    for i in range(count):
        action = ACTIONS[rng.integers(len(ACTIONS))]
        objects.append(
            ShapeObject(
                kind=KINDS[kinds[i]],
                action=action,
                motion=_draw_motion(settings, action, rng),
                home_xy=(float(homes[i, 0]), float(homes[i, 1])),
                radius=float(radii[i]),
                angle=float(rng.uniform(-0.35, 0.35)),
                colors=_colors(rng),
                pitch_hz=float(PITCH_HZ[0] * (PITCH_HZ[1] / PITCH_HZ[0]) ** rng.random()),
                loudness=float(rng.uniform(0.35, 0.8)),
                sound_seed=int(rng.integers(2**62)),
            )
        )
    return tuple(objects)


def _draw_motion(settings: SceneSettings, action: str, rng: np.random.Generator) -> Motion:
    motion = ACTION_TABLE[action](rng)
    if settings.tempo_spread is None:
        return motion
    return motion.with_tempo(draw_tempo(rng, settings.tempo_spread, settings.duration_seconds))
