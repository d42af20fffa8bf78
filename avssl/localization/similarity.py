"""Cosine similarity of audio queries with the cells of a video map, and the map at one point in time.

Heat maps, localization scores and benchmarks compare cells with queries here and nowhere else.

Dimensions: B clips, D embedding size, K heads of D / K channels, T' time cells, h and w cells, S steps of the audio, L
moments: the finer of T' and S (:func:`avssl.core.moments.matched_moments`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.moments import matched_moments, mean_by_cell, unit_heads
from avssl.evaluation.localization import resize_heatmaps

SMOOTHING = 1
"""Times every map is smoothed; chosen on unseen clips by ``benchmarks/localization.py``."""


@dataclass(frozen=True, eq=False)
class CellSimilarity:
    """Cosines of every cell with the audio at its time, computed once for all maps that are made of them."""

    values: Tensor
    """(L, B, K, h, w) float32 in [-1, 1]."""
    cell: Tensor
    """(L,) time cell of each moment, ascending."""
    num_cells: int
    """T'."""

    def best(self) -> Tensor:
        """Return (B, T', h, w): the highest cosine of any head, averaged over the moments of a time cell."""
        return rearrange(mean_by_cell(self.values.amax(dim=2), self.cell, self.num_cells), "t b h w -> b t h w")

    def by_head(self) -> Tensor:
        """Return (B, K, T', h, w). Two things that sound at once can lie in the maps of two heads."""
        return rearrange(mean_by_cell(self.values, self.cell, self.num_cells), "t b k h w -> b k t h w")


def cell_similarity(cells: Tensor, queries: Tensor, num_heads: int = 1) -> CellSimilarity:
    """Compare the cells of each clip with its audio.

    Args:
        cells: (B, D, T', h, w) from :func:`avssl.models.unit_cells`.
        queries: (B, D, S) of the same clips and the same span of time, of any scale. One step is compared with every
            cell; more are matched to the cells at their time.
        num_heads: K of the model.

    Raises:
        InputError: If B or D differ, or D is not a multiple of K.
    """
    if cells.ndim != 5 or queries.ndim != 3 or cells.shape[:2] != queries.shape[:2]:
        raise InputError(
            "cells must be (B, D, T, h, w) and queries (B, D, S) of the same clips, "
            f"got {tuple(cells.shape)} and {tuple(queries.shape)}."
        )
    cell_L, step_L = matched_moments(cells.shape[2], queries.shape[2], cells.device)
    with torch.autocast(cells.device.type, enabled=False):  # bfloat16 would round cosines to 1/256
        queries_BKDS = unit_heads(queries, num_heads)
        cells_BKDThw = cells.float().unflatten(1, (num_heads, -1))
        every_BKThwS = torch.einsum("bkdthw,bkds->bkthws", cells_BKDThw, queries_BKDS).clamp(-1, 1)
    return CellSimilarity(every_BKThwS[:, :, cell_L, :, :, step_L], cell_L, cells.shape[2])


def sound_map(cells: Tensor, queries: Tensor, num_heads: int = 1) -> Tensor:
    """Return :meth:`CellSimilarity.best` of :func:`cell_similarity`: (B, T', h, w) float32 in [-1, 1]."""
    return cell_similarity(cells, queries, num_heads).best()


def at_instant(cells: Tensor, queries: Tensor, frame: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
    """Reduce cells and queries to one point in time, small enough to keep for every clip.

    Args:
        cells: (B, D, T', h, w) from :func:`avssl.models.unit_cells`.
        queries: (B, D, S) of the model.
        frame: (B,) frame positions, as in :func:`maps_at`.
        num_frames: Frames in a window.

    Returns:
        Cells (B, D, 1, h, w) and queries (B, D, 1) for :func:`sound_map`, interpolated between the nearest time cells.
        A query of one step stays as it is.
    """
    cell_L, step_L = matched_moments(cells.shape[2], queries.shape[2], cells.device)
    heard_TBD = mean_by_cell(rearrange(queries[..., step_L], "b d l -> l b d"), cell_L, cells.shape[2])
    height, width = cells.shape[3:]
    cells_at = maps_at(rearrange(cells, "b d t h w -> b t d (h w)"), frame, num_frames)  # (B, D, h * w)
    heard_at = maps_at(rearrange(heard_TBD, "t b d -> b t d 1"), frame, num_frames)  # (B, D, 1)
    return rearrange(cells_at, "b d (h w) -> b d 1 h w", h=height, w=width), heard_at


def maps_at(maps: Tensor, frame: Tensor, num_frames: int) -> Tensor:
    """Return the map at one point in time of each window, interpolated between the nearest time cells.

    Args:
        maps: (B, T', h, w) over windows of ``num_frames`` frames; a cell stands for the middle of its
            ``num_frames / T'`` frames.
        frame: (B,) frame positions, 0 for the first frame; need not be whole.
        num_frames: Frames in a window.

    Returns:
        (B, h, w).

    Example:
        >>> maps = torch.tensor([[[[0.0]], [[1.0]]]])  # one window of two time cells, each of two frames
        >>> maps_at(maps, torch.tensor([1.5]), num_frames=4)  # halfway between the middles of the cells
        tensor([[[0.5000]]])
    """
    num_cells = maps.shape[1]
    position = ((frame.to(maps) + 0.5) * num_cells / num_frames - 0.5).clamp(0, num_cells - 1)
    before = position.floor().long()
    after = (before + 1).clamp(max=num_cells - 1)
    row = torch.arange(len(maps), device=maps.device)
    return torch.lerp(maps[row, before], maps[row, after], (position - before)[:, None, None])


def smooth(maps: Tensor, times: int = SMOOTHING) -> Tensor:
    """Average each cell of (B, h, w) maps with its neighbors ``times`` times, by the kernel (1, 2, 1) / 4 both ways.

    Training looks for the best cell and leaves its neighbors, whose receptive fields overlap with its own, uneven. The
    average covers an object as a whole; a single cell points at a detail of it.
    """
    kernel = torch.ones(3, device=maps.device)
    kernel[1].mul_(2)  # numbers copied to a GPU would let the host wait
    kernel = kernel / 4
    kernel = (kernel[:, None] * kernel)[None, None]  # (1, 1, 3, 3)
    for _ in range(times):
        # Edges are repeated: with zeros, or with fewer cells, the map would sink or rise there.
        maps = F.conv2d(F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate"), kernel)[:, 0]
    return maps


def upsample(maps: Tensor, hw: tuple[int, int]) -> Tensor:
    """Resize (..., h, w) to (..., H, W) float32: bilinear with half-pixel centers, as the metrics do.

    Example:
        >>> upsample(torch.tensor([[0.0, 1.0]]), (1, 4))
        tensor([[0.0000, 0.2500, 0.7500, 1.0000]])
    """
    return resize_heatmaps(maps.reshape(-1, *maps.shape[-2:]), hw).view(*maps.shape[:-2], *hw)
