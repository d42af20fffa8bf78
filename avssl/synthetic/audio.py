"""Render the audio of a scene: hits at the events of the audible objects, and their sustained sounds."""

from __future__ import annotations

import numpy as np

from avssl.synthetic.scene import Scene, SceneObject, generator
from avssl.synthetic.timbres import TIMBRES, hit, sustained


def _render_object(item: SceneObject, num_samples: int, rate_hz: int) -> np.ndarray:
    rng = generator("sound", item.sound_seed)
    timbre, motion = TIMBRES[item.kind], item.motion
    time = np.arange(num_samples) / rate_hz
    # Activity and pitch change slowly: they are computed 100 times per second and interpolated.
    knots = np.linspace(0.0, num_samples / rate_hz, int(100 * num_samples / rate_hz) + 2)
    activity = np.interp(time, knots, motion.activity(knots))
    wave = np.zeros(num_samples)
    if activity.any():
        wave += 0.7 * sustained(
            timbre, item.pitch_hz, activity, np.interp(time, knots, motion.pitch(knots)), rate_hz, rng
        )
    times, strengths = motion.events(num_samples / rate_hz)
    if any(motion.event_strengths):
        note = hit(timbre, item.pitch_hz, rate_hz, rng)
        for start, strength in zip(np.ceil(times * rate_hz - 1e-9).astype(int), strengths, strict=True):
            stop = min(start + len(note), num_samples)
            wave[start:stop] += strength * note[: max(stop - start, 0)]
    return item.loudness * wave / max(float(np.abs(wave).max()), 1e-9)


def render_audio(scene: Scene) -> np.ndarray:
    """Render the (S,) float32 mono waveform in [-1, 1]; all zeros for a silent scene without noise."""
    settings = scene.settings
    wave = np.zeros(settings.num_samples)
    for item in scene.heard:
        wave += _render_object(item, settings.num_samples, settings.sample_rate_hz)
    if settings.snr_db is not None and scene.heard:
        noise = generator("noise", scene.background_seed).standard_normal(len(wave))
        power = float(np.mean(wave**2)) / 10 ** (settings.snr_db / 10)
        wave += noise * np.sqrt(power)
    return (wave / max(1.0, float(np.abs(wave).max()))).astype(np.float32)
