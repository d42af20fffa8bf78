"""Mix channels to mono, without losing audio that the channels cancel.

The mix is FFmpeg's. Channels that are each other's negative (a cable wired the wrong way round, a karaoke track) are
silent in it, although each of them is loud. So the stream is judged in blocks of half a second, counted from its start:
a block in which the mix has lost 20 dB against the channels is taken from one channel alone. Blocks and channels follow
from the file, not from the window that is read, so any two windows agree where they overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np

from avssl.media.errors import MediaError

BLOCK_SECONDS = 0.5
LOST_POWER = 10 ** (-20 / 10)
"""A mix with less than this fraction of the channels' mean power has lost their audio."""

CANCELLED = "the audio channels cancel in the mono mix; where they do, one of them is used alone."
"""The note of a file with such a block."""

_AUDIBLE_PEAK = 10 ** (-60 / 20)  # quieter blocks are silence, in the channels as in the mix
_NUM_PROBES = 8

_log = logging.getLogger(__name__)

ReadBlock = Callable[[int, int], np.ndarray]
"""(first, stop) → ``(C, n)`` float32 samples of the stream."""


class Downmix:
    """The mono mix of one stream.

    Args:
        path: The file, for the log.
        rate: Sample rate of the stream.
        num_samples: Its length.
    """

    def __init__(self, path: str, rate: int, num_samples: int) -> None:
        self._path, self._num_samples = path, num_samples
        self.block = max(1, round(BLOCK_SECONDS * rate))
        """Samples of a block."""
        self.replaced: dict[int, int] = {}
        """Number of a block in which the channels cancel → the channel in its place, for the blocks read so far."""
        self._loudest: list[int] | None = None

    @property
    def notes(self) -> list[str]:
        """A sentence if blocks were replaced so far, else empty."""
        return [CANCELLED] if self.replaced else []

    def whole_blocks(self, first: int, stop: int) -> tuple[int, int]:
        """Return the span of the blocks that a span of samples touches."""
        return first // self.block * self.block, min(-(-stop // self.block) * self.block, self._num_samples)

    def mono(self, samples: np.ndarray, mix: np.ndarray, first: int, read: ReadBlock) -> np.ndarray:
        """Return the mix with one channel in place of the blocks that are lost in it.

        Args:
            samples: ``(C, n)`` float32; a block of which only a part is there is judged by this part.
            mix: ``(1, n)`` their mix.
            first: Position of the first sample in the stream.
            read: Reads other samples of the stream, to find the channel that is loudest in the file.

        Returns:
            ``(1, n)``: ``mix`` itself if no block is lost.
        """
        mono = mix
        for number in range(first // self.block, -(-(first + samples.shape[1]) // self.block)):
            part = slice(max(0, number * self.block - first), (number + 1) * self.block - first)
            if (power := _lost(samples[:, part], mix[0, part])) is not None:
                mono = mono.copy() if mono is mix else mono
                channel = next(c for c in self._by_power(samples, read) if power[c] >= LOST_POWER * power.mean())
                mono[0, part] = samples[channel, part]
                self.replaced[number] = channel
        return mono

    def _by_power(self, samples: np.ndarray, read: ReadBlock) -> list[int]:
        """Return the channels, the loudest of the file first; judged by ``samples`` if nothing else can be read."""
        if self._loudest is None:
            power = np.zeros(len(samples))
            for probe in range(_NUM_PROBES):
                begin = (self._num_samples - 1) * probe // _NUM_PROBES // self.block * self.block
                try:
                    power += _powers(read(begin, min(begin + self.block, self._num_samples)))
                except MediaError:  # damaged there: the other probes do
                    continue
            power = power if power.any() else _powers(samples)
            # Of those within 3 dB the first, as the order of equal channels must not depend on a decoder's last bit.
            self._loudest = np.argsort(-np.minimum(power, power.max() / 2), kind="stable").tolist()
            _log.info("%s: %s Its loudest is number %d.", self._path, CANCELLED, self._loudest[0] + 1)
        return self._loudest


def _powers(samples: np.ndarray) -> np.ndarray:
    """Return the ``(C,)`` mean power of each channel without its constant offset."""
    power: np.ndarray = samples.var(axis=1, dtype=np.float64)
    return np.where(np.isfinite(power), power, 0.0)


def _lost(samples: np.ndarray, mix: np.ndarray) -> np.ndarray | None:
    """Return the power of each channel if their mix has lost it, else None."""
    if not np.abs(samples).max(initial=0.0) >= _AUDIBLE_PEAK:
        return None
    power = _powers(samples)
    return power if power.mean() > 0 and mix.var(dtype=np.float64) < LOST_POWER * power.mean() else None
