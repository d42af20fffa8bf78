import numpy as np
import pytest
import torch

from avssl.evaluation import EZVSL_ALPHA, SLAVC_ALPHA, fuse_object_prior


def test_the_papers_weights():
    assert (EZVSL_ALPHA, SLAVC_ALPHA) == (0.4, 0.9)


def test_by_hand():
    heard = np.array([[0.0, 1.0], [2.0, 4.0]])
    seen = np.array([[30.0, 10.0], [20.0, 10.0]])
    expected = [[0.6 * 1, 0.4 * 0.25], [0.4 * 0.5 + 0.6 * 0.5, 0.4 * 1]]
    assert fuse_object_prior(heard, seen, EZVSL_ALPHA) == pytest.approx(np.array(expected), abs=1e-6)
    assert fuse_object_prior(heard, seen, 1) == pytest.approx(heard / 4)
    assert fuse_object_prior(heard, seen, 0) == pytest.approx((seen - 10) / 20)


def test_each_map_is_normalized_by_itself():
    random = np.random.default_rng(0)
    heard, seen = random.normal(size=(3, 4, 5)), random.normal(size=(3, 4, 5))
    fused = fuse_object_prior(heard, seen, SLAVC_ALPHA)
    assert np.allclose(fuse_object_prior(5 * heard - 1, 0.1 * seen + 7, SLAVC_ALPHA), fused, atol=1e-5)
    for i in range(3):
        parts = [(m[i] - m[i].min()) / (m[i].max() - m[i].min()) for m in (heard, seen)]
        assert np.allclose(fused[i], 0.9 * parts[0] + 0.1 * parts[1], atol=1e-6)
        assert np.array_equal(fuse_object_prior(heard[i], seen[i], SLAVC_ALPHA), fused[i])
    as_tensor = fuse_object_prior(torch.from_numpy(heard), seen, SLAVC_ALPHA)
    assert isinstance(as_tensor, torch.Tensor)
    assert np.array_equal(as_tensor.numpy(), fused)


def test_constant_map_is_left_untouched():
    heard, seen = np.array([[0.0, 1.0]]), np.full((1, 2), 0.5)
    assert fuse_object_prior(heard, seen, 0.4) == pytest.approx(np.array([[0.3, 0.7]]))


def test_object_prior_refuses():
    with pytest.raises(ValueError, match=r"alpha \(1.5\) must be in \[0, 1\]"):
        fuse_object_prior(np.zeros((2, 2)), np.zeros((2, 2)), 1.5)
    with pytest.raises(ValueError, match=r"av_map \(2, 2\) and object_map \(7, 7\) must have one shape: resize them"):
        fuse_object_prior(np.zeros((2, 2)), np.zeros((7, 7)), 0.4)
    with pytest.raises(ValueError, match="object_map holds NaN"):
        fuse_object_prior(np.zeros((2, 2)), np.full((2, 2), np.nan), 0.4)
