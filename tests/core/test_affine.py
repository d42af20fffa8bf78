"""Turned pictures against torchvision's, quarter turns, maps beside frames, and draws that depend on the key alone."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as reference

from avssl.core.affine import Affine, RandomAffine
from avssl.core.draws import clip_key


def _affine(*degrees_and_scale: tuple[float, float]) -> Affine:
    degrees, scale = torch.tensor(degrees_and_scale, dtype=torch.float64).unbind(dim=1)
    return Affine(degrees * math.pi / 180, scale)


@pytest.mark.parametrize("size", [(12, 12), (9, 14)])
def test_warp_is_torchvisions(size: tuple[int, int]) -> None:
    pictures = torch.randn(3, 2, 4, *size, generator=torch.Generator().manual_seed(0))
    turns = [(20.0, 0.7), (-30.0, 0.5), (0.0, 1.0)]
    warped = _affine(*turns).warp(pictures)
    for picture, got, (degrees, scale) in zip(pictures, warped, turns, strict=True):
        expected = reference.affine(
            picture, -degrees, [0.0, 0.0], scale, [0.0, 0.0], interpolation=InterpolationMode.BILINEAR
        )
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_a_quarter_turn_is_exact_and_anticlockwise() -> None:
    pictures = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(_affine((90, 1)).warp(pictures), pictures.rot90(1, (2, 3)), rtol=1e-4, atol=1e-4)


def test_half_the_size_is_the_mean_of_blocks_within_a_margin() -> None:
    pictures = torch.arange(16.0).view(1, 4, 4)
    warped = _affine((0, 0.5)).warp(pictures)
    blocks = pictures.view(1, 2, 2, 2, 2).mean((2, 4))
    torch.testing.assert_close(warped[:, 1:3, 1:3], blocks)
    assert warped.count_nonzero() == 4
    assert _affine((0, 0.5)).support(4, 4)[0].tolist() == [
        [r + c > 1 and max(r, c) < 3 and min(r, c) > 0 for c in range(4)] for r in range(4)
    ]


def test_support_is_where_a_warped_picture_of_ones_stays() -> None:
    affine = _affine((25, 0.6), (-10, 0.9), (0, 1))
    support, ones = affine.support(40, 40), affine.warp(torch.ones(3, 40, 40))
    assert support[ones == 1].all()
    assert not support[ones < 0.4].any()  # half of a pixel at an edge, a quarter in a corner
    assert support[2].all()
    torch.testing.assert_close(support[0].float().mean(), torch.tensor(0.36), atol=0.01, rtol=0)


def test_nothing_happens_without_a_turn() -> None:
    pictures = torch.randn(2, 3, 5, 7)
    torch.testing.assert_close(_affine((0, 1), (0, 1)).warp(pictures), pictures, rtol=1e-5, atol=1e-5)


def test_maps_turn_as_the_frames_they_are_of() -> None:
    """A blob in frames of 64 pixels and in maps of 16 cells, with the same middle, moves to the same place."""
    affine = _affine((30, 0.6), (-20, 0.8))

    def middle(size: int, warp: bool) -> torch.Tensor:
        places = (torch.arange(size) + 0.5) / size
        blob = torch.exp(-60 * ((places[:, None] - 0.35) ** 2 + (places - 0.6) ** 2)).expand(2, size, size)
        weights = affine.warp(blob) if warp else blob
        y, x = (weights.sum(dim) @ places / weights.sum((1, 2)) for dim in (2, 1))
        return torch.stack([y, x], dim=1)

    torch.testing.assert_close(middle(16, True), middle(64, True), atol=5e-3, rtol=0)
    assert (middle(64, True) - middle(64, False)).abs().max() > 0.05


def test_pixels_beyond_the_edge_are_zero_or_continue_it() -> None:
    ones = torch.ones(1, 6, 6)
    affine = _affine((15, 0.5))
    assert affine.warp(ones)[0, 0, 0] == 0
    assert affine.warp(ones, "border").equal(ones)


def test_draws_are_of_the_key_alone_and_fill_their_ranges() -> None:
    key = clip_key(0, 0, torch.arange(4000) * 7919)
    random = RandomAffine(30, (0.5, 1.0))
    affine = random.draw(key)
    part = random.draw(key[[7, 3]])
    assert part.angle.equal(affine.angle[[7, 3]])
    assert part.scale.equal(affine.scale[[7, 3]])
    degrees = affine.angle * 180 / math.pi
    assert -30 <= degrees.min() < -29.9
    assert 29.9 < degrees.max() <= 30
    assert 0.5 <= affine.scale.min() < 0.501
    assert 0.999 < affine.scale.max() <= 1
    assert abs(torch.corrcoef(torch.stack([affine.angle, affine.scale]))[0, 1]) < 0.05
    assert RandomAffine(0, (1, 1)).draw(key).angle.abs().max() == 0


def test_warp_is_float32_under_autocast_and_differentiable() -> None:
    pictures = torch.randn(1, 2, 6, 6, requires_grad=True)
    affine = _affine((10, 0.8))
    with torch.autocast("cpu", torch.bfloat16):
        warped = affine.warp(pictures)
    assert warped.dtype == torch.float32
    assert warped.equal(affine.warp(pictures))
    warped.sum().backward()
    assert pictures.grad.abs().min() > 0


def test_ranges_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_degrees \(200\) must be in \[0, 180\]"):
        RandomAffine(200)
    with pytest.raises(ValueError, match=r"scale \(0\.8, 0\.5\) must be \(low, high\) with 0 < low <= high <= 1"):
        RandomAffine(scale=(0.8, 0.5))
