"""Align the time axes of audio and video, and split embeddings into heads.

Both cover the same time: video in T cells, audio in S steps. The moments are those of the finer one, and each
cell or step of the coarser one covers several::

    audio, 6 steps    | 0 | 1 | 2 | 3 | 4 | 5 |
    video, 3 cells    |   0   |   1   |   2   |
    moments           | 0 | 1 | 2 | 3 | 4 | 5 |   6: steps 0 1 2 3 4 5, cells 0 0 1 1 2 2

A single step or cell belongs to every moment.

Dimensions: D channels, K heads of D / K channels each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from avssl.core.errors import InputError


def matched_moments(num_cells: int, num_steps: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Return the (L,) int64 cell and step in the middle of each moment, ascending; L = max(num_cells, num_steps)."""
    length = max(num_cells, num_steps)
    return at_moments(num_cells, length, device), at_moments(num_steps, length, device)


def at_moments(count: int, num_moments: int, device: torch.device | None = None) -> Tensor:
    """Return the (L,) int64 cell or step, of ``count`` ones, in the middle of each of L moments, ascending."""
    # floor((l + 1/2) * T / L) in integers, as rounding a float could go wrong.
    return (2 * torch.arange(num_moments, device=device) + 1) * count // (2 * num_moments)


def steps_by_cell(num_cells: int, num_steps: int) -> list[slice]:
    """Return the steps of each cell's moments, a range of neighbors: :func:`matched_moments` without a device."""
    number = range(max(num_cells, num_steps))
    cell, step = ([(2 * x + 1) * count // (2 * len(number)) for x in number] for count in (num_cells, num_steps))
    moments = [[x for x in number if cell[x] == place] for place in range(num_cells)]
    return [slice(step[own[0]], step[own[-1]] + 1) for own in moments]


def mean_by_cell(values: Tensor, cell: Tensor, num_cells: int) -> Tensor:
    """Average (L, ...) values of moments over the moments of each cell: (T, ...)."""
    sums = values.new_zeros(num_cells, *values.shape[1:]).index_add(0, cell, values)
    counts = values.new_zeros(num_cells).index_add(0, cell, values.new_ones(len(cell)))
    return sums / counts.view(-1, *[1] * (values.ndim - 1))


def unit_heads(values: Tensor, num_heads: int) -> Tensor:
    """Split (B, D, ...) into (B, K, D / K, ...) float32 unit vectors, one per head; zero vectors stay 0.

    Raises:
        ValueError: If D is not a multiple of K.
    """
    check_heads(values.shape[1], num_heads)
    return F.normalize(rearrange(values.float(), "b (k d) ... -> b k d ...", k=num_heads), dim=2)


def unit_instants(values: Tensor) -> Tensor:
    """Return (B, T, D) float32 unit vectors of each time of a (B, D, T) or (B, D, T, H, W) map, the mean over space."""
    by_time = values.float() if values.ndim == 3 else values.float().mean(dim=(3, 4))
    return F.normalize(by_time.transpose(1, 2), dim=2)


def check_heads(num_channels: int, num_heads: int) -> None:
    """Raise ValueError unless the channels split evenly into heads."""
    if num_heads < 1 or num_channels % num_heads:
        raise InputError(
            f"num_heads ({num_heads}) must be at least 1 and divide the embedding size ({num_channels}) evenly."
        )
