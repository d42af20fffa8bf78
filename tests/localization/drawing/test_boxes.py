import pytest
import torch

from avssl.localization.drawing.boxes import box_threshold, hot_box


def test_the_box_holds_the_region_of_the_peak_alone():
    heat = torch.zeros(6, 8)
    heat[1:3, 2:5] = 1.0
    heat[4:6, 6:8] = 0.9  # as hot, but not connected with the peak
    left, top, right, bottom = hot_box(heat, 0.5, (60, 160))
    # Cells of 20 x 10 pixels; a half is reached at the edge of a cell, to an eighth of one.
    assert (left, top, right, bottom) == pytest.approx((40, 10, 100, 30), abs=2.6)


def test_a_wide_region_fills_the_frame_and_a_cold_one_has_no_box():
    assert hot_box(torch.ones(3, 4), 0.5, (30, 41)) == (0, 0, 41, 30)
    assert hot_box(torch.full((3, 4), 0.4), 0.5, (30, 40)) is None


def test_a_higher_threshold_gives_a_smaller_box():
    y, x = torch.meshgrid(torch.arange(7.0), torch.arange(7.0), indexing="ij")
    heat = torch.exp(-((y - 3) ** 2 + (x - 3) ** 2) / 4)
    areas = []
    for threshold in (0.2, 0.5, 0.9):
        left, top, right, bottom = hot_box(heat, threshold, (70, 70))
        assert (left + right) / 2 == pytest.approx(35, abs=1)
        areas.append((right - left) * (bottom - top))
    assert areas[0] > areas[1] > areas[2] > 0


def test_threshold_is_a_share_of_the_scale():
    assert box_threshold((-0.2, 0.6), 0.25) == pytest.approx(0.0)
    with pytest.raises(ValueError, match=r"boxes \(1.5\) is a share"):
        box_threshold((0, 1), 1.5)
