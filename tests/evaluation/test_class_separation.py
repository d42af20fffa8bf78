import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from avssl.evaluation.class_separation import class_separation


def direction(*degrees):
    return torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_known_separations():
    labels = np.array(["a", "a", "b", "b"])
    assert class_separation(direction(0, 0, 90, 90), labels) == pytest.approx(1)
    assert class_separation(direction(0, 90, 0, 90), labels) == pytest.approx(0, abs=1e-6)
    # Within: pairs at 0 and at 90 degrees, 1/2. Overall: mean unit vector 0, so 1.
    assert class_separation(direction(0, 90, 180, 270), labels) == pytest.approx(0.5, abs=1e-6)


def test_it_is_the_papers_sum_over_pairs_with_classes_of_different_size():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(12, 5, generator=generator) + 1
    labels = np.array([0] * 7 + [1] * 2 + [2] * 3)
    x[:7] += torch.tensor([2.0, 0, 0, 0, 0])
    distance = cdist(x.numpy(), x.numpy(), "cosine")
    blocks = np.array([[distance[np.ix_(labels == j, labels == k)].mean() for k in range(3)] for j in range(3)])
    expected = 1 - np.trace(blocks) / 3 / blocks.mean()
    assert 0.1 < expected < 0.9
    assert class_separation(x, labels) == pytest.approx(expected, rel=1e-5)
    sizes = torch.rand(12, 1, generator=generator) + 0.5
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=generator)).Q
    assert class_separation(sizes * x @ rotation, labels) == pytest.approx(expected, rel=1e-4)


def test_one_direction_has_no_separation():
    assert math.isnan(class_separation(torch.ones(4, 3), np.array([0, 0, 1, 1])))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.ones(3, 2), [0, 1], "a label each"),
        (torch.ones(2, 2), [0, 0], "at least two classes"),
        (torch.tensor([[1.0, 0], [0, 0]]), [0, 1], "zero and has no direction"),
        (torch.full((2, 2), torch.nan), [0, 1], "finite"),
    ],
)
def test_wrong_input_raises(features, labels, message):
    with pytest.raises(ValueError, match=message):
        class_separation(features, np.array(labels))
