"""Recordings of the sounds of objects, trimmed and leveled."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from avssl.media import MediaLimits, open_media
from avssl.synthetic.stamps.cutouts import UnusableError

_MAX_SECONDS = 12.0
"""Length that is read of a recording."""
_SILENCE = 1e-3
"""Largest amplitude of a recording of silence: some stamps have one, for animals that nobody has heard."""
_TRIM = 0.02
"""Amplitude relative to the peak, 34 decibels, before which and after which a recording is cut."""
_LEVEL = 0.15
"""Root mean square of a leveled recording."""


@dataclass(frozen=True, eq=False)
class Recording:
    """The recorded sound of an object."""

    name: str
    kind: str
    waveform: np.ndarray
    """(s,) float32, mono; begins with its sound."""
    sample_rate_hz: int
    _resampled: dict[int, np.ndarray] = field(default_factory=dict, repr=False)

    def at(self, sample_rate_hz: int) -> np.ndarray:
        """Return the waveform at another sample rate."""
        if sample_rate_hz not in self._resampled:
            common = math.gcd(sample_rate_hz, self.sample_rate_hz)
            up, down = sample_rate_hz // common, self.sample_rate_hz // common
            self._resampled[sample_rate_hz] = resample_poly(self.waveform, up, down)
        return self._resampled[sample_rate_hz]


def read_recording(path: Path, name: str, kind: str, limits: MediaLimits | None = None) -> Recording:
    """Read a recording.

    Raises:
        UnusableError: If it is silent.
        MediaError: If it is damaged, has no audio, or is over a limit.
    """
    with open_media(path, limits=limits) as reader:
        start, stop = reader.info.audio_start_seconds, reader.info.audio_stop_seconds
        if start is None or stop is None:
            raise UnusableError("file without audio")
        waveform = reader.read_audio(start, min(stop, start + _MAX_SECONDS))[0].numpy()
        rate = reader.info.audio_sample_rate_hz
    assert rate is not None
    peak = float(np.abs(waveform).max(initial=0.0))
    if peak < _SILENCE:
        raise UnusableError("silent recording")
    loud = np.flatnonzero(np.abs(waveform) >= _TRIM * peak)
    waveform = waveform[loud[0] : loud[-1] + 1]
    level = float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))
    return Recording(name, kind, (waveform * (_LEVEL / level)).astype(np.float32), rate)
