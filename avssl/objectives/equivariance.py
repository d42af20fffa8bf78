"""Equivariant term of contrastive objectives: clips are told apart by their augmentation too.

Source: Kim et al., ICML 2024 (EquiAV), https://arxiv.org/abs/2403.09502, section 3.2: NT-Xent of SimCLR,
https://arxiv.org/abs/2002.05709, eq. 1, between predicted and true embeddings of augmented clips.

Dimensions: B clips on this rank, N clips over all ranks, D embedding size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import Embeddings, LossTerms
from avssl.core.distributed import gather_together, own_rows
from avssl.core.errors import InputError
from avssl.objectives.scores import check_pair, check_temperature, own_columns


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Return the mean cross-entropy of each row among all other 2 N - 1 rows, in nats.

    Args:
        first: (B, D) embeddings of any scale; normalized here.
        second: (B, D) embeddings of the same clips in the same order.
        temperature: Softmax temperature, > 0.

    Returns:
        ``()`` float32, also under autocast; ``log(2 N - 1)`` when all embeddings coincide.

    Raises:
        ValueError: If the shapes differ, or ``temperature`` is not above 0.

    Example:
        >>> nt_xent(torch.ones(3, 8), torch.ones(3, 8), temperature=0.5)  # log(2 * 3 - 1)
        tensor(1.6094)
    """
    return _nt_xent(*gather_together(first, second), temperature=temperature)


def _nt_xent(firsts: Tensor, seconds: Tensor, *, temperature: float) -> Tensor:
    """Return :func:`nt_xent` from the (N, D) embeddings of all ranks."""
    check_pair(firsts, seconds)
    check_temperature(temperature)
    with torch.autocast(firsts.device.type, enabled=False):
        columns = [F.normalize(x.float(), dim=1) for x in (firsts, seconds)]
        sides = [own_rows(x) for x in columns]
        own = own_columns(len(sides[0]), firsts.device)
        losses = []
        for rows, same, other in zip(sides, columns, reversed(columns), strict=True):
            among_same = (rows @ same.T).scatter(1, own[:, None], -torch.inf)  # no row is its own negative
            losses.append(F.cross_entropy(torch.cat([rows @ other.T, among_same], dim=1) / temperature, own))
        return (losses[0] + losses[1]) / 2


def with_equivariance(result: LossTerms, online: Embeddings, weight: float, temperature: float) -> LossTerms:
    """Add the equivariant terms of both modalities to a loss; a weight of 0 returns it as it is.

    Raises:
        ValueError: If the embeddings hold no predicted augmentation.
    """
    if not weight:
        return result
    if online.video_augmented is None or online.audio_augmented is None:
        raise InputError(
            f"equivariant ({weight:g}) needs Embeddings.video_augmented and audio_augmented: give the transform "
            "originals=True and the model equivariant_branches."
        )
    pairs = online.video_augmented, online.audio_augmented
    everyone = gather_together(*(x for pair in pairs for x in (pair.predicted, pair.true)))
    video, audio = (_nt_xent(*sides, temperature=temperature) for sides in (everyone[:2], everyone[2:]))
    total = result.total + weight * (video + audio) / 2
    terms = {
        **result.terms,
        "loss": total.detach(),
        "loss_equivariant_video": video.detach(),
        "loss_equivariant_audio": audio.detach(),
    }
    return LossTerms(total, terms)
