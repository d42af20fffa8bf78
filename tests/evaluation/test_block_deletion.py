import math

import numpy as np
import pytest

from avssl.evaluation import deletion_effects, kept_neighbors


def test_blocks_inside_and_outside_are_averaged_apart():
    names = ["stem", "a.0", "a.1", "a.2", "b.0", "b.1"]
    deleted = {"a.1": {"R@10": 0.5}, "a.2": {"R@10": 0.3}, "b.1": {"R@10": 0.1}}
    effects = deletion_effects(names, [(0, 3), (1, 4)], {"R@10": 0.5}, deleted)
    assert (effects["inside"].num_blocks, effects["outside"].num_blocks) == (2, 1)
    assert effects["inside"].change == pytest.approx({"R@10": -0.1})
    assert effects["outside"].change == pytest.approx({"R@10": -0.4})
    nowhere = deletion_effects(names, [], {"R@10": 0.5}, deleted)
    assert nowhere["outside"].num_blocks == 3
    assert math.isnan(nowhere["inside"].change["R@10"])


def test_kept_neighbors_of_known_points():
    angles = np.radians([0, 1, 3, 90, 91, 93])
    points = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert kept_neighbors(points, 7 * points, k=2) == 1  # scale does not count
    swapped = points[[0, 3, 1, 4, 2, 5]]
    # Groups {0, 2, 4} and {1, 3, 5} instead of {0, 1, 2} and {3, 4, 5}: 0 and 2 stay together, and so do 3 and 5.
    assert kept_neighbors(points, swapped, k=2) == pytest.approx(4 / 12)


def test_kept_neighbors_of_unrelated_features_are_chance():
    rng = np.random.default_rng(0)
    before, after = rng.standard_normal((2, 400, 8))
    assert kept_neighbors(before, after) == pytest.approx(10 / 399, abs=0.01)


def test_clips_must_be_the_same():
    with pytest.raises(ValueError, match=r"same clips, more than k \(10\), got 10 and 10"):
        kept_neighbors(np.ones((10, 2)), np.ones((10, 2)))
