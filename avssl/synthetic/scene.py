"""A random scene before rendering: its settings, its objects, and which ones sound."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
from avssl.synthetic.actions import Motion

if TYPE_CHECKING:
    from avssl.synthetic.world import World


@checked
@dataclass(frozen=True)
class SceneSettings:
    """Distribution of scenes. Fractions are probabilities per clip.

    Example:
        >>> settings = SceneSettings(duration_seconds=2.0, video_fps=25.0, sample_rate_hz=16_000, silent_fraction=0.1)
        >>> settings.num_frames, settings.num_samples
        (50, 32000)
        >>> SceneSettings(width=33)
        Traceback (most recent call last):
            ...
        avssl.core.errors.InputError: width and height (33x128) must be even and >= 32.
    """

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
        """Frames of a clip, at least 1."""
        return max(1, round(self.duration_seconds * self.video_fps))

    @property
    def num_samples(self) -> int:
        """Samples of the audio of a clip."""
        return round(self.duration_seconds * self.sample_rate_hz)


@dataclass(frozen=True)
class SceneObject(ABC):
    """One object with all of its random properties; a world adds its appearance and its sound."""

    kind: str
    """Class of the object."""
    action: str
    """Name of its motion."""
    motion: Motion
    """Its movement and the times at which it sounds."""
    home_xy: tuple[float, float]
    """Position in pixels."""
    radius: float
    """Half of its size in pixels."""
    loudness: float
    """Level of its sound, in (0, 1]."""

    @property
    def can_sound(self) -> bool:
        """True if it has a sound, audible in this scene or not."""
        return True

    def events(self, duration_seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the times (E,) of its sound events in [0, duration), ascending, and their strengths (E,)."""
        return self.motion.events(duration_seconds)

    @abstractmethod
    def draw(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw the object at the times (T,).

        Returns:
            corner: (T, 2) int, (y, x) of the top left pixel of the drawn squares in the frame.
            alpha: (T, P, P) float32 in [0, 1].
            color: (T, P, P, 3) float RGB, nominally in [0, 1].
        """

    @abstractmethod
    def sound(self, num_samples: int, sample_rate_hz: int) -> np.ndarray:
        """Render its sound, (S,) float64."""


@dataclass(frozen=True)
class Scene:
    """A scene, ready to be rendered.

    Example:
        >>> scene = draw_scene(SceneSettings(silent_fraction=1.0), seed=0, split="train", index=0)
        >>> scene.nuisance, scene.sounding, scene.heard
        ('silent', (), ())
    """

    settings: SceneSettings
    """Distribution that the scene was drawn from."""
    objects: tuple[SceneObject, ...]
    """Objects, far to near."""
    sounding: tuple[int, ...]
    """Indices of the audible objects; empty if no visible one is."""
    heard: tuple[SceneObject, ...]
    """Audible objects: the sounding ones, or others for off-screen and mismatched audio."""
    nuisance: str
    """"none", "off_screen", "mismatched", "silent" or "near_duplicate"."""
    background_seed: int
    """Random seed of the background, the camera, the room and added noise."""
    world: World
    """World that the objects and the background belong to."""
    split: str
    """Name of the split that the scene was drawn for."""
    look: np.ndarray = field(default_factory=lambda: np.array([1.0, 0.0]))
    """Gain and offset of all pixels; not (1, 0) in near-duplicates."""


def generator(*parts: object) -> np.random.Generator:
    """Return a generator seeded by the text of ``parts``, the same on every machine."""
    return np.random.Generator(np.random.PCG64(text_key("/".join(map(str, parts))) & (2**63 - 1)))
