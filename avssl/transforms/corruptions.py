"""Corruptions of frames (blur, light, compression, noise) and audio (noise, reverberation) with severities 1 to 5.

After ImageNet-C (Hendrycks and Dietterich, 2019, https://arxiv.org/abs/1903.12261), whose numbers are those of its
released generator. :data:`CORRUPTIONS` is the one place of the strengths and their sources.

Each corruption is a function of raw batches on their device. Its random numbers depend on a clip's key and the seed
alone, and are the same at all severities; the other modality keeps its tensor.

Dimensions: B clips, T frames, h and w pixels of frames of one size, S samples, L samples of an impulse response.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torchaudio.functional import fftconvolve
from torchvision.transforms.v2.functional import jpeg

from avssl.core.batch import Batch, BatchIndex, Modality
from avssl.core.draws import clip_key, normal
from avssl.core.errors import InputError
from avssl.core.ranges import Seed, SeverityOrClean, checked
from avssl.core.registry import entry
from avssl.transforms.blur import blur_radius, blur_weights
from avssl.transforms.disturbances import add_noise, to_rgb

SEVERITIES = (1, 2, 3, 4, 5)

_BLUR_SIDE = 224
"""Short side in pixels of the frames that ImageNet-C's blur is given for; ours grows with the frame."""
_DECAY = math.log(1e3)
"""An amplitude falls by 60 decibels, to a thousandth, within the reverberation time."""
_EVEN_RT60_SECONDS = 0.5
"""Reverberation time at which the reverberation has the energy of the direct sound; it grows with the time."""


def _frames(batch: Batch, change: Callable[[Tensor, Tensor], Tensor]) -> Batch:
    """Apply ``change((b, T, 3, h, w) uint8, (b,) keys)`` to all frames of one size at once; it returns [0, 255]."""
    batch = to_rgb(batch)
    if batch.valid_hw is None:
        raise InputError("corruptions need raw batches, before any transform.")
    video = batch.video.clone()
    for height, width in batch.valid_hw.unique(dim=0).tolist():
        clips = (batch.valid_hw == batch.valid_hw.new_tensor([height, width])).all(dim=1).nonzero()[:, 0]
        changed = change(video[clips, :, :, :height, :width], batch.index.key[clips])
        video[clips, :, :, :height, :width] = changed.round().clamp(0, 255).byte()
    return replace(batch, video=video)


def _blur(batch: Batch, sigma: float, sample_rate_hz: int) -> Batch:
    def change(video: Tensor, key: Tensor) -> Tensor:
        height, width = video.shape[-2:]
        own = sigma * min(height, width) / _BLUR_SIDE
        width_of_filter = torch.full((1,), own, device=video.device)
        rows, columns = (blur_weights(width_of_filter, blur_radius(own, n), n)[0] for n in (height, width))
        return rows @ video.float() @ columns.T

    return _frames(batch, change)


def _light(batch: Batch, change_of_value: float, sample_rate_hz: int) -> Batch:
    """Add to the value channel of HSV, the largest of red, green and blue; hue and saturation stay."""

    def change(video: Tensor, key: Tensor) -> Tensor:
        value = video.amax(dim=2, keepdim=True).float()
        target = (value + 255 * change_of_value).clamp(0, 255)
        return torch.where(value > 0, video * (target / value.clamp(min=1)), target)

    return _frames(batch, change)


def _jpeg(batch: Batch, quality: float, sample_rate_hz: int) -> Batch:
    """Encode and decode each frame, on the CPU, so that all devices give the same bytes."""
    return _frames(batch, lambda video, key: jpeg(video.cpu(), int(quality)).to(video.device))


def _pixel_noise(batch: Batch, deviation: float, sample_rate_hz: int) -> Batch:
    def change(video: Tensor, key: Tensor) -> Tensor:
        count = video[0].numel()
        noise = torch.stack([normal(one, "pixel noise", count)[0].float().view_as(video[0]) for one in key.split(1)])
        return video + 255 * deviation * noise

    return _frames(batch, change)


def _audio_noise(batch: Batch, snr_db: float, sample_rate_hz: int) -> Batch:
    return add_noise(batch, snr_db)


def _reverberation(batch: Batch, rt60_seconds: float, sample_rate_hz: int) -> Batch:
    response = impulse_response(batch.index.key, rt60_seconds, sample_rate_hz, batch.audio.shape[1])
    heard = fftconvolve(batch.audio, response.to(batch.audio.dtype))[:, : batch.audio.shape[1]]
    return replace(batch, audio=heard)


def impulse_response(key: Tensor, rt60_seconds: float, sample_rate_hz: int, num_samples: int) -> Tensor:
    """Return synthetic room responses: the direct sound, then noise whose level falls exponentially.

    The direct sound is the first sample, so that audio and video stay in sync. The energy of the noise relative to it
    is ``rt60_seconds`` / 0.5 s, as a room's reverberation grows with its time while the source stays where it is.

    Args:
        key: (B,) int64 random key of each clip.
        rt60_seconds: Time within which the reverberation falls by 60 decibels.
        num_samples: L; what comes later is left out.

    Returns:
        (B, L) float64 of energy 1 if nothing is left out.
    """
    seconds = torch.arange(num_samples, dtype=torch.float64, device=key.device) / sample_rate_hz
    envelope = torch.exp(-_DECAY * seconds / rt60_seconds)
    # The mean energy of the endless envelope is rt60 / (2 decay) seconds of samples.
    energy = rt60_seconds / _EVEN_RT60_SECONDS
    scale = math.sqrt(energy / (rt60_seconds * sample_rate_hz / (2 * _DECAY)))
    response = scale * envelope * normal(key, "reverberation", num_samples)
    response[:, 0] = 1.0
    return response / math.sqrt(1 + energy)


@dataclass(frozen=True)
class CorruptionKind:
    """One corruption: its strengths, and how it is applied."""

    stream: Modality
    """Corrupted modality."""
    apply: Callable[[Batch, float, int], Batch]
    """(raw batch, strength, sample rate in Hz) -> corrupted batch."""
    strengths: tuple[float, float, float, float, float]
    """At the severities 1 to 5."""
    meaning: str
    """The strength with its unit."""
    source: str
    """Source of the strengths."""


_IMAGENET_C = "ImageNet-C (Hendrycks and Dietterich, 2019)"

CORRUPTIONS: dict[str, CorruptionKind] = {
    "blur": CorruptionKind(
        "video", _blur, (1, 2, 3, 4, 6), "sigma of a Gaussian in pixels of a frame of 224", _IMAGENET_C
    ),
    "brighter": CorruptionKind(
        "video", _light, (0.1, 0.2, 0.3, 0.4, 0.5), "added to the value of HSV, in [0, 1]", _IMAGENET_C
    ),
    "darker": CorruptionKind(
        "video",
        _light,
        (-0.1, -0.2, -0.3, -0.4, -0.5),
        "added to the value of HSV, in [0, 1]",
        f"brightness of {_IMAGENET_C}, downward",
    ),
    "jpeg": CorruptionKind("video", _jpeg, (25, 18, 15, 10, 7), "quality of JPEG, frame by frame", _IMAGENET_C),
    "pixel_noise": CorruptionKind(
        "video",
        _pixel_noise,
        (0.08, 0.12, 0.18, 0.26, 0.38),
        "standard deviation of Gaussian noise, pixels in [0, 1]",
        _IMAGENET_C,
    ),
    "audio_noise": CorruptionKind(
        "audio",
        _audio_noise,
        (20, 15, 10, 5, 0),
        "signal-to-noise ratio in dB, white noise",
        "levels of Aurora-2 (Hirsch and Pearce, 2000)",
    ),
    "reverberation": CorruptionKind(
        "audio",
        _reverberation,
        (0.25, 0.5, 0.7, 1.0, 2.0),
        "reverberation time RT60 in seconds",
        "small, medium and large room of the REVERB challenge (Kinoshita et al., 2013); 1 and 2 s are larger halls",
    ),
}
"""Corruptions by name, in the order of reports."""


@checked
@dataclass(frozen=True)
class Corruption:
    """One corruption at one severity; call it with a raw batch and the sample rate.

    Example:
        >>> str(Corruption("blur", 3))
        'blur 3'
        >>> Corruption("blur", 3).strength == CORRUPTIONS["blur"].strengths[2]
        True
    """

    name: str
    """A key of :data:`CORRUPTIONS`."""
    severity: SeverityOrClean
    """0, which returns the batch itself, to 5."""
    seed: Seed = 0
    """Random seed of the noise and of the rooms."""

    def __post_init__(self) -> None:
        entry("corruption", CORRUPTIONS, self.name)

    def __str__(self) -> str:
        return f"{self.name} {self.severity}"

    @property
    def kind(self) -> CorruptionKind:
        return CORRUPTIONS[self.name]

    @property
    def strength(self) -> float | None:
        """Strength at this severity; None for severity 0."""
        return self.kind.strengths[self.severity - 1] if self.severity else None

    def __call__(self, batch: Batch, sample_rate_hz: int) -> Batch:
        """Return the corrupted raw batch; frames become RGB where they are corrupted."""
        if self.strength is None:
            return batch
        index = batch.index
        keyed = replace(batch, index=BatchIndex(index.row, index.group, clip_key(self.seed, 0, index.key)))
        return replace(self.kind.apply(keyed, self.strength, sample_rate_hz), index=index)
