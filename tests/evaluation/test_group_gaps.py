import numpy as np
import pytest
from scipy.stats import permutation_test

from avssl.evaluation import group_gaps


def test_group_gaps_match_scipy():
    scores = np.array([0.9, 0.8, 0.4, 0.7, 0.3, 0.2, 0.6, 0.1])
    found = group_gaps(scores, ["a"] * 4 + ["b"] * 4, range(8), num_resamples=4000)
    expected = permutation_test(
        (scores[:4], scores[4:]), lambda a, b: abs(a.mean() - b.mean()), alternative="greater", n_resamples=np.inf
    )
    assert found is not None
    assert found.gap == pytest.approx(0.4)
    assert found.against_rest == pytest.approx({"a": 0.4, "b": -0.4})
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.03)
    assert found.p_values["a"] == pytest.approx(2 * found.p_value)  # Holm over two equal tests


def test_group_gaps_keep_segments_of_a_recording_together():
    scores, groups = np.repeat([1, 1, 0, 0], 25), np.repeat(["a", "a", "b", "b"], 25)
    together = group_gaps(scores, groups, np.repeat(range(4), 25))
    apart = group_gaps(scores, groups, range(100))
    assert together is not None
    assert apart is not None
    assert together.p_value == pytest.approx(1 / 3, abs=0.05)  # 2 of 6 divisions of four recordings
    assert apart.p_value < 0.001
    assert apart.interval == (1, 1)


def test_group_gaps_without_a_gap_have_uniform_p_values():
    rng = np.random.default_rng(0)
    groups = np.arange(60) % 3
    found = [group_gaps(rng.normal(size=60), groups, range(60), i, num_resamples=99) for i in range(200)]
    assert np.mean([gaps.p_value for gaps in found if gaps]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([gaps.p_value <= 0.1 for gaps in found if gaps]) == pytest.approx(0.1, abs=0.07)


def test_group_gaps_need_two_groups_of_whole_recordings():
    assert group_gaps([1, 0], ["a", "a"], [0, 1]) is None
    assert group_gaps([1, 0, 1], ["a", "b", "b"], [0, 0, 1]) is None
    with pytest.raises(ValueError, match="finite"):
        group_gaps([1, np.nan], ["a", "b"], [0, 1])
