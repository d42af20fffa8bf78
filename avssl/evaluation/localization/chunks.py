"""Iterate over many samples with a bounded number of pixels in memory.

Dimensions: N samples, n of them at a time, h and w cells of a map, H and W pixels of the truth, P = H * W.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from avssl.evaluation.localization.rules import scaled_maps

_CHUNK = 1 << 20  # pixels at a time: 4 MB of float32, which stay in the cache


class Chunk:
    """Consecutive samples: their truth, and their maps at its size, cached for each way of scaling."""

    def __init__(self, maps: Tensor, truth: Tensor, first: int, tau: float) -> None:
        self.rows = slice(first, first + len(maps))
        """Positions of the samples."""
        self.truth = truth.flatten(1)
        """(n, P)."""
        self._maps, self._tau = maps, tau
        self._hw = (int(truth.shape[1]), int(truth.shape[2]))
        self._made: dict[tuple[str, str], Tensor] = {}

    def values(self, mode: str, scale: str) -> Tensor:
        """Return the (n, P) float32 values that rules of this resize mode and scale compare."""
        if (mode, scale) not in self._made:
            scaled = scaled_maps(self._maps, self._hw, mode, scale, self._tau)
            self._made[mode, scale] = scaled.flatten(1)
        return self._made[mode, scale]


def chunks(maps: Tensor, truth: Tensor, tau: float = 1.0) -> Iterator[Chunk]:
    """Split (N, h, w) maps and (N, H, W) truth on one device into chunks."""
    step = samples_at_once((truth.shape[1], truth.shape[2]))
    for first in range(0, len(maps), step):
        yield Chunk(maps[first : first + step], truth[first : first + step], first, tau)


def samples_at_once(hw: tuple[int, int]) -> int:
    """Return the number of maps of this size in a chunk."""
    return max(1, _CHUNK // (hw[0] * hw[1]))
