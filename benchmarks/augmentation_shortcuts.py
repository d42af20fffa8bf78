"""Shortcuts between two views of a clip: how often a simple description, without any learning, finds the partner.

A contrastive loss is solved by whatever tells clips apart and survives the augmentation. If that is the histogram of
colors, or the spectrogram itself, a network has no reason to learn objects (SimCLR, section 3.1 and figure 6).

Dimensions: B clips, T frames, H and W pixels, N columns and F bins of a spectrogram.
"""

from __future__ import annotations

import torch
from torch import Tensor

BINS = 8
"""Bins of the histogram in each color channel."""


def color_histograms(video: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return (B, BINS^3) shares of the colors in (B, 3, T, H, W) normalized frames."""
    levels = (video * std.view(3, 1, 1, 1) + mean.view(3, 1, 1, 1)).clamp(0, 1)
    red, green, blue = (levels * BINS).long().clamp(max=BINS - 1).unbind(1)
    color = ((red * BINS + green) * BINS + blue).flatten(1)
    counts = torch.zeros(len(video), BINS**3).scatter_add_(1, color, torch.ones(color.shape))
    return counts / color.shape[1]


def found_by_histogram(first: Tensor, second: Tensor) -> float:
    """Return the share of clips whose second view shares most color with the first: histogram intersection."""
    return _found(torch.minimum(first[:, None], second[None]).sum(dim=2))


def found_by_spectrogram(first: Tensor, second: Tensor) -> float:
    """Return the share of clips whose second (B, 1, N, F) spectrogram is the nearest to the first, cell by cell."""
    return _found(-torch.cdist(first.flatten(1), second.flatten(1)))


def found_by_mean_spectrum(first: Tensor, second: Tensor) -> float:
    """Return the same for the mean over time, which a shift in time does not change."""
    return _found(-torch.cdist(first.mean(dim=(1, 2)), second.mean(dim=(1, 2))))


def found_by_aligned_spectrogram(first: Tensor, second: Tensor) -> float:
    """Return the same for the best of all circular shifts in time: an attacker who undoes the shift."""
    spectra = [torch.fft.rfft(x[:, 0], dim=1) for x in (first, second)]  # (B, N', F)
    num_columns = first.shape[2]
    best = [
        torch.fft.irfft((one.conj() * spectra[1]).sum(dim=2), n=num_columns, dim=1).amax(dim=1) for one in spectra[0]
    ]
    product = torch.stack(best)  # (B, B): the largest inner product over shifts
    return _found(2 * product - second.flatten(1).square().sum(dim=1))


def _found(similarity: Tensor) -> float:
    """Return how often the diagonal is the largest of its row, in (B, B); ties count as misses."""
    own = similarity.diagonal()[:, None]
    others = similarity.masked_fill(torch.eye(len(similarity), dtype=torch.bool), -torch.inf)
    return (own[:, 0] > others.amax(dim=1)).float().mean().item()
