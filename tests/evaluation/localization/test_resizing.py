"""Resizing against the formulas written out, one output pixel at a time."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.evaluation import MODES, resize_heatmaps
from avssl.evaluation.localization.resizing import min_max


def keys_weight(distance, a=-0.75):
    """Cubic convolution, Keys 1981."""
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * (d**3 - 5 * d**2 + 8 * d - 4) if d < 2 else 0.0


def hat_weight(distance):
    return max(0.0, 1 - abs(distance))


def reference_line(values, length, mode):
    """One dimension: each output place weighs the cells around it, edges continued."""
    n, out = len(values), []
    for i in range(length):
        if mode.endswith("corners"):
            place = i * (n - 1) / (length - 1) if length > 1 else 0.0
        else:
            place = (i + 0.5) * n / length - 0.5
        weight = keys_weight if mode.startswith("bicubic") else hat_weight
        near = range(math.floor(place) - 1, math.floor(place) + 3)
        out.append(sum(weight(place - k) * values[min(max(k, 0), n - 1)] for k in near))
    return out


def reference(image, height, width, mode):
    columns = [reference_line(list(row), width, mode) for row in image]
    return np.array([reference_line(list(column), height, mode) for column in zip(*columns, strict=True)]).T


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(9, 16), (2, 3), (1, 1), (5, 4)])
def test_every_mode_matches_its_formula(mode, size):
    image = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert np.allclose(resize_heatmaps(image, size, mode), reference(image, *size, mode), atol=2e-6)


def test_modes_differ():
    image = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    results = [resize_heatmaps(image, 20, mode) for mode in MODES]
    for i in range(4):
        for j in range(i):
            assert np.abs(results[i] - results[j]).max() > 0.01


def test_bilinear_is_pillow_s():
    image = np.random.default_rng(1).normal(size=(7, 9)).astype(np.float32)
    pillow = Image.fromarray(image).resize((45, 31), Image.Resampling.BILINEAR)
    assert np.allclose(resize_heatmaps(image, (31, 45)), np.asarray(pillow), atol=1e-5)


def test_known_values_by_hand():
    edge = np.array([[0.0, 1.0]])
    assert resize_heatmaps(edge, (1, 4)).tolist() == [[0, 0.25, 0.75, 1]]
    assert resize_heatmaps(edge, (1, 4), "bilinear_corners")[0] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    # The place 0.5 between four cells: weights -3/32, 19/32, 19/32, -3/32.
    peak = np.array([[0.0, 1.0, 0.0, 0.0]])
    assert resize_heatmaps(peak, (1, 7), "bicubic_corners")[0, 3] == pytest.approx(19 / 32)
    assert resize_heatmaps(peak, (1, 7), "bicubic_corners")[0, 2] == pytest.approx(1)


def test_default_is_the_published_size():
    assert resize_heatmaps(np.zeros((7, 7))).shape == (224, 224)
    assert resize_heatmaps(np.zeros((3, 7, 7)), 10).shape == (3, 10, 10)
    assert resize_heatmaps(np.zeros((7, 7)), np.int64(10)).shape == (10, 10)


def test_arrays_and_tensors_of_one_and_of_many_agree():
    maps = np.random.default_rng(0).normal(size=(3, 4, 5))
    many = resize_heatmaps(maps, (8, 9), "bicubic")
    assert isinstance(many, np.ndarray)
    assert many.dtype == np.float32
    as_tensor = resize_heatmaps(torch.from_numpy(maps), (8, 9), "bicubic")
    assert isinstance(as_tensor, torch.Tensor)
    assert np.array_equal(many, as_tensor.numpy())
    assert np.array_equal(many[1], resize_heatmaps(maps[1], (8, 9), "bicubic"))
    turned = np.ascontiguousarray(maps[:, ::-1])
    assert np.array_equal(resize_heatmaps(maps[:, ::-1], (8, 9)), resize_heatmaps(turned, (8, 9)))
    maps.flags.writeable = False
    assert np.array_equal(many, resize_heatmaps(maps, (8, 9), "bicubic"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("value", [0.1, -3.7, 1e6])
def test_constant_map_stays_constant_to_the_last_bit(mode, value):
    maps = torch.stack([torch.full((7, 7), value), torch.arange(49.0).view(7, 7)])
    resized = resize_heatmaps(maps, (50, 37), mode)
    assert (resized[0] == torch.tensor(value)).all()
    assert resized[1].std() > 1
    assert torch.equal(min_max(resized)[0], resized[0])


def test_min_max_reaches_both_ends_and_leaves_constants_alone():
    maps = torch.stack([torch.tensor([[-2.0, 0.0, 2.0]]), torch.full((1, 3), 0.3)])
    assert min_max(maps).tolist() == [[[0, 0.5, 1]], [[pytest.approx(0.3)] * 3]]


def test_map_that_is_constant_after_resizing_is_left_untouched():
    """Bilinear halves of a checkerboard are all the mean: nothing is left to normalize."""
    board = torch.tensor([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]]).repeat(2, 1)[None]
    assert min_max(resize_heatmaps(board, 2)).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]


def test_resize_refuses():
    image = np.zeros((4, 4))
    with pytest.raises(ValueError, match="unknown mode 'linear'; the modes are bilinear, bilinear_corners"):
        resize_heatmaps(image, 8, "linear")
    with pytest.raises(ValueError, match=r"size \(0\) must be at least 1"):
        resize_heatmaps(image, 0)
    with pytest.raises(ValueError, match=r"maps must be \(N, height, width\).*got \(4,\)"):
        resize_heatmaps(image[0], 8)
    with pytest.raises(ValueError, match=r"got \(0, 4, 4\)"):
        resize_heatmaps(image[None][:0], 8)
    with pytest.raises(ValueError, match="maps holds NaN or infinity, first in sample 1"):
        resize_heatmaps(np.stack([image, image * np.nan]), 8)
    with pytest.raises(ValueError, match="maps must be numbers"):
        resize_heatmaps(np.array([["a"]]), 8)
