"""Softmax over all pairs of a batch without storing all pairs.

The (B, N) logits and their softmax are computed in blocks of rows, and each block adds to the gradient of
the embeddings while it exists. So nothing is computed twice and memory grows with N, not with B * N. Gao
et al., 2021 (GradCache, https://arxiv.org/abs/2101.06983) do this for the encoders, and Cheng et al., 2024
(Inf-CL, https://arxiv.org/abs/2410.17243) for the loss, with a custom kernel.

Dimensions: B rows of this rank, R of them in a block, N columns over all ranks, M more columns that are not
candidates, D embedding size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from avssl.objectives.exclusion import ExcludedColumns


class RowLosses(NamedTuple):
    """Results of one direction: () tensors, means over rows."""

    loss: Tensor
    """Cross-entropy in nats, with gradient."""
    accuracy: Tensor
    """Share of rows whose positive scores above every candidate that is not excluded."""
    excluded_share: Tensor
    """Share of excluded candidates among the N - 1 besides the positive."""


def blocked_cross_entropy(
    rows: Tensor,
    columns: Tensor,
    scale: Tensor,
    own: Tensor,
    excluded: ExcludedColumns | None = None,
    *,
    chunk_size: int,
    num_others: int = 0,
) -> RowLosses:
    """Return the mean cross-entropy of ``softmax(scale * rows @ columns.T)`` at column ``own`` of each row.

    Value and gradient equal the unblocked computation up to float32 rounding.

    Args:
        rows: (B, D) float32.
        columns: (N + M, D) float32.
        scale: () float32, > 0.
        own: (B,) int64.
        excluded: Columns to leave out of each row's sum.
        chunk_size: R, >= 1.
        num_others: M, the number of last columns that are negatives in the loss but no candidates for accuracy.
    """
    num_candidates = len(columns) - num_others
    return RowLosses(*_BlockedCrossEntropy.apply(rows, columns, scale, own, excluded, chunk_size, num_candidates))


class _BlockedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        columns: Tensor,
        scale: Tensor,
        own: Tensor,
        excluded: ExcludedColumns | None,
        chunk_size: int,
        num_candidates: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        needs_grad = any(ctx.needs_input_grad[:3])
        losses, correct = rows.new_empty(len(rows)), rows.new_empty(len(rows))
        num_excluded = rows.new_zeros(())
        grad_rows, grad_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        for start in range(0, len(rows), chunk_size):
            here = slice(start, start + chunk_size)
            block, place = rows[here], own[here, None]
            logits = (block * scale) @ columns.T
            positive = logits.gather(1, place)
            if excluded is not None:
                mask = excluded.mask(logits, start)
                logits.masked_fill_(mask, -torch.inf)
                num_excluded += mask.sum()
            # The positive is separate, so that a tie with a negative does not count as correct.
            candidates = logits.scatter_(1, place, -torch.inf)[:, :num_candidates]
            hardest = candidates.amax(dim=1, keepdim=True)
            correct[here] = (positive > hardest).squeeze(1).float()
            top = torch.maximum(hardest, positive)
            if num_candidates < len(columns):
                top = torch.maximum(top, logits[:, num_candidates:].amax(dim=1, keepdim=True))
            exps = logits.sub_(top).exp_()
            own_exp = (positive - top).exp()
            total = exps.sum(dim=1, keepdim=True) + own_exp
            losses[here] = (total.log() + top - positive).squeeze(1)
            if needs_grad:
                # d loss / d logit is exps / total, and one less at the positive.
                at_own = own_exp / total - 1
                grad_rows[here] = exps @ columns / total + at_own * columns[own[here]]
                grad_columns.addmm_(exps.T, block / total).index_add_(0, own[here], at_own * block)
        if needs_grad:
            _save(ctx, rows, grad_rows, grad_columns, scale)
        shares = num_excluded / max(1, len(rows) * (num_candidates - 1))
        accuracy = correct.mean()
        ctx.mark_non_differentiable(accuracy, shares)
        return losses.mean(), accuracy, shares

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * saved for saved in ctx.saved_tensors), None, None, None, None


def _save(ctx: Any, rows: Tensor, grad_rows: Tensor, grad_columns: Tensor, scale: Tensor) -> None:
    """Save the gradients of the mean over rows from the sums of d loss / d logit times the other side."""
    grad_scale = (grad_rows * rows).sum() / len(rows)
    factor = scale / len(rows)
    ctx.save_for_backward(grad_rows.mul_(factor), grad_columns.mul_(factor), grad_scale)
