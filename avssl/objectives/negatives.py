"""Negatives from a memory: drawn on the device, never of the clip's own file.

Dimensions: B clips, N rows of the memory, K negatives, E excluded rows a clip.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avssl.core.batch import BatchIndex
from avssl.core.draws import uniform
from avssl.core.errors import InputError


class NegativeSampler(nn.Module):
    """Draws rows uniformly, with replacement, among those of other files.

    What is drawn for a clip is a function of its key, and so the same on any number of ranks and
    after a resume. Nothing is drawn twice to be thrown away: rows are kept sorted by file, numbers
    are drawn for the permitted rows alone, and are shifted past those that are not::

        rows by file      a a a | b b | c c c c      a clip of b draws u in [0, 7)
        u                 0 1 2         3 4 5 6      place = u, or u + 2 from b's start on

    Args:
        group: (N,) int64; equal for rows of the same file.
        most_excluded: Further rows that a draw may have to leave out.

    Raises:
        ValueError: If for some clip no row would be left.
    """

    order: Tensor
    """(N,) int64 rows, sorted by file."""
    place: Tensor
    """(N,) int64: where each row is in ``order``."""
    start: Tensor
    """(N,) int64: where the file of each row begins in ``order``."""
    size: Tensor
    """(N,) int64: rows of the file of each row."""

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
        """Negatives of each clip.

        Args:
            index: The B clips.
            count: K.
            excluded: (B, E) int64 rows to leave out too, each once; those of the clip's own file
                are left out anyway.

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
        """(B, E) numbers at which a draw steps over an excluded row, ascending, and how many (B, 1) there are.

        With the clip's own file taken out, the k-th excluded place (from 0) is met by what was drawn
        as place - k, as k places before it are stepped over already.
        """
        place = self.place[excluded]
        outside = (place < start) | (place >= start + size)
        place = torch.where(place < start, place, place - size)
        # Rows of the clip's own file go to the end, where nothing is drawn.
        place = torch.where(outside, place, 2 * len(self.order)).sort(dim=1).values
        return place - torch.arange(place.shape[1], device=place.device), outside.sum(dim=1, keepdim=True)
