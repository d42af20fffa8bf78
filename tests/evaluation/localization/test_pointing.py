import numpy as np
import pytest
import torch

from avssl.evaluation import pointing


def box(top, bottom, left, right, hw=(8, 8)):
    mask = torch.zeros(1, *hw, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


def test_pointing_looks_at_the_peak():
    maps = torch.zeros(2, 4, 4)
    maps[:, 1, 2] = 1
    truth = torch.cat([box(2, 4, 4, 6), box(4, 8, 0, 8)])
    assert pointing(maps, truth).tolist() == [1, 0]
    assert pointing(maps.numpy(), truth.numpy()).tolist() == [1, 0]
    alone = pointing(maps[0], truth[0])
    assert isinstance(alone, float)
    assert alone == 1


def test_peak_matches_numpy_s_argmax():
    random = np.random.default_rng(0)
    maps, truth = random.normal(size=(50, 9, 7)), random.random((50, 9, 7)) < 0.3
    expected = [bool(truth[i].reshape(-1)[maps[i].argmax()]) for i in range(50)]
    assert pointing(maps, truth).tolist() == expected
    assert 0 < sum(expected) < 50


@pytest.mark.parametrize("value", [0.0, 0.1, -2.0])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic_corners"])
def test_pointing_of_a_constant_map_is_the_share_of_the_area(value, mode):
    truth = box(3, 20, 5, 17, hw=(30, 41))
    assert pointing(torch.full((1, 7, 7), value), truth, mode).item() == pytest.approx(17 * 12 / (30 * 41))


def test_pointing_averages_over_tied_peaks():
    maps = torch.zeros(1, 8, 8)
    maps[0, 0, 0] = maps[0, 7, 7] = maps[0, 7, 6] = 0.7
    assert pointing(maps, box(6, 8, 6, 8)).item() == pytest.approx(2 / 3)


def test_pointing_counts_votes_and_nothing_of_an_empty_truth():
    maps = torch.zeros(1, 2, 2)
    maps[0, 1, 1] = 1
    votes = torch.tensor([[[0.0, 0.0], [0.0, 0.5]]])
    assert pointing(maps, votes).item() == 1
    assert pointing(maps, 0 * votes).item() == 0


def test_pointing_ignores_scale_and_offset():
    generator = torch.Generator().manual_seed(0)
    maps, truth = torch.rand(10, 16, 16, generator=generator), torch.rand(10, 16, 16, generator=generator) < 0.4
    assert torch.equal(pointing(maps, truth), pointing(3 * maps + 4, truth))


def test_pointing_refuses():
    with pytest.raises(ValueError, match="heatmap and truth must hold the same samples"):
        pointing(torch.zeros(1, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(ValueError, match="unknown mode 'nearest'"):
        pointing(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4), "nearest")
