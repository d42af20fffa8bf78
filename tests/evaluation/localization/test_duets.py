import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from avssl.core.errors import InputError
from avssl.evaluation.localization.duets import best_assignment, class_mean, pixel_precision


def test_precision_of_pixels_is_that_of_scikit_learn_and_zero_without_truth():
    draw = np.random.default_rng(0)
    maps, truth = draw.normal(size=(3, 8, 8)), draw.random((3, 8, 8)) > 0.7
    truth[2] = False
    found = pixel_precision(maps, truth)
    expected = [average_precision_score(truth[i].ravel(), maps[i].astype(np.float32).ravel()) for i in (0, 1)]
    assert found.tolist() == pytest.approx([*expected, 0.0])
    assert pixel_precision(truth[:2].astype(float), truth[:2]).tolist() == [1.0, 1.0]
    assert np.allclose(pixel_precision(5 * maps + 3, truth), found, atol=1e-6)  # the scale has no influence


def test_a_class_counts_once_however_many_sources_it_has():
    assert class_mean(np.array([1.0, 0.0, 0.0, 0.5]), ["a", "b", "b", "b"]) == pytest.approx((1 + 0.5 / 3) / 2)
    with pytest.raises(InputError):
        class_mean(np.array([]), [])


def test_the_best_assignment_forgives_swapped_maps():
    assert best_assignment(np.array([[0.1, 0.9], [0.7, 0.2]])) == pytest.approx(0.8)
    assert best_assignment(np.array([[0.4]])) == 0.4
