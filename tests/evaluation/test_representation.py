import math

import pytest
import torch

from avssl.evaluation import alignment_uniformity, effective_rank, modality_gap, spread


def test_effective_rank_counts_orthonormal_directions():
    assert effective_rank(torch.eye(8)[:5]) == pytest.approx(5)
    assert effective_rank(3 * torch.eye(8).repeat(10, 1)) == pytest.approx(8)


def test_effective_rank_of_collapse_is_one():
    assert effective_rank(torch.outer(torch.arange(1.0, 20), torch.ones(6))) == pytest.approx(1, abs=1e-5)
    assert effective_rank(torch.zeros(4, 6)) == 0


def test_effective_rank_of_two_unequal_directions():
    share = torch.tensor([0.75, 0.25])
    expected = math.exp(-sum(p * math.log(p) for p in share.tolist()))
    assert effective_rank(torch.diag(share)) == pytest.approx(expected)


def test_alignment_and_uniformity_of_opposite_points():
    video = torch.tensor([[2.0, 0.0], [-1.0, 0.0]])
    result = alignment_uniformity(video, -video)
    assert result["alignment"] == pytest.approx(4)
    assert result["video_uniformity"] == pytest.approx(-8)
    assert result["audio_uniformity"] == pytest.approx(-8)


def test_uniformity_of_collapse_is_zero():
    result = alignment_uniformity(torch.ones(5, 3), torch.ones(5, 3))
    assert result == pytest.approx({"alignment": 0, "video_uniformity": 0, "audio_uniformity": 0}, abs=1e-9)


def test_representation_refuses():
    with pytest.raises(ValueError, match="finite and not empty"):
        effective_rank(torch.full((2, 2), torch.nan))
    with pytest.raises(ValueError, match="at least two"):
        alignment_uniformity(torch.ones(1, 2), torch.ones(1, 2))


def test_modality_gap_is_the_distance_of_the_centers():
    video = torch.tensor([[3.0, 0.0], [0.0, 0.5]])  # center (1/2, 1/2), whatever the scale
    assert modality_gap(video, video) == 0
    assert modality_gap(video, -video) == pytest.approx(2**0.5)
    assert modality_gap(torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 0.0]] * 3)) == pytest.approx(2)


def test_spread_of_a_point_and_of_opposite_points():
    assert spread(torch.ones(5, 3)) == pytest.approx(0)
    assert spread(torch.tensor([[2.0, 0.0], [-1.0, 0.0]])) == pytest.approx(1)
    assert spread(torch.eye(8)) == pytest.approx((1 - 1 / 8) ** 0.5)


def test_modality_gap_refuses_other_sizes():
    with pytest.raises(ValueError, match="differ in size: 2 and 3"):
        modality_gap(torch.ones(1, 2), torch.ones(1, 3))
