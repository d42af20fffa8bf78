"""Turn raw batches into model input, on the device, a whole batch at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from avssl.core.lazy import make_lazy
from avssl.core.registry import build

if TYPE_CHECKING:
    from avssl.transforms.audio import LogMel as LogMel
    from avssl.transforms.audio import LogSpectrogram as LogSpectrogram
    from avssl.transforms.audio_augment import RandomGain as RandomGain
    from avssl.transforms.audio_augment import SpectrogramMask as SpectrogramMask
    from avssl.transforms.clip_transform import ClipTransform as ClipTransform
    from avssl.transforms.color import ColorJitter as ColorJitter
    from avssl.transforms.fbank import KaldiFbank as KaldiFbank
    from avssl.transforms.front_end import FrontEnd as FrontEnd
    from avssl.transforms.local_views import LocalViews as LocalViews
    from avssl.transforms.negative_sounds import NegativeSounds as NegativeSounds
    from avssl.transforms.presets import AUDIO_PRESETS as AUDIO_PRESETS
    from avssl.transforms.presets import VIDEO_PRESETS as VIDEO_PRESETS
    from avssl.transforms.standardize import Standardize as Standardize
    from avssl.transforms.standardize import estimate_statistics as estimate_statistics
    from avssl.transforms.video import IMAGENET_MEAN as IMAGENET_MEAN
    from avssl.transforms.video import IMAGENET_STD as IMAGENET_STD
    from avssl.transforms.video import VideoAugment as VideoAugment
    from avssl.transforms.video import VideoEval as VideoEval
    from avssl.transforms.waveform import Waveform as Waveform
    from avssl.transforms.waveform_augment import WaveformAugment as WaveformAugment

SPECTROGRAMS: dict[str, str] = {
    "avid": "avssl.transforms.audio:LogSpectrogram",
    "log_mel": "avssl.transforms.audio:LogMel",
    "kaldi_fbank": "avssl.transforms.fbank:KaldiFbank",
    "waveform": "avssl.transforms.waveform:Waveform",
    "whisper_mel": "avssl.transforms.padded_mel:WhisperMel",
    "clap_mel": "avssl.transforms.padded_mel:ClapMel",
    "seamless_fbank": "avssl.transforms.seamless:SeamlessFbank",
}
"""Import path of each spectrogram class by its name in the configuration."""


def create_spectrogram(name: str, **options: Any) -> FrontEnd:
    """Build a spectrogram module by name.

    Args:
        name: A key of :data:`SPECTROGRAMS`.
        **options: Keyword arguments of its class.

    Raises:
        ValueError: If the name, an option or its value is unknown; says which there are.

    Example:
        >>> create_spectrogram("log_mel", sample_rate_hz=16000, num_mels=64).num_bins
        64
    """
    spectrogram: FrontEnd = build("spectrogram", SPECTROGRAMS, name, **options)
    return spectrogram


make_lazy(__name__)
