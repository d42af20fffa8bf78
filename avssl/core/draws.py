"""Random numbers of a clip, as pure functions of a key.

A random number depends only on (seed, epoch, id, clip number, purpose): not on the position in
the batch, the rank, the number of workers or the state of a generator. Exact resume, "two ranks
equal one process" and "forward changes nothing" follow from it.

The mixing function is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), written with wrapping int64
arithmetic so that it runs vectorized on any torch device and gives the same bits everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, lru_cache

import numpy as np
import torch
from torch import Tensor

from avssl.core.text_keys import text_key_array
from avssl.core.traced import constant

_MASK = (1 << 64) - 1


def _signed(value: int) -> int:
    """Convert a 64-bit pattern to a Python int in the range of int64."""
    value &= _MASK
    return value - (1 << 64) if value >> 63 else value


_GAMMA = _signed(0x9E3779B97F4A7C15)
_MULTIPLY_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLY_2 = _signed(0x94D049BB133111EB)


def _shift_right(x: Tensor, count: int) -> Tensor:
    """Shift logically: ``>>`` on int64 copies the sign bit, which must be cleared."""
    return (x >> count).bitwise_and_((1 << (64 - count)) - 1)


def splitmix64(x: Tensor) -> Tensor:
    """Mix each int64 by SplitMix64, a bijection in which every output bit depends on every input bit."""
    x = x + _GAMMA
    x.bitwise_xor_(_shift_right(x, 30)).mul_(_MULTIPLY_1)
    x.bitwise_xor_(_shift_right(x, 27)).mul_(_MULTIPLY_2)
    return x.bitwise_xor_(_shift_right(x, 31))


def splitmix64_int(x: int) -> int:
    """Compute :func:`splitmix64` of one int in plain Python, many times faster than with a tensor."""
    x = (x + _GAMMA) & _MASK
    x = ((x ^ (x >> 30)) * _MULTIPLY_1) & _MASK
    x = ((x ^ (x >> 27)) * _MULTIPLY_2) & _MASK
    return _signed(x ^ (x >> 31))


def text_key(text: str) -> int:
    """Return a stable 64-bit key of a string (an id or a purpose); ``hash()`` changes between runs."""
    return int(text_key_array([text])[0])


def text_keys(texts: Iterable[str]) -> Tensor:
    """Return (N,) int64, the :func:`text_key` of each text; a million in a second."""
    return torch.from_numpy(text_key_array(texts))


_kept_key = cache(text_key)  # purposes are few; ids are not


@constant
def _purpose_key(purpose: str) -> int:
    """Return the :func:`text_key` of a purpose."""
    return _kept_key(purpose)


def clip_key(seed: int, epoch: int, id_key: Tensor, clip_number: Tensor | int = 0) -> Tensor:
    """Return the random keys of clips.

    Args:
        seed: Random seed of the run.
        epoch: Number of the epoch, >= 0.
        id_key: (B,) int64 from :func:`text_key` of each clip's id.
        clip_number: (B,) int64 or int, number of the clip of the id in this epoch.

    Returns:
        (B,) int64.
    """
    key = splitmix64(splitmix64(id_key ^ splitmix64_int(_signed(seed))) ^ splitmix64_int(epoch))
    number = splitmix64(clip_number.to(id_key)) if isinstance(clip_number, Tensor) else splitmix64_int(clip_number)
    return splitmix64(key ^ number)


def clip_key_int(seed: int, epoch: int, id_key: int, clip_number: int) -> int:
    """Compute :func:`clip_key` of one clip."""
    key = splitmix64_int(splitmix64_int(id_key ^ splitmix64_int(_signed(seed))) ^ splitmix64_int(epoch))
    return splitmix64_int(key ^ splitmix64_int(clip_number))


def bits(key: Tensor, purpose: str, count: int) -> Tensor:
    """Return (B, count) int64 of independent random bits for ``purpose``, from (B,) int64 keys."""
    root = splitmix64(key ^ _purpose_key(purpose))
    return splitmix64(root[:, None] ^ _lanes(count, key))


def fake_mode_of(x: Tensor) -> object:
    """Return the mode of a tensor without data, None of others: what is kept for one is of no use for the other."""
    return getattr(x, "fake_mode", None)


def _lanes(count: int, key: Tensor) -> Tensor:
    """Return (count,) int64, the mixed number of each column; they are made once."""
    if torch.compiler.is_compiling():
        return _make_lanes(count, key.device)
    return _kept_lanes(count, key.device, fake_mode_of(key))


def _make_lanes(count: int, device: torch.device) -> Tensor:
    return splitmix64(torch.arange(count, device=device, dtype=torch.int64))


@lru_cache(maxsize=32)
def _kept_lanes(count: int, device: torch.device, mode: object) -> Tensor:
    return _make_lanes(count, device)


def uniform(key: Tensor, purpose: str, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return (B, count) float64, uniform in [low, high), from (B,) int64 keys."""
    # A compiled program makes all numbers in few kernels by itself.
    table = None if torch.compiler.is_compiling() else _TABLE.get()
    known = None if table is None or table.key is not key else table.read(purpose, count)
    unit = _in_unit_interval(bits(key, purpose, count)) if known is None else known
    return unit if (low, high) == (0.0, 1.0) else unit.mul_(high - low).add_(low)


def _in_unit_interval(bits: Tensor) -> Tensor:
    """Turn 64 random bits into float64 numbers in [0, 1)."""
    return _shift_right(bits, 11).double().mul_(2.0**-53)


class DrawnTogether:
    """Makes the random numbers of many purposes in one pass over a batch, instead of one pass for each.

    The numbers are those of :func:`uniform`. On a GPU a pass is 45 launches of little work each. What is requested for
    the keys of one batch is noted, and made at once for the next.

    Example:
        >>> together, key = DrawnTogether(), torch.tensor([7, 8])
        >>> for _ in range(2):  # the second time in one pass
        ...     with together(key):
        ...         flip, crop = uniform(key, "flip", 1), uniform(key, "crop", 4)
        >>> torch.equal(crop, uniform(key, "crop", 4)), tuple(crop.shape)
        (True, (2, 4))
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    @contextmanager
    def __call__(self, key: Tensor) -> Iterator[None]:
        """Make the numbers of the (B,) keys, this very tensor, at once within the context."""
        if torch.compiler.is_compiling():
            yield
            return
        token = _TABLE.set(_Table(key, self._counts))
        try:
            yield
        finally:
            _TABLE.reset(token)


class _Table:
    """Random numbers of one batch of keys, by purpose."""

    def __init__(self, key: Tensor, counts: dict[str, int]) -> None:
        self.key, self._counts = key, counts
        self._units: dict[str, Tensor] = {}
        if counts:
            purposes, lanes = _columns(tuple(counts.items()), key.device, fake_mode_of(key))
            units = _in_unit_interval(splitmix64(splitmix64(key[:, None] ^ purposes) ^ lanes))
            self._units = dict(zip(counts, units.split(list(counts.values()), dim=1), strict=True))

    def read(self, purpose: str, count: int) -> Tensor | None:
        """Return a copy of (B, count) numbers in [0, 1); None if they were not made, and note them."""
        units = self._units.get(purpose)
        if units is not None and units.shape[1] >= count:
            return units[:, :count].clone()
        if count <= _MOST_TOGETHER:
            self._counts[purpose] = max(count, self._counts.get(purpose, 0))
        return None


_TABLE: ContextVar[_Table | None] = ContextVar("drawn together", default=None)
_MOST_TOGETHER = 256
"""Numbers of a purpose: more than these, such as noise, are work for a pass of their own."""


@lru_cache(maxsize=32)
def _columns(counts: tuple[tuple[str, int], ...], device: torch.device, mode: object) -> tuple[Tensor, Tensor]:
    """Return the key of the purpose and the mixed number of each column, int64, copied to a device once."""
    purposes = torch.cat([torch.full((count,), _purpose_key(purpose)) for purpose, count in counts])
    lanes = splitmix64(torch.cat([torch.arange(count) for _, count in counts]))
    return purposes.to(device), lanes.to(device)


def normal(key: Tensor, purpose: str, count: int) -> Tensor:
    """Return (B, count) float64, normal (Box and Muller, 1958), from (B,) int64 keys."""
    first, second = uniform(key, purpose, 2 * count).chunk(2, dim=1)
    return (-first).log1p_().mul_(-2).sqrt_() * (2 * torch.pi * second).cos_()


def uniform_float(key: int, purpose: str) -> float:
    """Return the first of :func:`uniform` in [0, 1) for one clip's key."""
    value = splitmix64_int(splitmix64_int(key ^ _purpose_key(purpose)) ^ splitmix64_int(0))
    return ((value & _MASK) >> 11) * 2.0**-53


def integers(key: Tensor, purpose: str, count: int, stop: int) -> Tensor:
    """Return (B, count) int64, uniform in [0, stop), from (B,) int64 keys."""
    return (uniform(key, purpose, count) * stop).long().clamp_(max=stop - 1)


_BLOCK = 1 << 20
"""Rows whose hashes are computed at a time, in the processor's cache."""


def epoch_order(seed: int, epoch: int, id_keys: Tensor) -> Tensor:
    """Return the (N,) int64 order of the rows in an epoch: rows sorted by a hash of their ids.

    Adding or dropping rows does not change the relative order of the others. A hundred million rows need 2 GB and a few
    seconds: the first bits of a hash and the row are sorted as one number, and rows with equal bits once more. ::

        number      |.. first bits of the hash ..|.... row ....|
    """
    row_bits = max(1, (len(id_keys) - 1).bit_length())
    numbers = np.empty(len(id_keys), dtype=np.uint64)
    low = np.uint64((1 << row_bits) - 1)
    for first in range(0, len(numbers), _BLOCK):
        part = _order_hash(seed, epoch, id_keys[first : first + _BLOCK])
        rows = np.arange(first, first + len(part), dtype=np.uint64)
        numbers[first : first + _BLOCK] = (part & ~low) | rows
    numbers.sort()
    tied = _tied_places(numbers, np.uint64(row_bits))
    groups = numbers[tied] >> np.uint64(row_bits)
    order = np.bitwise_and(numbers, low, out=numbers).view(np.int64)
    rows = order[tied]
    order[tied] = rows[np.lexsort((rows, _order_hash(seed, epoch, id_keys[torch.from_numpy(rows)]), groups))]
    return torch.from_numpy(order)


def _order_hash(seed: int, epoch: int, id_keys: Tensor) -> np.ndarray:
    """Return (N,) uint64 in the order of the signed hashes."""
    hashes: np.ndarray = splitmix64(clip_key(seed, epoch, id_keys) ^ _purpose_key("order")).numpy()
    return hashes.view(np.uint64) ^ np.uint64(1 << 63)


def _tied_places(numbers: np.ndarray, row_bits: np.uint64) -> np.ndarray:
    """Return the places whose first bits are those of the number before or after."""
    found = [np.empty(0, dtype=np.int64)]
    for first in range(0, len(numbers), _BLOCK):
        bits = numbers[max(0, first - 1) : first + _BLOCK] >> row_bits
        found.append(np.flatnonzero(bits[1:] == bits[:-1]) + max(0, first - 1))
    before = np.concatenate(found)
    return np.union1d(before, before + 1)
