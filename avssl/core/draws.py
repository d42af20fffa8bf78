"""Random numbers of a clip, as pure functions of a key.

A random number depends only on (seed, epoch, id, clip number, purpose): not on the position in
the batch, the rank, the number of workers or the state of a generator. Exact resume, "two ranks
equal one process" and "forward changes nothing" follow from it.

The mixing function is SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), written with wrapping int64
arithmetic so that it runs vectorized on any torch device and gives the same bits everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import cache

import numpy as np
import torch
from torch import Tensor

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
    return _signed(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def text_keys(texts: Iterable[str]) -> Tensor:
    """Return (N,) int64, the :func:`text_key` of each text; a million in a second."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return torch.from_numpy(np.frombuffer(digests, "<i8").astype(np.int64))


_purpose_key = cache(text_key)  # purposes are few; ids are not


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
    lane = torch.arange(count, device=key.device, dtype=torch.int64)
    root = splitmix64(key ^ _purpose_key(purpose))
    return splitmix64(root[:, None] ^ splitmix64(lane)[None])


def uniform(key: Tensor, purpose: str, count: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return (B, count) float64, uniform in [low, high), from (B,) int64 keys."""
    unit = _shift_right(bits(key, purpose, count), 11).double().mul_(2.0**-53)
    return unit.mul_(high - low).add_(low)


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


def epoch_order(seed: int, epoch: int, id_keys: Tensor) -> Tensor:
    """Return the (N,) int64 order of the rows in an epoch: rows sorted by a hash of their ids.

    Adding or dropping rows does not change the relative order of the others.
    """
    return torch.argsort(splitmix64(clip_key(seed, epoch, id_keys) ^ text_key("order")), stable=True)
