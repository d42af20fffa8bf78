"""Augmentation of waveforms on the device: pitch shift, time shift, filters, other clips' audio and noise.

Dimensions: B clips, S samples.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from avssl.core.draws import bits, integers, uniform
from avssl.core.errors import InputError
from avssl.core.ranges import Decibels, Positive, SampleRate, SecondsOrZero, Semitones, Share, checked
from avssl.transforms.filters import KINDS, filter_waveform
from avssl.transforms.loudness import add_at_ratio
from avssl.transforms.negative_sounds import colored_noise
from avssl.transforms.partners import next_in_hash_order
from avssl.transforms.pitch import WINDOW, pitch_shift

Clips = Tensor | slice
"""Positions of some clips of a batch, or all of them."""

# A batch is processed in chunks of this many samples: on a CPU they stay in the cache (a shift of pitch of 64 clips of
# 1.5 s at 24 kHz is 1.8 times faster than at once; the others do not care); a GPU takes the whole batch.
_CHUNK_SAMPLES = {"cpu": 1 << 18}
_CHUNK_SAMPLES_ACCELERATOR = 1 << 26


NUM_DRAWS = 3 + len(KINDS) + 1 + 4
"""Numbers that describe the augmentation of a waveform, see :meth:`WaveformAugment.draws`."""


@checked
class WaveformAugment(nn.Module):
    """Shifts, filters and covers each waveform with random numbers of its own, in the order of the arguments.

    Every random number is a pure function of the clip's key. ``mix`` alone depends on the batch too: on which clips it
    holds, not on their order. With several processes these are the clips of this one.

    Args:
        sample_rate_hz: Sample rate of the waveforms, in Hz.
        max_semitones: Pitch is shifted by up to this many semitones either way, at the same tempo; 0 for none. The most
            expensive operation.
        max_shift_seconds: Time is shifted by up to this many seconds either way, and what leaves one end enters the
            other; 0 for none. Objectives that compare audio and video over time need 0.
        filter_probability: Probability of a filter, in [0, 1]: low-pass, high-pass or band-pass, equally likely.
        low_pass_hz: Lowest and highest cutoff of a low-pass filter, in Hz; drawn uniformly in its logarithm, as are the
            other frequencies.
        high_pass_hz: Lowest and highest cutoff of a high-pass filter, in Hz.
        band_pass_hz: Lowest and highest center of a band-pass filter of about 1.9 octaves, in Hz.
        mix_probability: Probability that another clip's audio is added, in [0, 1].
        mix_snr_db: Lowest and highest ratio of the clip's own power to that of the other's audio, in decibels.
        noise_probability: Probability of noise, in [0, 1]: white, pink or brown, equally likely.
        noise_snr_db: Lowest and highest ratio of the clip's power to that of the noise, in decibels.

    Raises:
        ValueError: If a range is descending, or a frequency is not below half of the sample rate.

    Example:
        >>> waveform, augment = torch.randn(2, 16000), WaveformAugment(16000, max_shift_seconds=0.5)
        >>> shifted = augment(waveform, torch.tensor([0, 1]))
        >>> torch.equal(shifted.sort().values, waveform.sort().values)  # the same samples, at other times
        True
    """

    frequencies_hz: Tensor

    def __init__(
        self,
        sample_rate_hz: SampleRate,
        *,
        max_semitones: Semitones = 0.0,
        max_shift_seconds: SecondsOrZero = 0.0,
        filter_probability: Share = 0.0,
        low_pass_hz: tuple[Positive, Positive] = (500.0, 3500.0),
        high_pass_hz: tuple[Positive, Positive] = (200.0, 2000.0),
        band_pass_hz: tuple[Positive, Positive] = (300.0, 3000.0),
        mix_probability: Share = 0.0,
        mix_snr_db: tuple[Decibels, Decibels] = (0.0, 10.0),
        noise_probability: Share = 0.0,
        noise_snr_db: tuple[Decibels, Decibels] = (0.0, 20.0),
    ) -> None:
        super().__init__()
        frequencies = {"low_pass_hz": low_pass_hz, "high_pass_hz": high_pass_hz, "band_pass_hz": band_pass_hz}
        for name, (low, high) in {**frequencies, "mix_snr_db": mix_snr_db, "noise_snr_db": noise_snr_db}.items():
            if low > high:
                raise InputError(f"{name} ({low:g}, {high:g}) must be (low, high) with low <= high.")
        for name, (_, high) in frequencies.items() if filter_probability else ():
            if high >= sample_rate_hz / 2:
                raise InputError(
                    f"{name} ends at {high:g} Hz, but audio at {sample_rate_hz} Hz holds frequencies below "
                    f"{sample_rate_hz / 2:g} Hz only. Lower it, or set filter_probability to 0."
                )
        self.sample_rate_hz = sample_rate_hz
        self.max_semitones, self.max_shift_seconds = max_semitones, max_shift_seconds
        self.filter_probability = filter_probability
        self.lowest_hz = min(low for low, _ in frequencies.values())
        # A buffer, because a tensor made of Python numbers on a GPU lets the host wait for it.
        ranges = torch.tensor(list(frequencies.values()), dtype=torch.float64)
        self.register_buffer("frequencies_hz", ranges, persistent=False)
        self.mix_probability, self.mix_snr_db = mix_probability, mix_snr_db
        self.noise_probability, self.noise_snr_db = noise_probability, noise_snr_db

    @property
    def is_used(self) -> bool:
        """False if no clip ever changes."""
        probabilities = (self.filter_probability, self.mix_probability, self.noise_probability)
        return max(self.max_semitones, self.max_shift_seconds, *probabilities) > 0

    @torch.no_grad()
    def forward(self, waveform: Tensor, key: Tensor, view: int = 0) -> Tensor:
        """Augment each clip.

        Args:
            waveform: (B, S) float in [-1, 1].
            key: (B,) int64 random key of each clip.
            view: Number of the view, >= 0.

        Returns:
            (B, S) of the same type, not clamped to [-1, 1].

        Raises:
            ValueError: If ``waveform`` is too short to shift its pitch.
        """
        other = waveform[next_in_hash_order(key, f"mix partner/{view}")] if self.mix_probability else waveform
        step = _CHUNK_SAMPLES.get(waveform.device.type, _CHUNK_SAMPLES_ACCELERATOR) // waveform.shape[1]
        parts = [slice(first, first + max(1, step)) for first in range(0, len(key), max(1, step))]
        if len(parts) == 1:
            return self._augmented(waveform, other, key, view)
        return torch.cat([self._augmented(waveform[p], other[p], key[p], view) for p in parts])

    def draws(self, num_samples: int, key: Tensor, view: int = 0) -> Tensor:
        """Return (B, :data:`NUM_DRAWS`) float32 that describe what :meth:`forward` does to each (S,) waveform.

        Pitch as a share of the largest shift; sine and cosine of the shift in time, as a turn of the waveform;
        low-pass, high-pass, band-pass or none of them, and the frequency in octaves above 1 kHz; whether other audio is
        added and noise, and their ratios in units of 10 dB. All are 0 where nothing is done, except for the cosine.
        """
        none = torch.zeros(len(key), device=key.device)
        pitch = self._semitones(key, view) / self.max_semitones if self.max_semitones else none
        turn = 2 * torch.pi * (self._shifts(key, view) / num_samples if self.max_shift_seconds else none)
        is_filtered, kind, frequency_hz = self._filters(key, view)
        filtered = [(is_filtered & (kind == number)).float() for number in range(len(KINDS))]
        numbers = [pitch, turn.sin(), turn.cos(), *filtered, (frequency_hz / 1000).log2() * is_filtered]
        for purpose, probability, ratios_db in (
            (f"mix/{view}/ratio", self.mix_probability, self.mix_snr_db),
            (f"noise/{view}/ratio", self.noise_probability, self.noise_snr_db),
        ):
            chance, ratio_db = _chance_and_ratio(key, purpose, ratios_db)
            is_added = (chance < probability).float()
            numbers += [is_added, is_added * ratio_db[:, 0] / 10]
        return torch.stack([number.float() for number in numbers], dim=1)

    def _augmented(self, waveform: Tensor, other: Tensor, key: Tensor, view: int) -> Tensor:
        if self.max_semitones:
            waveform = self._with_pitch(waveform, key, view)
        if self.max_shift_seconds:
            waveform = roll_each(waveform, self._shifts(key, view))
        if self.filter_probability:
            waveform = self._filtered(waveform, key, view)
        if self.mix_probability:
            waveform = self._mixed(waveform, other, key, view)
        if self.noise_probability:
            waveform = self._noisy(waveform, key, view)
        return waveform

    def _with_pitch(self, waveform: Tensor, key: Tensor, view: int) -> Tensor:
        if waveform.shape[1] <= WINDOW // 2:
            raise InputError(f"max_semitones needs over {WINDOW // 2} samples, got {waveform.shape[1]}. Set it to 0.")
        return pitch_shift(waveform, self._semitones(key, view), self.max_semitones, self.sample_rate_hz)

    def _semitones(self, key: Tensor, view: int) -> Tensor:
        return uniform(key, f"pitch/{view}", 1, -self.max_semitones, self.max_semitones)[:, 0]

    def _shifts(self, key: Tensor, view: int) -> Tensor:
        most = round(self.max_shift_seconds * self.sample_rate_hz)
        return integers(key, f"time shift/{view}", 1, 2 * most + 1)[:, 0] - most

    def _filtered(self, waveform: Tensor, key: Tensor, view: int) -> Tensor:
        is_drawn, kind, frequency_hz = self._filters(key, view)

        def filtered(clips: Clips) -> Tensor:
            chosen = waveform[clips], kind[clips], frequency_hz[clips]
            return filter_waveform(*chosen, self.sample_rate_hz, self.lowest_hz)

        return replace_clips(waveform, is_drawn, filtered)

    def _filters(self, key: Tensor, view: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return (B,) bool: which clips are filtered, the kind of each filter and its frequency in Hz."""
        chance, place = uniform(key, f"filter/{view}", 2).unbind(1)
        kind = integers(key, f"filter kind/{view}", 1, len(KINDS))[:, 0]
        low, high = self.frequencies_hz.T
        return chance < self.filter_probability, kind, low[kind] * (high[kind] / low[kind]) ** place

    def _mixed(self, waveform: Tensor, other: Tensor, key: Tensor, view: int) -> Tensor:
        chance, ratio_db = _chance_and_ratio(key, f"mix/{view}/ratio", self.mix_snr_db)

        def mixed(clips: Clips) -> Tensor:
            return add_at_ratio(waveform[clips], other[clips], ratio_db[clips].to(waveform.dtype))

        return replace_clips(waveform, chance < self.mix_probability, mixed)

    def _noisy(self, waveform: Tensor, key: Tensor, view: int) -> Tensor:
        chance, ratio_db = _chance_and_ratio(key, f"noise/{view}/ratio", self.noise_snr_db)
        noise_key = bits(key, f"noise/{view}", 1)[:, 0]

        def noisy(clips: Clips) -> Tensor:
            noise = colored_noise(noise_key[clips], waveform.shape[1]).to(waveform.dtype)
            return add_at_ratio(waveform[clips], noise, ratio_db[clips].to(waveform.dtype))

        return replace_clips(waveform, chance < self.noise_probability, noisy)

    def extra_repr(self) -> str:
        return (
            f"max_semitones={self.max_semitones}, max_shift_seconds={self.max_shift_seconds}, "
            f"filter_probability={self.filter_probability}, mix_probability={self.mix_probability}, "
            f"noise_probability={self.noise_probability}"
        )


def roll_each(waveform: Tensor, shift: Tensor) -> Tensor:
    """Return (B, S) waveforms, each rolled by its own number of samples, (B,) int64, as :func:`torch.roll` does."""
    num_samples = waveform.shape[1]
    source = torch.arange(num_samples, device=waveform.device) - shift[:, None]
    return waveform.gather(1, source % num_samples)


def replace_clips(waveform: Tensor, is_drawn: Tensor, change: Callable[[Clips], Tensor]) -> Tensor:
    """Return waveforms in which the drawn clips are changed.

    A CPU computes the drawn ones alone. An accelerator computes all: the host would have to wait for it to know them.
    So does a compiled program, whose shapes do not depend on what is drawn.

    Args:
        waveform: (B, S).
        is_drawn: (B,) bool.
        change: Returns the changed waveforms of some clips.
    """
    if waveform.device.type != "cpu" or torch.compiler.is_compiling():
        return torch.where(is_drawn[:, None], change(slice(None)), waveform)
    clips = is_drawn.nonzero()[:, 0]
    return waveform.index_copy(0, clips, change(clips)) if len(clips) else waveform


def _chance_and_ratio(key: Tensor, purpose: str, ratios_db: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Return (B,) numbers in [0, 1) that decide which clips change, and their (B, 1) ratios in decibels."""
    chance, place = uniform(key, purpose, 2).split(1, dim=1)
    return chance[:, 0], ratios_db[0] + (ratios_db[1] - ratios_db[0]) * place
