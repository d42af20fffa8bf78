"""Finer maps from the same weights, by removing the spatial stride of the last stages.

A cell of a localization map then stands for fewer pixels: LVS (Chen et al., CVPR 2021,
https://arxiv.org/abs/2104.02691) has 14 x 14 cells of 224 pixels from a ResNet-18 without the stride of
its last stage. Convolutions behind it have half the receptive field, unless they are dilated (Yu,
Koltun and Funkhouser, CVPR 2017, https://arxiv.org/abs/1705.09914): every second cell then equals a cell of the
network with its stride, so weights trained with the stride, such as ImageNet's, remain valid.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from avssl.core.errors import InputError


def refine_map(stages: Sequence[nn.Module], own_stride: int, stride: int | None = None, dilated: bool = False) -> None:
    """Change the convolutions of a network's last two stages in place; no weight changes shape.

    Args:
        stages: All stages from input to output, of which the last two halve height and width. Convolutions
            are registered in the order of computation.
        own_stride: Pixels per cell of the unchanged network.
        stride: Pixels per cell to set: ``own_stride``, a half or a quarter of it; None keeps the network unchanged.
        dilated: Dilate the convolutions behind a removed stride, which keeps their receptive field.

    Raises:
        ValueError: If ``stride`` is another number, or there is nothing to dilate.
    """
    allowed = (own_stride, own_stride // 2, own_stride // 4)
    if stride is not None and stride not in allowed:
        raise InputError(f"stride ({stride}) must be {allowed[0]}, {allowed[1]} or {allowed[2]} pixels a cell.")
    num_stages = allowed.index(stride or own_stride)
    if dilated and not num_stages:
        raise InputError(
            f"dilated needs a stride of {allowed[1]} or {allowed[2]}: at the network's own, {own_stride}, "
            "there is nothing to dilate."
        )
    dilation = 1
    for stage in stages[len(stages) - num_stages :]:
        for module in stage.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                dilation *= _refine(module, dilation, dilated)


def _refine(conv: nn.Conv2d | nn.Conv3d, dilation: int, dilated: bool) -> int:
    """Set a convolution's spatial stride to 1; return the further dilation of those behind it."""
    is_spatial = conv.kernel_size[-1] > 1
    if is_spatial and dilation > 1:
        assert not isinstance(conv.padding, str), "padding is given in cells"
        conv.dilation = (*conv.dilation[:-2], dilation, dilation)
        conv.padding = (*conv.padding[:-2], *(cells * dilation for cells in conv.padding[-2:]))
    if conv.stride[-1] == 1:
        return 1
    removed = conv.stride[-1]
    conv.stride = (*conv.stride[:-2], 1, 1)
    return removed if is_spatial and dilated else 1
