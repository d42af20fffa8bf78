"""The twelve object kinds of SoundingShapes as heard: a timbre each.

A timbre is a set of partials (ratios to the pitch), a resonance at a fixed frequency, a band of
noise and an envelope. Pitch and loudness are random for every object, so neither tells the kind.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import butter, lfilter

from avssl.synthetic.shapes.outlines import KINDS


@dataclass(frozen=True)
class Timbre:
    """The sound of a kind."""

    ratios: tuple[float, ...]
    """Partials as multiples of the pitch."""
    amplitudes: tuple[float, ...]
    """Linear amplitude of each partial."""
    resonance_hz: float
    """Frequency of the body's resonance, whatever the pitch."""
    resonance: float
    """Amplitude of the resonance, relative to the partials."""
    noise_hz: tuple[float, float]
    """Frequency band of the noise."""
    noise: float
    """Amplitude of the noise, relative to the partials."""
    decay_seconds: float
    """Time in which a hit decays to 1/e."""
    vibrato_hz: float = 0.0
    """Vibrato rate of the sustained sound."""


def _harmonics(*numbers: float, slope: float = 1.0) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(numbers), tuple(n**-slope for n in numbers)


_TABLE: dict[str, Timbre] = {
    "disc": Timbre(*_harmonics(1), 5200, 0.0, (200, 400), 0.02, 0.22),
    "square": Timbre(*_harmonics(1, 3, 5, 7, 9, 11, slope=0.8), 900, 0.0, (200, 400), 0.02, 0.14),
    "triangle": Timbre((1, 2.76, 5.40, 8.93), (1, 0.8, 0.6, 0.5), 7000, 0.3, (6000, 8000), 0.02, 0.35),
    "star": Timbre(*_harmonics(4, 5, 6, 8, slope=0.3), 3600, 0.2, (3000, 5000), 0.05, 0.25, 6.0),
    "cross": Timbre((1, 1.5), (0.5, 0.4), 1200, 0.2, (900, 1600), 0.9, 0.10),
    "ring": Timbre((1, 2.0, 3.01, 4.16, 5.43), (0.4, 1, 0.7, 0.6, 0.5), 2500, 0.9, (2300, 2700), 0.05, 0.40),
    "crescent": Timbre(*_harmonics(1, 2, slope=2.0), 600, 0.5, (4000, 7000), 0.55, 0.18, 5.0),
    "hexagon": Timbre(*_harmonics(1, 2, 3, 4, 5, 6, 7, 8, slope=0.5), 1500, 0.9, (100, 300), 0.05, 0.12),
    "capsule": Timbre(*_harmonics(0.5, 1, slope=0.5), 300, 0.8, (100, 500), 0.35, 0.20),
    "gear": Timbre((1, 1.41, 2.1, 2.9), (0.5, 0.4, 0.3, 0.3), 4200, 0.8, (2500, 8000), 0.6, 0.08),
    "diamond": Timbre(*_harmonics(1, 8, 9, 10, slope=0.15), 9500, 0.6, (8500, 11000), 0.15, 0.30),
    "hourglass": Timbre((1, 1.06, 2, 2.12), (1, 1, 0.5, 0.5), 800, 0.4, (1800, 3200), 0.35, 0.16),
}
TIMBRES: dict[str, Timbre] = {kind: _TABLE[kind] for kind in KINDS}
"""Kind → timbre."""

PITCH_HZ = (220.0, 440.0)
"""Range of random pitches, the same for every kind."""


def _band_noise(band_hz: tuple[float, float], num_samples: int, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    top = min(band_hz[1], 0.49 * rate_hz)
    low = min(band_hz[0], 0.8 * top)
    b, a = butter(2, [low, top], btype="band", fs=rate_hz)
    noise = lfilter(b, a, rng.standard_normal(num_samples))
    return noise / max(float(np.abs(noise).max()), 1e-9)


def _partials(timbre: Timbre, pitch_hz: float, rate_hz: int) -> list[tuple[float, float]]:
    """Return (frequency, amplitude) of the partials below the Nyquist limit; amplitudes sum to 1."""
    pairs = [(r * pitch_hz, a) for r, a in zip(timbre.ratios, timbre.amplitudes, strict=True)]
    pairs = [(f, a) for f, a in pairs if f < 0.45 * rate_hz]
    total = sum(a for _, a in pairs) or 1.0
    return [(f, a / total) for f, a in pairs]


def hit(timbre: Timbre, pitch_hz: float, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """Render one struck note, (S,) float64, loudest at its first sample, with a peak of about 1."""
    time = np.arange(int(4.0 * timbre.decay_seconds * rate_hz)) / rate_hz
    # Cosines: the note is loud from its first sample, so its onset marks the event exactly.
    wave = sum(a * np.cos(2 * np.pi * f * time) for f, a in _partials(timbre, pitch_hz, rate_hz))
    if timbre.resonance and timbre.resonance_hz < 0.45 * rate_hz:
        wave = wave + timbre.resonance * np.cos(2 * np.pi * timbre.resonance_hz * time)
    wave = wave + timbre.noise * _band_noise(timbre.noise_hz, len(time), rate_hz, rng)
    knock = np.exp(-time / 0.004) * rng.uniform(0.5, 1.0, len(time))  # 4 ms of contact
    return (wave * np.exp(-time / timbre.decay_seconds) + knock) / (1.5 + timbre.resonance + timbre.noise)


def sustained(
    timbre: Timbre, pitch_hz: float, activity: np.ndarray, pitch: np.ndarray, rate_hz: int, rng: np.random.Generator
) -> np.ndarray:
    """Render a sustained sound, (S,) float64, shaped by activity (S,) and bent by the pitch ratio (S,)."""
    time = np.arange(len(activity)) / rate_hz
    if timbre.vibrato_hz:
        pitch = pitch * (1.0 + 0.015 * np.sin(2 * np.pi * timbre.vibrato_hz * time))
    cycles = np.cumsum(pitch) / rate_hz
    start = rng.random()
    wave = sum(a * np.sin(2 * np.pi * f * (cycles + start)) for f, a in _partials(timbre, pitch_hz, rate_hz))
    if timbre.resonance and timbre.resonance_hz < 0.45 * rate_hz:
        wave = wave + timbre.resonance * np.sin(2 * np.pi * timbre.resonance_hz * time)
    wave = wave + timbre.noise * _band_noise(timbre.noise_hz, len(time), rate_hz, rng)
    return activity * wave / (1.0 + timbre.resonance + timbre.noise)
