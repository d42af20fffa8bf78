"""Appearance of a clip: color jitter, grayscale and blur, each the same for all frames of the clip.

The order is SimCLR's (Chen et al., 2020, https://arxiv.org/abs/2002.05709, appendix A): jitter, grayscale, blur.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avssl.core.draws import uniform
from avssl.transforms.blur import blur_radius, blur_weights, gaussian_blur
from avssl.transforms.color import ColorJitter, JitterOptions, blend


@dataclass(frozen=True)
class AppearanceOptions:
    """Random numbers of each clip; None for an operation that is not in use."""

    jitter: JitterOptions | None
    """Factors and order of the color jitter."""
    gray: Tensor | None
    """(B,) float32, 1 for clips turned to gray, else 0."""
    blur: Tensor | None
    """(B, size, size) matrices of the blur."""
    blur_sigma: Tensor | None = None
    """(B,) standard deviation of the blur in pixels, 0 for clips without."""

    def __getitem__(self, clips: slice) -> AppearanceOptions:
        return AppearanceOptions(
            None if self.jitter is None else self.jitter[clips],
            None if self.gray is None else self.gray[clips],
            None if self.blur is None else self.blur[clips],
            None if self.blur_sigma is None else self.blur_sigma[clips],
        )


class Appearance(nn.Module):
    """Color jitter, grayscale and Gaussian blur of random clips.

    Args:
        jitter: The color jitter.
        grayscale_probability: Share of the clips that become gray.
        blur_probability: Share of the clips that are blurred.
        blur_sigma: Smallest and largest standard deviation of the blur in pixels, drawn uniformly.
    """

    def __init__(
        self,
        jitter: ColorJitter,
        grayscale_probability: float,
        blur_probability: float,
        blur_sigma: tuple[float, float],
    ) -> None:
        super().__init__()
        self.jitter, self.grayscale_probability = jitter, grayscale_probability
        self.blur_probability, self.blur_sigma = blur_probability, blur_sigma

    @property
    def is_used(self) -> bool:
        """False if no clip ever changes."""
        return bool(self.jitter.operations) or self.grayscale_probability > 0 or self.blur_probability > 0

    def draw(self, key: Tensor, view: int, size: int) -> AppearanceOptions:
        """Draw the options of frames of ``size`` pixels from (B,) int64 keys."""
        jitter = self.jitter.draw(key, view) if self.jitter.operations else None
        gray = blur = sigma = None
        if self.grayscale_probability > 0:
            gray = (uniform(key, f"grayscale/{view}", 1)[:, 0] < self.grayscale_probability).float()
        if self.blur_probability > 0:
            chance, place = uniform(key, f"blur/{view}", 2).unbind(1)
            low, high = self.blur_sigma
            sigma = (low + (high - low) * place) * (chance < self.blur_probability)
            blur = blur_weights(sigma, blur_radius(high, size), size)
        return AppearanceOptions(jitter, gray, blur, sigma)

    def forward(self, video: Tensor, options: AppearanceOptions) -> Tensor:
        """Apply ``options`` to (B, 3, T, size, size) float32 in [0, 1], which may be overwritten."""
        if options.jitter is not None:
            video = self.jitter(video, options.jitter)
        if options.gray is not None:
            video = blend(video, 1 - options.gray, options.gray, torch.zeros_like(options.gray))
        return video if options.blur is None else gaussian_blur(video, options.blur)
