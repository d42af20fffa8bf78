"""Raw batches to model input, on the device, the whole batch at once."""

from __future__ import annotations

from typing import Any

from avssl.core.errors import InputError
from avssl.transforms.audio import LogMel, LogSpectrogram, avid_log_spectrogram, log_mel_spectrogram
from avssl.transforms.audio_augment import RandomGain, SpectrogramMask
from avssl.transforms.clip_transform import ClipTransform
from avssl.transforms.color import ColorJitter
from avssl.transforms.negative_sounds import NegativeSounds
from avssl.transforms.standardize import Standardize, estimate_statistics
from avssl.transforms.video import IMAGENET_MEAN, IMAGENET_STD, VideoAugment, VideoEval

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "ClipTransform",
    "ColorJitter",
    "LogMel",
    "LogSpectrogram",
    "NegativeSounds",
    "RandomGain",
    "SpectrogramMask",
    "Standardize",
    "VideoAugment",
    "VideoEval",
    "avid_log_spectrogram",
    "create_spectrogram",
    "estimate_statistics",
    "log_mel_spectrogram",
    "spectrogram_names",
]

_SPECTROGRAMS: dict[str, type[LogSpectrogram] | type[LogMel]] = {"avid": LogSpectrogram, "log_mel": LogMel}


def spectrogram_names() -> list[str]:
    """The names :func:`create_spectrogram` takes."""
    return sorted(_SPECTROGRAMS)


def create_spectrogram(name: str, **options: Any) -> LogSpectrogram | LogMel:
    """A spectrogram front end by name, with its own options.

    Raises:
        ValueError: If there is no such name.
    """
    if name not in _SPECTROGRAMS:
        raise InputError(f"spectrogram ({name!r}) must be one of {spectrogram_names()}.")
    return _SPECTROGRAMS[name](**options)
