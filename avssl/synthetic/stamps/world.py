"""The world of StampScenes: cut-out photographs over photographs of places, some of which sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image
from scipy.signal import fftconvolve

from avssl.core.errors import InputError
from avssl.core.ranges import Decibels, SecondsOrZero, Share, checked
from avssl.media import MediaLimits
from avssl.synthetic.layout import draw_homes
from avssl.synthetic.scene import Scene, SceneObject, SceneSettings, generator
from avssl.synthetic.stamps.cutouts import Backdrop, Photograph
from avssl.synthetic.stamps.library import StampLibrary, load_library
from avssl.synthetic.stamps.motions import MOTION_TABLE, MOTIONS
from avssl.synthetic.stamps.objects import Call, StampObject
from avssl.synthetic.stamps.pools import Pool, Pools
from avssl.synthetic.stamps.recordings import Recording
from avssl.synthetic.world import World

_RADII = (0.19, 0.3)
"""Range of half the longest side of an object, as a share of the shorter side of the frame."""
_CROWD = (1.0, 1.0, 0.9, 0.8, 0.7)
"""Factor of the sizes in scenes of 1, 2, 3, ... objects."""
_PERSPECTIVE = (0.8, 1.2)
"""Factor of the size of an object at the top and at the bottom of the frame: what stands lower is nearer."""
_LEVEL_DB = 9.0
"""Largest difference in level of two objects, in decibels."""
_DECAY = 6.9
"""Natural logarithm of the amplitude ratio of 60 decibels."""

_Item = TypeVar("_Item")


@checked
@dataclass(frozen=True)
class StampSettings:
    """Settings of StampScenes beside those of all scenes."""

    distractor_share: Share = 0.5
    """Probability that an object that need not be able to sound has no recording at all."""
    room_seconds: tuple[SecondsOrZero, SecondsOrZero] = (0.1, 0.5)
    """Range of the time within which the reverberation of a room falls by 60 decibels; 0 0 for none."""
    noise_snr_db: tuple[Decibels, Decibels] = (15.0, 40.0)
    """Range of the signal-to-noise ratio of the noise of a room, whose power falls with the frequency."""

    def __post_init__(self) -> None:
        for name in ("room_seconds", "noise_snr_db"):
            low, high = getattr(self, name)
            if low > high:
                raise InputError(f"{name} ({low:g} {high:g}) must be a range, the lower number first.")


class StampWorld(World):
    """StampScenes.

    Args:
        library: Photographs, recordings and backdrops, from :func:`load_library`.
        settings: Default: :class:`StampSettings`.

    Example:
        >>> from avssl.synthetic import draw_scene, render_frames
        >>> world = StampWorld.load(["/usr/share/tuxpaint/stamps", "/usr/share/gcompris-qt"])
        >>> frames, masks = render_frames(draw_scene(SceneSettings(), 0, "train", 7, world))
        >>> frames.shape
        (64, 128, 128, 3)
    """

    name = "stampscenes"

    def __init__(self, library: StampLibrary, settings: StampSettings | None = None) -> None:
        self.library = library
        self.settings = settings or StampSettings()

    @classmethod
    def load(
        cls,
        folders: Sequence[Path | str] | None = None,
        settings: StampSettings | None = None,
        *,
        limits: MediaLimits | None = None,
        progress: bool = True,
    ) -> StampWorld:
        """Return the world of packages. Arguments and errors are those of :func:`load_library`."""
        return cls(load_library(folders, limits=limits, progress=progress), settings)

    @cached_property
    def pools(self) -> Pools:
        """Pool of each split."""
        return Pools(self.library)

    @property
    def test_splits(self) -> tuple[str, ...]:  # type: ignore[override]
        """The split "test", and those of unseen photographs and recordings for which there is enough."""
        return ("test", *self.pools.possible_splits)

    def check(self, settings: SceneSettings, split: str) -> None:
        pool = self.pools.of(split)
        for field in fields(SceneSettings):
            if field.name in ("clutter", "background_contrast", "tempo_spread"):
                value = getattr(settings, field.name)
                if value != field.default:
                    raise InputError(f"{field.name} ({value}) is a setting of SoundingShapes; StampScenes has no such.")
        needed = settings.num_sounding + settings.interactive_pairs
        if len(pool.kinds) < needed:
            raise InputError(
                f"split {split!r}: {len(pool.kinds)} classes can sound in it, but a scene needs {needed}. "
                "Name more folders of stamps, or leave the split out."
            )

    def draw_objects(self, settings: SceneSettings, split: str, rng: np.random.Generator) -> tuple[SceneObject, ...]:
        weights = np.asarray(settings.object_weights, dtype=float)
        count = 1 + int(rng.choice(len(weights), p=weights / weights.sum()))
        chosen = self._choose(settings, self.pools.of(split), count, rng)
        chosen = [chosen[i] for i in rng.permutation(len(chosen))]
        radii = rng.uniform(*_RADII, len(chosen)) * min(settings.width, settings.height)
        radii *= _CROWD[min(len(chosen), len(_CROWD)) - 1]
        homes = draw_homes(settings, radii, 1.0, rng)
        objects = []
        for i in np.argsort(homes[:, 1], kind="stable"):  # far to near
            photograph, recording = chosen[i]
            depth = np.interp(homes[i, 1], (0, settings.height), _PERSPECTIVE)
            action = _one(MOTIONS, rng)
            objects.append(
                StampObject(
                    kind=photograph.kind,
                    action=action,
                    motion=MOTION_TABLE[action](rng),
                    home_xy=(float(homes[i, 0]), float(homes[i, 1])),
                    radius=float(radii[i] * depth),
                    loudness=float(10 ** (-rng.uniform(0.0, _LEVEL_DB) / 20)),
                    photograph=photograph,
                    recording=recording,
                    is_mirrored=bool(rng.random() < 0.5),
                    light=(rng.uniform(0.75, 1.2) * rng.uniform(0.93, 1.07, 3)).astype(np.float32),
                    calls=() if recording is None else _draw_calls(settings.duration_seconds, recording, rng),
                    speed=float(rng.uniform(0.93, 1.07)),
                )
            )
        return tuple(objects)

    def _choose(
        self, settings: SceneSettings, pool: Pool, count: int, rng: np.random.Generator
    ) -> list[tuple[Photograph, Recording | None]]:
        """Draw the photographs and recordings of a scene, each of another class."""
        needed = min(count, settings.num_sounding + settings.interactive_pairs)
        able = needed + int(rng.binomial(count - needed, 1.0 - self.settings.distractor_share))
        able = min(able if pool.silent else count, len(pool.kinds))
        chosen: list[tuple[Photograph, Recording | None]] = []
        for k in rng.choice(len(pool.kinds), able, replace=False):
            photographs, recordings = pool.photographs[pool.kinds[k]], pool.recordings[pool.kinds[k]]
            chosen.append((_one(photographs, rng), _one(recordings, rng)))
        silent = list(pool.silent.values())
        for k in rng.choice(len(silent), min(count - able, len(silent)), replace=False) if silent else ():
            chosen.append((_one(silent[k], rng), None))
        return chosen

    def draw_background(self, settings: SceneSettings, split: str, seed: int, height: int, width: int) -> np.ndarray:
        rng = generator("backdrop", seed)
        backdrops = self.pools.of(split).backdrops
        if not backdrops:
            return np.full((height, width, 3), rng.uniform(0.3, 0.7, 3), dtype=np.float32)
        image = _crop(_one(backdrops, rng), height, width, rng)
        pixels = np.asarray(image).astype(np.float32) / 255.0
        return np.clip(pixels * np.float32(rng.uniform(0.75, 1.15)), 0.0, 1.0)

    def room(self, scene: Scene, waveform: np.ndarray) -> np.ndarray:
        rng = generator("room", scene.background_seed)
        rate = scene.settings.sample_rate_hz
        decay_seconds, snr_db = rng.uniform(*self.settings.room_seconds), rng.uniform(*self.settings.noise_snr_db)
        if decay_seconds > 0:
            time = np.arange(max(1, int(decay_seconds * rate))) / rate
            tail = np.exp(-_DECAY * time / decay_seconds) * rng.standard_normal(len(time))
            # As energetic as the direct sound in a room of half a second, and less in a smaller one.
            tail *= np.sqrt(decay_seconds / 0.5 / max(float(np.sum(tail**2)), 1e-12))
            tail[0] = 1.0
            waveform = fftconvolve(waveform, tail)[: len(waveform)]
        noise = _pink_noise(len(waveform), rng)
        power = float(np.mean(waveform**2)) / 10 ** (snr_db / 10)
        return waveform + noise * np.sqrt(power / max(float(np.mean(noise**2)), 1e-12))

    def columns(self, scene: Scene) -> dict[str, str | None]:
        visible = [scene.objects[i] for i in scene.sounding]
        photographs = [item.photograph.name for item in visible if isinstance(item, StampObject)]
        recordings = [item.recording.name for item in scene.heard if isinstance(item, StampObject) and item.recording]
        return {
            "photograph": "|".join(photographs) or None,
            "recording": "|".join(recordings) or None,
            "seen_photograph": self._seen(photographs),
            "seen_recording": self._seen(recordings),
        }

    def _seen(self, names: list[str]) -> str | None:
        """Return "yes" if all are of the training, "no" if not, None if there are none."""
        return ("yes" if self.pools.unseen_names.isdisjoint(names) else "no") if names else None


def _one(items: Sequence[_Item], rng: np.random.Generator) -> _Item:
    return items[int(rng.integers(len(items)))]


def _draw_calls(duration_seconds: float, recording: Recording, rng: np.random.Generator) -> tuple[Call, ...]:
    """Draw when which parts of a recording are played: short ones whole, parts of up to 2.5 s of long ones."""
    length = len(recording.waveform) / recording.sample_rate_hz
    start = float(rng.uniform(0.0, min(0.6, 0.25 * duration_seconds)))
    calls: list[Call] = []
    while start < duration_seconds - 0.05:
        seconds = min(length, float(rng.uniform(1.0, 2.5)))
        # The first call begins with the sound; later ones anywhere in a long recording.
        offset = float(rng.uniform(0.0, length - seconds)) if calls else 0.0
        calls.append(Call(start, offset, seconds))
        start += seconds + float(rng.uniform(0.15, 0.7))
    return tuple(calls)


def _crop(backdrop: Backdrop, height: int, width: int, rng: np.random.Generator) -> Image.Image:
    """Return a random part of a backdrop in the given size, mirrored half of the time."""
    high, wide = backdrop.rgb.shape[:2]
    zoom = min(high / height, wide / width) * rng.uniform(0.6, 1.0)
    left, top = rng.random() * (wide - zoom * width), rng.random() * (high - zoom * height)
    box = (left, top, min(left + zoom * width, wide), min(top + zoom * height, high))
    image = Image.fromarray(backdrop.rgb).resize((width, height), Image.Resampling.BICUBIC, box)
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else image


def _pink_noise(num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise whose power falls with the frequency above 50 Hz or so."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1 + len(spectrum) // 200))
    return np.fft.irfft(spectrum, num_samples)
