"""Exclusion of false negatives from the batch.

False negatives are common in video: two windows of one file, a clip uploaded twice, two clips of the same drum.
Excluding the most similar share of the negatives follows Huynh et al., 2020, https://arxiv.org/abs/2011.11765, and Wu
et al., 2020, https://arxiv.org/abs/2010.02037, which keep a band of difficulties.

Dimensions: B rows of this rank, R of them in a block, N columns over all ranks, D embedding size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.distributed import world_size
from avssl.core.errors import InputError
from avssl.objectives.scores import own_columns


@dataclass(frozen=True)
class Exclusion:
    """The rule of exclusion; the default excludes nothing.

    Raises:
        ValueError: If a number is out of range.
    """

    same_file: bool = False
    """Columns of the row's own source file (``BatchIndex.group``)."""
    near_duplicates: float | None = None
    """Columns whose own embedding has a higher cosine than this, in (0, 1], with that of the row's positive."""
    hardest: float = 0.0
    """Share of the N - 1 negatives, in [0, 1), rounded down: those with the highest scores of what is left."""

    def __post_init__(self) -> None:
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise InputError(f"exclude_near_duplicates ({self.near_duplicates}) must be a cosine in (0, 1], or None.")
        if not 0 <= self.hardest < 1:
            raise InputError(f"exclude_hardest ({self.hardest}) must be a share of the negatives in [0, 1).")

    def __bool__(self) -> bool:
        return self.same_file or self.near_duplicates is not None or self.hardest > 0

    def among(self, targets: Tensor, groups: Tensor) -> ExcludedColumns | None:
        """Return the exclusion for one batch and one direction.

        Args:
            targets: (N, D) embeddings of the columns of all ranks, of any scale.
            groups: (N,) int64 source files of the clips of all ranks; used by ``same_file`` only.
        """
        if not self:
            return None
        unit = None
        if self.near_duplicates is not None:
            with torch.no_grad(), torch.autocast(targets.device.type, enabled=False):
                unit = F.normalize(targets.detach().float(), dim=1)
        own = own_columns(len(targets) // world_size(), targets.device)
        return ExcludedColumns(self, own, len(targets), groups if self.same_file else None, unit)


@dataclass(frozen=True)
class ExcludedColumns:
    """An :class:`Exclusion` with the tensors it compares."""

    exclusion: Exclusion
    own: Tensor
    """(B,) int64: the column of each row's positive, which is never excluded."""
    num_clips: int
    """N."""
    groups: Tensor | None
    """(N,) int64 source files."""
    targets: Tensor | None
    """(N, D) unit vectors."""

    def mask(self, scores: Tensor, start: int = 0) -> Tensor:
        """Return the (R, N + M) bool mask of excluded columns in the rows ``start`` ... ``start + R``.

        Args:
            scores: (R, N + M) detached scores of these rows; the M columns of no clip are never excluded.
            start: First of these rows on this rank.
        """
        num_others = scores.shape[1] - self.num_clips
        scores = scores[:, : self.num_clips]
        own = self.own[start : start + len(scores)]
        excluded = torch.zeros_like(scores, dtype=torch.bool)
        if self.groups is not None:
            excluded |= self.groups[own][:, None] == self.groups
        if self.targets is not None and self.exclusion.near_duplicates is not None:
            excluded |= self.targets[own] @ self.targets.T > self.exclusion.near_duplicates
        excluded.scatter_(1, own[:, None], False)
        num_hardest = int(self.exclusion.hardest * (scores.shape[1] - 1))
        if num_hardest:
            left = scores.masked_fill(excluded, -torch.inf).scatter_(1, own[:, None], -torch.inf)
            excluded.scatter_(1, left.topk(num_hardest, dim=1).indices, True)
            # If fewer negatives are left, topk may have chosen the positive among the -inf.
            excluded.scatter_(1, own[:, None], False)
        return F.pad(excluded, (0, num_others))
