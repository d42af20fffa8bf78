"""How a sound over time and a picture over time meet: moment by moment, and head by head.

Both are of one stretch of time, a picture of T cells and a sound of S steps. Of the two, the finer in
time has the moments, and the other lasts over several of them::

    sound, 6 steps      | 0 | 1 | 2 | 3 | 4 | 5 |
    picture, 3 cells    |   0   |   1   |   2   |
    moments             | 0 | 1 | 2 | 3 | 4 | 5 |   6: sound 0 1 2 3 4 5, picture 0 0 1 1 2 2

One step is the sound as a whole, and one cell the picture as a whole: they belong to every moment.

Dimensions: D channels, K heads of D / K channels each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.errors import InputError


def matched_moments(num_cells: int, num_steps: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
    """Which cell is seen and which step is heard at each moment.

    Args:
        num_cells: T, > 0.
        num_steps: S, > 0.
        device: Of the result.

    Returns:
        (L,) int64 twice, ascending, with L = max(T, S): the cell and the step in the middle of each moment.
    """
    number = torch.arange(max(num_cells, num_steps), device=device)
    # In whole numbers: floor((l + 1/2) * T / L), where a float could fall on the wrong side.
    cell, step = ((2 * number + 1) * count // (2 * len(number)) for count in (num_cells, num_steps))
    return cell, step


def mean_by_cell(values: Tensor, cell: Tensor, num_cells: int) -> Tensor:
    """(L, ...) values of the moments to (T, ...): the mean over the moments of each cell."""
    sums = values.new_zeros(num_cells, *values.shape[1:]).index_add(0, cell, values)
    return sums / cell.bincount(minlength=num_cells).view(-1, *[1] * (values.ndim - 1))


def unit_heads(values: Tensor, num_heads: int) -> Tensor:
    """(B, D, ...) to (B, K, D / K, ...) float32: unit vectors within each head, 0 where there is none.

    Raises:
        ValueError: If D is no multiple of K.
    """
    check_heads(values.shape[1], num_heads)
    return F.normalize(values.float().unflatten(1, (num_heads, -1)), dim=2)


def check_heads(num_channels: int, num_heads: int) -> None:
    """Raises ValueError unless the channels split into heads of one size."""
    if num_heads < 1 or num_channels % num_heads:
        raise InputError(
            f"num_heads ({num_heads}) must be at least 1 and divide the embedding size ({num_channels}) evenly."
        )
