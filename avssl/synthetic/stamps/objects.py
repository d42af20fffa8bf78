"""An object of StampScenes: a cut-out photograph, and calls of a recording."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from avssl.synthetic.scene import SceneObject
from avssl.synthetic.stamps.cutouts import Photograph
from avssl.synthetic.stamps.recordings import Recording

_FADE_SECONDS = 0.01


@dataclass(frozen=True)
class Call:
    """A part of a recording that is played once."""

    start_seconds: float
    """Time in the clip."""
    offset_seconds: float
    """Time in the recording."""
    seconds: float
    """Length in the clip; the recording may end earlier."""


@dataclass(frozen=True)
class StampObject(SceneObject):
    """A cut-out photograph; ``radius`` is half of its longest side."""

    photograph: Photograph
    recording: Recording | None
    """None for an object that cannot sound."""
    is_mirrored: bool
    light: np.ndarray
    """(3,) float32 gains of red, green and blue."""
    calls: tuple[Call, ...]
    """Ascending."""
    speed: float
    """Speed at which the recording is played."""

    @property
    def can_sound(self) -> bool:
        return self.recording is not None

    def events(self, duration_seconds: float) -> tuple[np.ndarray, np.ndarray]:
        times = np.array([call.start_seconds for call in self.calls if call.start_seconds < duration_seconds])
        return times, np.ones(len(times))

    def draw(self, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pose = self.motion.pose(seconds)
        cx = self.home_xy[0] + self.radius * pose.dx
        cy = self.home_xy[1] + self.radius * pose.dy
        image = self._lit(float(pose.scale.max()))
        half = int(np.ceil(np.hypot(*image.size) / 2)) + 1
        corner = np.stack([np.floor(cy).astype(int) - half, np.floor(cx).astype(int) - half], axis=1)
        # A pixel of the square at (x, y) shows the photograph at A (x, y) + b: turned back and scaled about the center.
        shrink = pose.scale.max() / pose.scale
        cos, sin = np.cos(pose.angle) * shrink, np.sin(pose.angle) * shrink
        x, y = cx - corner[:, 1], cy - corner[:, 0]
        bx, by = image.width / 2 - (cos * x + sin * y), image.height / 2 - (cos * y - sin * x)
        size = 2 * half + 1
        rows = np.stack([cos, sin, bx, -sin, cos, by], axis=1)
        drawn = np.stack([np.asarray(_moved(image, size, row)) for row in rows])
        return corner, drawn[..., 3].astype(np.float32) / 255.0, drawn[..., :3].astype(np.float32) / 255.0

    def _lit(self, scale: float) -> Image.Image:
        """Return the photograph in the size of this object, mirrored and lit."""
        image = self.photograph.sized(max(2, round(2 * self.radius * scale)))
        pixels = np.asarray(image).astype(np.float32)
        pixels[..., :3] = np.clip(pixels[..., :3] * self.light, 0.0, 255.0)
        lit = np.rint(pixels[:, ::-1] if self.is_mirrored else pixels).astype(np.uint8)
        return Image.fromarray(lit)

    def sound(self, num_samples: int, sample_rate_hz: int) -> np.ndarray:
        wave = np.zeros(num_samples)
        if self.recording is None:
            return wave
        source = self.recording.at(sample_rate_hz)
        fade = int(_FADE_SECONDS * sample_rate_hz)
        for call in self.calls:
            start = int(np.ceil(call.start_seconds * sample_rate_hz - 1e-9))
            first = int(call.offset_seconds * sample_rate_hz)
            count = min(int(call.seconds * sample_rate_hz), num_samples - start)
            count = min(count, int((len(source) - first) / self.speed))
            if count <= 2 * fade:
                continue
            part = np.interp(first + self.speed * np.arange(count), np.arange(len(source)), source)
            part[count - fade :] *= np.linspace(1.0, 0.0, fade)
            if first:
                part[:fade] *= np.linspace(0.0, 1.0, fade)
            wave[start : start + count] += part
        return self.loudness * wave


def _moved(image: Image.Image, size: int, matrix: np.ndarray) -> Image.Image:
    """Return a square of an image under an affine map; premultiplied by Pillow, so that edges stay clean."""
    return image.transform((size, size), Image.Transform.AFFINE, matrix.tolist(), Image.Resampling.BICUBIC)
