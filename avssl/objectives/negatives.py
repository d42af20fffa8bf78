"""Random negatives from a memory, drawn on the device, never of the clip's own file.

Dimensions: B clips, N rows of the memory, K negatives, E excluded rows a clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avssl.core.batch import BatchIndex
from avssl.core.draws import uniform
from avssl.core.errors import InputError


class NegativeSampler(nn.Module):
    """Draws rows uniformly, with replacement, from those of other files.

    The draw of a clip is a function of its key, so it is the same on any number of ranks and after a
    resume. There is no rejection: rows are sorted by file, numbers are drawn for the permitted rows
    only, and are shifted past the others::

        rows by file      a a a | b b | c c c c      a clip of b draws u in [0, 7)
        u                 0 1 2         3 4 5 6      place = u, or u + 2 from b's start on

    Args:
        group: (N,) int64; equal for rows of the same file.
        most_excluded: Maximum number of further rows that a draw excludes.

    Raises:
        ValueError: If no row would be left for some clip.
    """

    order: Tensor
    """(N,) int64 rows, sorted by file."""
    place: Tensor
    """(N,) int64 position of each row in ``order``."""
    start: Tensor
    """(N,) int64 start of the file of each row in ``order``."""
    size: Tensor
    """(N,) int64 number of rows of the file of each row."""

    def __init__(self, group: Tensor, most_excluded: int = 0) -> None:
        super().__init__()
        order = group.argsort(stable=True)
        _, number, counts = group.unique(return_inverse=True, return_counts=True)
        if len(group) <= int(counts.max()) + most_excluded:
            others = f" beside {most_excluded} positives" if most_excluded else ""
            raise InputError(
                f"one file holds {int(counts.max())} of the {len(group)} rows, which leaves it no negatives{others}. "
                "Add files, or cut them into fewer rows."
            )
        starts = counts.cumsum(0) - counts
        for name, value in {
            "order": order,
            "place": order.argsort(),
            "start": starts[number],
            "size": counts[number],
        }.items():
            self.register_buffer(name, value, persistent=False)  # follows from the manifest

    def draw(self, index: BatchIndex, count: int, excluded: Tensor | None = None) -> Tensor:
        """Draw negatives of each clip.

        Args:
            index: The B clips.
            count: K.
            excluded: (B, E) int64 further rows to exclude, each once; rows of the clip's own file are always excluded.

        Returns:
            (B, K) int64 rows.
        """
        start, size = self.start[index.row][:, None], self.size[index.row][:, None]
        permitted = len(self.order) - size
        gaps = None
        if excluded is not None:
            gaps, num_gaps = self._gaps(excluded, start, size)
            permitted = permitted - num_gaps
        number = (uniform(index.key, "negatives", count) * permitted).long()
        number = torch.minimum(number, permitted - 1)
        if gaps is not None:
            number = number + torch.searchsorted(gaps, number, right=True)
        return self.order[number + size * (number >= start)]

    def _gaps(self, excluded: Tensor, start: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (B, E) numbers at which a draw skips an excluded row, ascending, and their (B, 1) counts.

        Without the clip's own file, the k-th excluded position (from 0) is reached by the number
        position - k, as k positions before it are already skipped.
        """
        place = self.place[excluded]
        outside = (place < start) | (place >= start + size)
        place = torch.where(place < start, place, place - size)
        # Rows of the clip's own file go to the end, beyond all numbers.
        place = torch.where(outside, place, 2 * len(self.order)).sort(dim=1).values
        return place - torch.arange(place.shape[1], device=place.device), outside.sum(dim=1, keepdim=True)
