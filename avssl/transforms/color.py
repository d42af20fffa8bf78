"""Color jitter of a whole batch, with factors and an order of operations for each clip.

Brightness, contrast and saturation each blend the image with its gray image and the mean of that, so at every position
in the order one blend with per-clip weights serves all clips. Hue is not a blend; it is computed once, between the
blends that come before and after it in each clip's order. So neither the order nor the factors leave the device.

Every operation equals that of torchvision.transforms.v2.functional on float images in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avssl.core.draws import uniform
from avssl.core.errors import InputError

_LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, to torchvision's digits
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE = range(4)
OPERATIONS = ("brightness", "contrast", "saturation", "hue")
NEUTRAL = (1.0, 1.0, 1.0, 0.0)
"""Factors that change nothing, of each operation."""


@dataclass(frozen=True)
class JitterOptions:
    """Random factors and order of the operations for each clip."""

    factors: Tensor
    """(B, 4) float32: brightness, contrast and saturation factors (1 changes nothing) and the hue
    shift in turns (0 changes nothing)."""
    order: Tensor
    """(B, N) int64: the N operations in use, as indices of ``OPERATIONS``, first to last."""

    def __getitem__(self, clips: slice) -> JitterOptions:
        return JitterOptions(self.factors[clips], self.order[clips])


def blend(video: Tensor, image_weight: Tensor, gray_weight: Tensor, mean_weight: Tensor) -> Tensor:
    """Compute ``image_weight * video + gray_weight * gray + mean_weight * mean(gray)``, clamped to [0, 1], in place.

    (f, 0, 0) is brightness f, (f, 0, 1 - f) contrast f, (f, 1 - f, 0) saturation f.

    Args:
        video: (B, 3, T, H, W) float32 in [0, 1]; overwritten.
        image_weight: (B,) float32 weight of the image.
        gray_weight: (B,) float32 weight of the gray image.
        mean_weight: (B,) float32 weight of the mean of the gray image.

    Returns:
        ``video``.
    """
    image_weight, gray_weight, mean_weight = (w.view(-1, 1, 1, 1) for w in (image_weight, gray_weight, mean_weight))
    red, green, blue = video.unbind(1)
    gray = (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])  # (B, T, H, W)
    frame_mean = gray.mean(dim=(2, 3), keepdim=True)
    gray.mul_(gray_weight).add_(mean_weight * frame_mean)
    return video.mul_(image_weight[:, None]).add_(gray[:, None]).clamp_(0, 1)


def shift_hue(video: Tensor, turns: Tensor) -> Tensor:
    """Shift the hue of each clip, keeping HSV saturation and value, in place.

    Args:
        video: (B, 3, T, H, W) float32 in [0, 1]; overwritten.
        turns: (B,) float32 in [-0.5, 0.5]; 1 would be the whole color circle.

    Returns:
        ``video``, or a new tensor in a compiled program.
    """
    red, green, blue = video.unbind(1)
    low = torch.minimum(torch.minimum(red, green), blue)
    value = torch.maximum(torch.maximum(red, green), blue)
    is_red, is_green = value == red, value == green
    chroma = value - low
    difference = torch.where(is_red, green - blue, torch.where(is_green, blue - red, red - green))
    sixth = torch.where(is_red, 0.0, torch.where(is_green, 2.0, 4.0))
    # A gray pixel has difference and chroma 0: its hue is arbitrary and unused below.
    hue = difference.div_(chroma.clamp(min=1e-12)).add_(sixth).div_(6).add_(turns.view(-1, 1, 1, 1))
    hue = hue.sub_(hue.floor()).mul_(6)  # in [0, 6]: red, yellow, green, cyan, blue, magenta, red
    # Fraction of the chroma in each channel: a trapezoid over the hue, around red (as 1 - cyan's), green and blue.
    shares = (
        (hue - peak).abs_().mul_(sign).add_(level).clamp_(0, 1)
        for peak, sign, level in ((3, 1, -1), (2, -1, 2), (4, -1, 2))
    )
    if torch.compiler.is_compiling():  # a program writes no part of a tensor by itself
        return torch.stack([torch.addcmul(low, share, chroma) for share in shares], dim=1)
    for channel, share in enumerate(shares):
        torch.addcmul(low, share, chroma, out=video.select(1, channel))
    return video


class ColorJitter(nn.Module):
    """Random brightness, contrast, saturation and hue, the same for all frames of a clip, in random order.

    Args:
        brightness: Factors are uniform in [max(0, 1 - brightness), 1 + brightness]; >= 0.
        contrast: The same for contrast.
        saturation: The same for saturation.
        hue: Shifts are uniform in [-hue, hue] turns of the color circle; in [0, 0.5].
        probability: Share of the clips that change, in [0, 1].

    An operation of strength 0 is skipped.

    Raises:
        ValueError: If a strength is out of range.

    Example:
        >>> jitter = ColorJitter(brightness=0.4, contrast=0.0, saturation=0.0, hue=0.0)
        >>> options = jitter.draw(torch.arange(8))  # random keys of eight clips
        >>> bool(((options.factors[:, 0] - 1).abs() <= 0.4).all())
        True
        >>> jitter(torch.rand(8, 3, 2, 32, 32), options).shape
        torch.Size([8, 3, 2, 32, 32])
    """

    neutral: Tensor
    low: Tensor
    width: Tensor
    operation: Tensor

    def __init__(self, brightness: float, contrast: float, saturation: float, hue: float, probability: float = 1.0):
        super().__init__()
        strengths = (brightness, contrast, saturation, hue)
        for name, strength in zip(OPERATIONS, strengths, strict=True):
            if strength < 0 or (name == "hue" and strength > 0.5):
                accepted = "in [0, 0.5]" if name == "hue" else ">= 0"
                raise InputError(f"{name} ({strength}) must be {accepted}; 0 leaves it out.")
        self.probability = probability
        self.operations = [i for i, strength in enumerate(strengths) if strength > 0 and probability > 0]
        # Buffers, because a tensor made of Python numbers on a GPU lets the host wait for it.
        neutral = torch.tensor(NEUTRAL, dtype=torch.float64)
        low = neutral - torch.tensor(strengths, dtype=torch.float64)
        low[:_HUE].clamp_(min=0)
        self.register_buffer("neutral", neutral, persistent=False)
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("width", neutral + torch.tensor(strengths, dtype=torch.float64) - low, persistent=False)
        self.register_buffer("operation", torch.tensor(self.operations, dtype=torch.int64), persistent=False)

    def draw(self, key: Tensor, view: int = 0) -> JitterOptions:
        """Draw the factors and the order of each clip from (B,) int64 keys."""
        factors = self.low + self.width * uniform(key, f"jitter/{view}", 4)
        if self.probability < 1:
            chance = uniform(key, f"jitter chance/{view}", 1)
            factors = torch.where(chance < self.probability, factors, self.neutral)
        # Sorting four random numbers orders the operations; leaving some out keeps the order of the others uniform.
        order = uniform(key, f"jitter order/{view}", 4)[:, self.operation].argsort(dim=1)
        return JitterOptions(factors.float(), self.operation[order])

    def forward(self, video: Tensor, options: JitterOptions) -> Tensor:
        """Apply ``options`` to (B, 3, T, H, W) float32 in [0, 1], in place."""
        order = options.order
        if _HUE not in self.operations:
            for weights in _blend_weights(options, order):
                blend(video, *weights)
            return video
        # The blends before the hue of each clip, then those behind it; nothing in the places of the others.
        place = torch.arange(order.shape[1], device=order.device)
        hue_place = (order == _HUE).int().argmax(dim=1, keepdim=True)
        for weights in _blend_weights(options, order.masked_fill(hue_place <= place, _HUE)[:, :-1]):
            blend(video, *weights)
        video = shift_hue(video, options.factors[:, _HUE])
        for weights in _blend_weights(options, order.masked_fill(hue_place >= place, _HUE)[:, 1:]):
            blend(video, *weights)
        return video


def _blend_weights(options: JitterOptions, order: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Return the three (B,) weights of :func:`blend` for each of (B, N) operations in turn; hue changes nothing."""
    factor = options.factors.gather(1, order)
    factor = torch.where(order == _HUE, 1.0, factor)
    rest = 1 - factor
    weights = factor, rest * (order == _SATURATION), rest * (order == _CONTRAST)
    return zip(*(weight.unbind(1) for weight in weights), strict=True)
