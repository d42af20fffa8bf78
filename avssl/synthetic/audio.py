"""Render the audio of a scene: the sounds of its audible objects in its room, and noise."""

from __future__ import annotations

import numpy as np

from avssl.synthetic.scene import Scene, generator


def render_audio(scene: Scene) -> np.ndarray:
    """Render the (S,) float32 mono waveform in [-1, 1]; all zeros for a silent scene without noise.

    Example:
        >>> scene = draw_scene(SceneSettings(duration_seconds=1.0), seed=0, split="train", index=0)
        >>> waveform = render_audio(scene)
        >>> waveform.shape, waveform.dtype, bool(np.abs(waveform).max() > 0)
        ((24000,), dtype('float32'), True)
    """
    settings = scene.settings
    wave = np.zeros(settings.num_samples)
    for item in scene.heard:
        wave += item.sound(settings.num_samples, settings.sample_rate_hz)
    if scene.heard:
        wave = scene.world.room(scene, wave)
    if settings.snr_db is not None and scene.heard:
        noise = generator("noise", scene.background_seed).standard_normal(len(wave))
        power = float(np.mean(wave**2)) / 10 ** (settings.snr_db / 10)
        wave += noise * np.sqrt(power)
    return (wave / max(1.0, float(np.abs(wave).max()))).astype(np.float32)
