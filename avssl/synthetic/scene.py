"""A random scene of SoundingShapes before rendering: its objects, their actions, and which ones sound.

A scene is a pure function of (settings, seed, name): all random numbers come from generators seeded by
these, so a corpus does not depend on the number of workers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from avssl.core.draws import text_key
from avssl.core.errors import InputError
from avssl.core.ranges import (
    Count,
    CountOrZero,
    Decibels,
    FrameRate,
    Pixels,
    PositiveOrZero,
    SampleRate,
    Seconds,
    Share,
    TempoSpread,
    checked,
)
from avssl.synthetic.actions import ACTION_TABLE, ACTIONS, Motion
from avssl.synthetic.shapes import KINDS
from avssl.synthetic.tempo import draw_tempo
from avssl.synthetic.timbres import PITCH_HZ


@checked
@dataclass(frozen=True)
class SceneSettings:
    """Distribution of scenes. Fractions are probabilities per clip."""

    width: Pixels = 128
    """Width in pixels, even."""
    height: Pixels = 128
    """Height in pixels, even."""
    video_fps: FrameRate = 16.0
    """Frames per second."""
    duration_seconds: Seconds = 4.0
    """Length of a clip."""
    sample_rate_hz: SampleRate = 24000
    """Sample rate of the mono audio."""
    object_weights: tuple[PositiveOrZero, ...] = (1.0, 1.0, 1.0, 1.0)
    """Relative frequency of scenes with 1, 2, 3, ... objects."""
    num_sounding: Count = 1
    """Number of sounding objects (fewer if the scene has fewer)."""
    clutter: CountOrZero = 8
    """Still shapes painted into the background."""
    background_contrast: PositiveOrZero = 1.0
    """Strength of the background's texture; 0 is a uniform color."""
    camera_shake_pixels: PositiveOrZero = 0.0
    """Largest displacement of the camera, in pixels."""
    off_screen_fraction: Share = 0.0
    """Probability that the sounding object is off-screen and no visible one sounds."""
    mismatched_fraction: Share = 0.0
    """Probability of a faulty pair, with the audio of another scene."""
    silent_fraction: Share = 0.0
    """Probability that the audio is all zeros."""
    near_duplicate_fraction: Share = 0.0
    """Probability that a clip repeats an earlier scene of its split with a slightly different look and loudness."""
    snr_db: Decibels | None = None
    """Signal-to-noise ratio of added white noise; None adds none."""
    tempo_spread: TempoSpread | None = None
    """Ratio of the fastest to the mean tempo of a motion, at least 1; the slowest is as much slower. The tempo changes
    every 0.3 to 0.9 s, so that audio fits its frames at one offset only. None: steady, so that each period fits."""
    interactive_pairs: bool = False
    """Make clips in pairs with the same frames, in which different objects sound."""

    def __post_init__(self) -> None:
        if self.width % 2 or self.height % 2 or min(self.width, self.height) < 32:
            raise InputError(f"width and height ({self.width}x{self.height}) must be even and >= 32.")
        if sum(self.object_weights) <= 0:
            raise InputError(f"object_weights {self.object_weights} must be >= 0 with one above 0.")
        if self.interactive_pairs and (any(self.object_weights[:1]) or self.num_sounding != 1):
            raise InputError(
                "interactive_pairs needs scenes of at least two objects (object_weights=(0, ...)) and num_sounding=1."
            )

    @property
    def num_frames(self) -> int:
        return max(1, round(self.duration_seconds * self.video_fps))

    @property
    def num_samples(self) -> int:
        return round(self.duration_seconds * self.sample_rate_hz)


@dataclass(frozen=True)
class SceneObject:
    """One object with all of its random properties."""

    kind: str
    action: str
    motion: Motion
    home_xy: tuple[float, float]
    """Position in pixels."""
    radius: float
    """Radius in pixels."""
    angle: float
    """Angle in radians, added to the action's."""
    colors: np.ndarray
    """(3, 3) float in [0, 1]: the two colors of the texture and the color of the outline."""
    pitch_hz: float
    loudness: float
    """Peak amplitude in (0, 1]."""
    sound_seed: int
    """Random seed of the noise in this object's sound."""


@dataclass(frozen=True)
class Scene:
    """A scene, ready to be rendered."""

    settings: SceneSettings
    objects: tuple[SceneObject, ...]
    """Objects, far to near."""
    sounding: tuple[int, ...]
    """Indices of the audible objects; empty if no visible one is."""
    heard: tuple[SceneObject, ...]
    """Audible objects: the sounding ones, or others for off-screen and mismatched audio."""
    nuisance: str
    """"none", "off_screen", "mismatched", "silent" or "near_duplicate"."""
    background_seed: int
    look: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0]))
    """Gain and offset of all pixels; not (1, 0) in near-duplicates."""


def generator(*parts: object) -> np.random.Generator:
    """Return a generator seeded by the text of ``parts``, the same on every machine."""
    return np.random.Generator(np.random.PCG64(text_key("/".join(map(str, parts))) & (2**63 - 1)))


def _colors(rng: np.random.Generator) -> np.ndarray:
    """Draw two colors of clearly different lightness and an outline in black or white."""
    hues = rng.random((2, 3))
    light = np.array([rng.uniform(0.65, 0.95), rng.uniform(0.1, 0.4)])
    mean = hues.mean(1, keepdims=True)
    pair = np.clip(light[:, None] + 0.75 * (hues - mean), 0.0, 1.0)
    pair = pair[rng.permutation(2)]
    return np.concatenate([pair, np.full((1, 3), rng.choice([0.02, 0.98]))]).astype(np.float32)


def _homes(settings: SceneSettings, radii: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw (O, 2) centers: of 24 random layouts, the one with the largest minimum gap."""
    low = 1.8 * radii[:, None]
    high = np.array([settings.width, settings.height]) - low
    layouts = low + rng.random((24, len(radii), 2)) * np.maximum(high - low, 1.0)
    gaps = np.linalg.norm(layouts[:, :, None] - layouts[:, None], axis=-1) - (radii[:, None] + radii[None])
    gaps[:, np.eye(len(radii), dtype=bool)] = np.inf
    return layouts[np.argmax(gaps.min((1, 2)))] if len(radii) > 1 else layouts[0]


def _draw_objects(settings: SceneSettings, rng: np.random.Generator) -> tuple[SceneObject, ...]:
    weights = np.asarray(settings.object_weights, dtype=float)
    count = 1 + int(rng.choice(len(weights), p=weights / weights.sum()))
    side = min(settings.width, settings.height)
    radii = rng.uniform(0.13, 0.185, count) * side
    homes = _homes(settings, radii, rng)
    # Kinds differ within a scene: two of the same kind would leave "which one sounds?" unanswerable.
    kinds = rng.choice(len(KINDS), size=count, replace=count > len(KINDS))
    objects = []
    for i in range(count):
        action = ACTIONS[rng.integers(len(ACTIONS))]
        objects.append(
            SceneObject(
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


def draw_scene(settings: SceneSettings, seed: int, split: str, index: int) -> Scene:
    """Draw the scene of clip ``index`` of a split, a pure function of its arguments.

    Args:
        settings: Distribution of scenes.
        seed: Random seed of the corpus.
        split: Name of the split; other names have other scenes.
        index: Number of the clip in the split, >= 0. With ``interactive_pairs``, clips 2k and
            2k + 1 share their frames.
    """
    pair = index // 2 if settings.interactive_pairs else index
    luck = generator("soundingshapes", seed, split, index, "nuisance")
    nuisance = _draw_nuisance(settings, luck, index)
    source = int(luck.integers(index)) if nuisance == "near_duplicate" else pair
    rng = generator("soundingshapes", seed, split, source, "scene")
    objects = _draw_objects(settings, rng)
    order = rng.permutation(len(objects))
    first = index % 2 if settings.interactive_pairs else 0
    sounding = tuple(sorted(int(i) for i in order[first : first + settings.num_sounding]))
    heard = tuple(objects[i] for i in sounding)
    scene = Scene(settings, objects, sounding, heard, nuisance, int(rng.integers(2**62)))
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
            other = _draw_objects(replace(scene.settings, object_weights=(1.0,)), luck)
            if scene.nuisance == "mismatched" or other[0].kind not in seen:
                break
        return replace(scene, sounding=(), heard=other)
    return scene
