import itertools

import numpy as np
import pytest
import torch
from sklearn import metrics

from avssl.evaluation import THRESHOLDS, auc, group_minimum, interactive, success


def test_success_is_inclusive():
    assert success([0.5, 0.49999, 1.0, 0.0]) == 0.5
    assert success([0.3, 0.2], at=0.3) == 0.5
    assert success(0.7) == 1


def test_auc_is_the_trapezoid_over_21_thresholds():
    # A value of 1 epochs all 21 thresholds, 0 only the first: area 1 and half of the first step.
    assert auc([1.0]) == pytest.approx(1)
    assert auc([0.0]) == pytest.approx(0.025)
    # 0.32 epochs 0, 0.05 .. 0.30: seven ones, so six whole steps and half of the seventh.
    assert auc([0.32]) == pytest.approx(0.05 * 6.5)
    assert auc([0.32, 1.0]) == pytest.approx((0.325 + 1) / 2)


def test_auc_is_scikit_learn_s_area_under_the_curve():
    scores = np.random.default_rng(0).beta(2, 3, size=200)
    places = [0.05 * i for i in range(21)]
    heights = [np.sum(scores >= place) / len(scores) for place in places]
    assert auc(scores) == pytest.approx(metrics.auc(places, heights), abs=1e-12)


def test_thresholds_are_products_in_double():
    """0.05 * 3 is 0.15000000000000002, so a list-valued cIoU of 0.15 does not pass it."""
    assert THRESHOLDS[3] == 0.05 * 3 > 0.15
    assert auc([0.15]) == pytest.approx(0.05 * 2.5)
    ladder = [i / 20 for i in range(21)]
    # The values i / 20 below their own 0.05 * i (i = 3, 6, 7, 12, 14, 17, 19) lose a step each.
    assert [i for i in range(21) if i / 20 < 0.05 * i] == [3, 6, 7, 12, 14, 17, 19]
    assert auc(ladder) == pytest.approx(0.507143, abs=1e-6)
    assert auc([0.05 * i for i in range(21)]) == pytest.approx(0.523810, abs=1e-6)


def test_float32_scores_are_compared_in_double():
    """0.15 is 0.150000006 in float32: it epochs, and would too where the threshold were rounded down."""
    scores = torch.tensor([0.15, 0.35])  # 0.35 is 0.349999994: it epochs neither 0.35 nor 0.35000000000000003
    assert auc(scores) == pytest.approx((0.05 * 3.5 + 0.05 * 6.5) / 2)


def test_a_group_counts_only_if_every_member_does():
    values = [0.9, 0.8, 0.9, 0.4, 0.1, 0.6]
    groups = ["a", "b", "a", "b", "", "c"]
    assert group_minimum(values, groups).tolist() == pytest.approx([0.9, 0.4, 0.6])
    for ids in (torch.tensor([5, 7, 5, 7, -1, 2]), np.array([5, 7, 5, 7, -1, 2]), [5, 7, 5, 7, None, 2]):
        assert group_minimum(values, ids).tolist() == pytest.approx([0.9, 0.4, 0.6])


def test_interactive_matches_loop_reference():
    random = np.random.default_rng(0)
    scores, groups = random.random(60), random.integers(0, 25, size=60)

    def share(threshold):
        passed = [
            all(s >= threshold for s, g in zip(scores, groups, strict=True) if g == group) for group in set(groups)
        ]
        return sum(passed) / len(passed)

    curve = [share(0.05 * i) for i in range(21)]
    found = interactive(scores, groups)
    assert found.iiou == pytest.approx(share(0.5))
    assert found.iauc == pytest.approx(sum((a + b) / 2 * 0.05 for a, b in itertools.pairwise(curve)))
    assert found.num_groups == len(set(groups.tolist()))
    assert interactive(scores, groups, at=0.2).iiou == pytest.approx(share(0.2))


def test_interactive_of_a_hand_made_table():
    found = interactive([1.0, 0.0, 1.0, 0.6, 0.9], ["a", "a", "b", "b", None])
    assert (found.iiou, found.num_groups) == (0.5, 2)
    assert found.iauc == pytest.approx((0.025 + 0.05 * 11.5) / 2)  # 0.6 fails 0.05 * 12 = 0.6000...01
    alone = interactive([0.5], ["only"])
    assert (alone.iiou, alone.num_groups) == (1, 1)


def test_curves_refuse():
    with pytest.raises(ValueError, match=r"scores must be \(N,\) and not empty"):
        success([])
    with pytest.raises(ValueError, match=r"scores must be \(N,\) and not empty, got shape \(2, 2\)"):
        auc(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="scores hold NaN or infinity in 1 of 2 rows"):
        auc([0.1, float("nan")])
    with pytest.raises(ValueError, match="groups hold 3 ids but there are 2 samples"):
        interactive([0.1, 0.2], [0, 0, 0])
    with pytest.raises(ValueError, match="groups name no group"):
        interactive([0.1, 0.2], [-1, None])
