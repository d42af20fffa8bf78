"""Input contracts: the frames, the rate and the spectrogram that a backbone was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Interpolation = Literal["bilinear", "bicubic"]


@dataclass(frozen=True)
class VideoContract:
    """Frames that a video or image backbone takes."""

    size: int
    """Height and width in pixels."""
    mean: tuple[float, float, float]
    """Mean of each RGB channel, for values in [0, 1]."""
    std: tuple[float, float, float]
    """Standard deviation of each RGB channel."""
    resize_short: int | None = None
    """Short side in pixels before the central square is cut out; None resizes the whole frame to a square."""
    interpolation: Interpolation = "bilinear"
    """Filter of the resize."""
    keep_aspect: bool = True
    """False squeezes the whole frame into a square of ``resize_short`` pixels before the center is cut out."""
    antialias: bool = True
    """Widen the filter where frames become smaller."""
    size_multiple: int = 0
    """Other sizes that the backbone takes are multiples of this; 0 if there are none."""
    num_frames: int | None = None
    """Frames of the clips it was trained on; None for an image backbone, which takes any number."""
    frame_multiple: int = 1
    """Numbers of frames must be multiples of this."""
    is_fixed_length: bool = False
    """True if it takes ``num_frames`` only."""

    def full_frame_size(self, size: int, scale: float) -> int:
        """Return the size for whole frames that are ``scale`` times as large as ``size``, as far as possible."""
        step = self.size_multiple
        return max(size, step * round(size * scale / step)) if step else size


@dataclass(frozen=True)
class AudioContract:
    """Audio that an audio backbone takes."""

    sample_rate_hz: int
    """Sample rate in Hz."""
    spectrogram: str
    """Name of the front end, a key of :data:`avssl.transforms.SPECTROGRAMS`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the front end."""
    audio_seconds: float = 2.0
    """Length of the window that it was trained on, in seconds."""
    max_seconds: float | None = None
    """Longest window; shorter ones are padded to it, as the backbone's own processor does. None for any length."""


Contract = VideoContract | AudioContract
