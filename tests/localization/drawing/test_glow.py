import pytest
import torch
import torch.nn.functional as F

from avssl.localization.drawing.blend import blend
from avssl.localization.drawing.glow import Glow
from avssl.media.planes import rgb_to_ycc, to_planes
from avssl.reports.figures import color_table


def picture(height=270, width=481):
    coarse = torch.rand(1, 3, 6, 9, generator=torch.Generator().manual_seed(1))
    return (255 * F.interpolate(coarse, size=(height, width), mode="bilinear")[0]).byte()


@pytest.mark.parametrize("opacity", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("colormap", ["inferno", "viridis"])
def test_whole_numbers_draw_what_the_float_blend_draws(colormap, opacity):
    heat, scale = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)), (0.2, 0.9)
    rgb = picture()
    drawn = Glow((5, 7), (270, 481), color_table(colormap), opacity).draw(to_planes(rgb), heat, scale)
    expected = rgb_to_ycc(blend(rgb[None], heat[None], scale, opacity=opacity, colormap=colormap)[0])
    # The rounding of the planes that are drawn on is 0.5 of it.
    assert (drawn.luma - expected[0]).abs().max() <= 2
    halved = F.avg_pool2d(F.pad(expected[1:][None], (0, 1, 0, 0), mode="replicate"), 2)[0]
    assert (drawn.chroma - halved).abs().max() <= 2
    assert (drawn.luma - expected[0]).mean().abs() < 0.1  # no bias


def test_the_picture_that_is_given_stays():
    planes = to_planes(picture())
    luma, chroma = planes.luma.clone(), planes.chroma.clone()
    Glow((2, 2), (270, 481), color_table("inferno"), 0.7).draw(planes, torch.rand(2, 2), (0, 1))
    assert torch.equal(planes.luma, luma)
    assert torch.equal(planes.chroma, chroma)


def test_cold_heat_on_top_changes_nothing():
    planes = to_planes(picture())
    drawn = Glow((2, 2), (270, 481), color_table("inferno"), 1.0, dims=False).draw(planes, torch.zeros(2, 2), (0, 1))
    assert torch.equal(drawn.luma, planes.luma)
    assert torch.equal(drawn.chroma, planes.chroma)


def test_equal_limits_draw_no_heat():
    planes = to_planes(picture())
    glow = Glow((2, 2), (270, 481), color_table("inferno"), 1.0, dims=False)
    assert torch.equal(glow.draw(planes, torch.full((2, 2), 0.3), (0.3, 0.3)).luma, planes.luma)


def test_opacity_is_a_share():
    with pytest.raises(ValueError, match=r"opacity \(1.5\)"):
        Glow((2, 2), (4, 4), color_table("inferno"), 1.5)
