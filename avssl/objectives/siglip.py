"""Sigmoid loss: binary classification of every pair of the batch.

Source: Zhai et al., ICCV 2023 (SigLIP), https://arxiv.org/abs/2303.15343, algorithm 1. The loss
has no sum over the batch inside a logarithm, so blocks of pairs are independent. Scale and offset are
learned; they start at 10 and -10, as almost all pairs are negatives.

Dimensions: B clips on this rank, R of them in a block, N clips over all ranks, D embedding size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.distributed import gather_together, own_rows
from avssl.core.errors import InputError
from avssl.core.needs import ObjectiveNeeds
from avssl.core.ranges import Count, Positive, PositiveOrZero, Signed, checked
from avssl.objectives.equivariance import with_equivariance
from avssl.objectives.objective import Objective
from avssl.objectives.scores import check_chunk_size, check_pair, own_columns


def sigmoid_loss(
    video: Tensor, audio: Tensor, scale: float | Tensor, bias: float | Tensor, *, chunk_size: Count | None = None
) -> Tensor:
    """Return the sum over all N audios, mean over videos, of ``-log sigmoid(±(scale * cosine + bias))``.

    The sign is + for a video's own audio and - for any other.

    Args:
        video: ``(B, D)`` projections of any scale; normalized here.
        audio: ``(B, D)`` projections of the same clips in the same order.
        scale: Inverse temperature, > 0; ``()`` if it is learned.
        bias: Offset of every logit; ``()`` if it is learned.
        chunk_size: Rows of the logits that exist at a time; None for all. The result is equal up to float32 rounding.

    Returns:
        ``()`` float32. With several ranks it is the mean over this rank's videos, and the mean over
        ranks is the global loss.

    Raises:
        ValueError: If the shapes do not agree, or ``chunk_size`` is below 1.

    Example:
        >>> sigmoid_loss(torch.ones(4, 8), torch.ones(4, 8), scale=10.0, bias=-10.0)  # every logit is 0: 4 log 2
        tensor(2.7726)
    """
    return sigmoid_loss_and_terms(video, gather_together(audio)[0], scale, bias, chunk_size)[0]


@checked
class SigLIP(Objective):
    """:func:`sigmoid_loss` over the global batch, with the model's learned scale and offset.

    Args:
        chunk_size: Rows of the score matrix that exist at a time, to save memory with large batches; None computes all
            rows at once.
        initial_scale: Initial value of the learned scale of the logits, in (0, 100].
        initial_bias: Initial value of their learned offset.
        equivariant: Weight of the equivariant term, as in InfoNCE, at the initial scale.

    Terms: ``loss``; ``accuracy_v2a``, how often a video's own audio has the highest score;
    ``cosine_positive`` and ``cosine_negative``; ``temperature`` and ``bias`` as learned so far.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, scale, bias = torch.arange(4), torch.tensor(10.0), torch.tensor(-10.0)
        >>> clips = avssl.Embeddings(torch.eye(4), torch.eye(4), logit_scale=scale, logit_bias=bias)
        >>> SigLIP()(clips, None, BatchIndex(row, row, row)).total  # log 2 + 3 log(1 + exp(-10))
        tensor(0.6933)
    """

    def __init__(
        self,
        chunk_size: Count | None = None,
        initial_scale: Positive = 10.0,
        initial_bias: Signed = -10.0,
        equivariant: PositiveOrZero = 0.0,
    ) -> None:
        super().__init__()
        check_chunk_size(chunk_size)
        self.chunk_size = chunk_size
        self.equivariant, self.temperature = equivariant, 1 / initial_scale
        self.needs = self.needs_of(
            {"initial_scale": initial_scale, "initial_bias": initial_bias, "equivariant": equivariant}
        )

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(
            logit_scale=options["initial_scale"],
            logit_bias=options["initial_bias"],
            originals=options["equivariant"] > 0,
        )

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        """Return the loss and its terms; ``target`` is not used.

        Raises:
            ValueError: If there is more than one view of a clip, or the model learns no scale and offset.
        """
        self.check_views(online, index)
        scale, bias = online.logit_scale, online.logit_bias
        if scale is None or bias is None:
            raise InputError(
                "SigLIP needs Embeddings.logit_scale and logit_bias: give the model logits=LogitScale("
                f"{self.needs.logit_scale:g}, {self.needs.logit_bias:g})."
            )
        (audios,) = gather_together(online.audio)
        total, terms = sigmoid_loss_and_terms(online.video, audios, scale, bias, self.chunk_size)
        learned = {"temperature": 1 / scale.detach(), "bias": bias.detach()}
        result = LossTerms(total, {"loss": total.detach(), **terms, **learned})
        return with_equivariance(result, online, self.equivariant, self.temperature)


def sigmoid_loss_and_terms(
    video: Tensor, audios: Tensor, scale: float | Tensor, bias: float | Tensor, chunk_size: int | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return :func:`sigmoid_loss` from the (N, D) audio of all ranks; accuracy and mean cosines as detached terms."""
    check_pair(video, own_rows(audios))
    check_chunk_size(chunk_size)
    with torch.autocast(video.device.type, enabled=False):
        rows, columns = F.normalize(video.float(), dim=1), F.normalize(audios.float(), dim=1)
        own = own_columns(len(rows), rows.device)
        numbers = [torch.as_tensor(x, dtype=torch.float32, device=rows.device) for x in (scale, bias)]
        loss, accuracy = _BlockedSigmoid.apply(rows, columns, *numbers, own, chunk_size or len(rows))
        with torch.no_grad():
            positive = (rows * columns[own]).sum(dim=1)
            others = (rows @ columns.sum(dim=0) - positive) / max(1, len(columns) - 1)
    return loss, {"accuracy_v2a": accuracy, "cosine_positive": positive.mean(), "cosine_negative": others.mean()}


class _BlockedSigmoid(torch.autograd.Function):
    """Value and gradient in one pass over each block, as in ``blocked.py``."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, columns: Tensor, scale: Tensor, bias: Tensor, own: Tensor, chunk_size: int
    ) -> tuple[Tensor, Tensor]:
        needs_grad = any(ctx.needs_input_grad[:4])
        losses, correct = rows.new_empty(len(rows)), rows.new_empty(len(rows))
        grad_rows, grad_columns = torch.zeros_like(rows), torch.zeros_like(columns)
        grad_bias = rows.new_zeros(())
        for start in range(0, len(rows), chunk_size):
            here = slice(start, start + chunk_size)
            block, place = rows[here], own[here, None]
            logits = torch.addmm(bias, block * scale, columns.T)
            positive = logits.gather(1, place)
            correct[here] = (logits.argmax(dim=1) == own[here]).float()
            # The positive is separate: softplus(z) - z would cancel a small softplus(-z).
            others = logits.scatter_(1, place, -torch.inf)
            losses[here] = F.softplus(others).sum(dim=1) + F.softplus(-positive).squeeze(1)
            if needs_grad:
                slope = others.sigmoid_().scatter_(1, place, -(-positive).sigmoid())
                grad_rows[here] = slope @ columns
                grad_columns.addmm_(slope.T, block)
                grad_bias += slope.sum()
        if needs_grad:
            grad_scale = (grad_rows * rows).sum()
            saved = (grad_rows.mul_(scale), grad_columns.mul_(scale), grad_scale, grad_bias)
            ctx.save_for_backward(*(gradient.div_(len(rows)) for gradient in saved))
        accuracy = correct.mean()
        ctx.mark_non_differentiable(accuracy)
        return losses.mean(), accuracy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return *(gradient * saved for saved in ctx.saved_tensors), None, None
