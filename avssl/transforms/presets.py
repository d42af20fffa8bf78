"""Named sets of augmentation options, for frames and for audio.

A preset stands for values of the options below, which single options override. ``default`` are the defaults that the
classes declare, ``none`` changes nothing but the size of the frames, and ``simclr`` hides what would let a view be
found by its colors or by its spectrogram alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

VIDEO_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "none": {
        "scale": (1.0, 1.0),
        "ratio": (1.0, 1.0),
        "flip_probability": 0.0,
        "brightness": 0.0,
        "contrast": 0.0,
        "saturation": 0.0,
    },
    # Chen et al., 2020, https://arxiv.org/abs/2002.05709, appendix A, with color distortion of strength 1.
    "simclr": {
        "scale": (0.08, 1.0),
        "brightness": 0.8,
        "contrast": 0.8,
        "saturation": 0.8,
        "hue": 0.2,
        "jitter_probability": 0.8,
        "grayscale_probability": 0.2,
        "blur_probability": 0.5,
    },
}
"""Options of :class:`~avssl.transforms.VideoAugment` by the name of the preset."""

AUDIO_PRESETS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "none": {"gain": (1.0, 1.0)},
    # SimCLR has no audio; these are our own choice, measured by benchmarks/augmentation.py.
    "simclr": {
        "gain": (0.5, 2.0),
        "max_semitones": 2.0,
        "max_shift_seconds": 0.5,
        "filter_probability": 0.8,
        "mix_probability": 0.8,
        "noise_probability": 0.8,
        "max_time_width": 16,
        "max_freq_width": 12,
    },
}
"""Options of the classes of audio augmentation by the name of the preset."""
