"""Loss of predicted patches, for pixels and for latents.

Source: He et al., CVPR 2022 (MAE), https://arxiv.org/abs/2111.06377: mean squared error on the masked patches only,
with each patch of the target standardized by its own mean and variance.

Dimensions: N clips of this rank, L patches of a clip, P numbers of a patch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.core import distributed
from avssl.core.errors import InputError

_EPSILON = 1e-6


def masked_patch_loss(
    prediction: Tensor, target: Tensor, mask: Tensor, normalize: bool = True, *, count: Tensor | None = None
) -> Tensor:
    """Return the mean squared error over the masked patches.

    Args:
        prediction: ``(N, L, P)``.
        target: ``(N, L, P)``.
        mask: ``(N, L)`` bool; True for patches that count.
        normalize: Standardize each patch of the target, by its unbiased variance plus 1e-6.
        count: () from :func:`masked_counts`, where several losses share one exchange between ranks.

    Returns:
        ``()`` float32; 0 if no patch is masked. With several ranks, the mean over ranks is the mean over the masked
        patches of all of them.

    Raises:
        ValueError: If the shapes do not agree, or the mask is not bool.

    Example:
        >>> target, mask = torch.tensor([[[1.0, 2, 3], [9, 9, 9]]]), torch.tensor([[True, False]])  # two patches
        >>> masked_patch_loss(torch.zeros(1, 2, 3), target, mask, normalize=False)  # (1 + 4 + 9) / 3
        tensor(4.6667)
    """
    if prediction.ndim != 3 or prediction.shape != target.shape or mask.shape != prediction.shape[:2]:
        raise InputError(
            "prediction and target must be (N, L, P) and mask (N, L), got "
            f"{tuple(prediction.shape)}, {tuple(target.shape)} and {tuple(mask.shape)}."
        )
    if not str(mask.dtype) == "torch.bool":
        raise InputError(f"mask must be bool, True for patches that count, got {mask.dtype}.")
    prediction, target = prediction.float(), target.float()
    if normalize:
        if target.shape[2] < 2:
            raise InputError("a patch of a single number has no variance: normalize=False, or larger patches.")
        variance = target.var(dim=2, keepdim=True)
        target = (target - target.mean(dim=2, keepdim=True)) / (variance + _EPSILON).sqrt()
    each = (prediction - target).square().mean(dim=2)  # (N, L)
    total = each.masked_fill(~mask, 0).sum()
    if count is None:
        (count,) = masked_counts(mask)
    return total / count


def masked_counts(*masks: Tensor) -> Tensor:
    """Return the mean over ranks of the number of True values in each mask, at least one over all ranks."""
    counts = torch.stack([mask.sum().float() for mask in masks])
    return distributed.mean(counts).clamp(min=1 / distributed.world_size())
