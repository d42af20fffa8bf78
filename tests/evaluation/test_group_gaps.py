import itertools

import numpy as np
import pytest
from scipy.stats import permutation_test

from avssl.evaluation import group_gaps, untestable

SCORES = np.array([0.9, 0.8, 0.4, 0.7, 0.3, 0.2, 0.6, 0.1])


def test_group_gaps_match_scipy():
    found = group_gaps(SCORES, ["a"] * 4 + ["b"] * 4, range(8), fewest=2)
    expected = permutation_test(
        (SCORES[:4], SCORES[4:]), lambda a, b: abs(a.mean() - b.mean()), alternative="greater", n_resamples=np.inf
    )
    assert found.gap == pytest.approx(0.4)
    assert found.against_rest == pytest.approx({"a": 0.4, "b": -0.4})
    assert found.p_value == pytest.approx(expected.pvalue)  # all 70 divisions are listed
    assert found.p_values["a"] == pytest.approx(2 * found.p_value)  # Holm over two equal tests
    assert found.rest_intervals["a"] == pytest.approx(found.interval)
    drawn = group_gaps(SCORES, ["a"] * 4 + ["b"] * 4, range(8), fewest=2, num_resamples=69)
    assert drawn.p_value == pytest.approx(expected.pvalue, abs=0.08)


def test_three_groups_match_an_enumeration():
    groups = np.array(list("aabbbcc"))
    scores = np.array([3.0, 4.0, 1.0, 0.0, 2.0, 2.0, 2.5])

    def gap(order):
        means = [scores[order == name].mean() for name in "abc"]
        return max(means) - min(means)

    gaps = [gap(np.array(order)) for order in set(itertools.permutations(groups))]
    assert len(gaps) == 210
    found = group_gaps(scores, groups, range(7), fewest=2)
    assert found.gap == pytest.approx(2.5)  # 3.5 of a over 1 of b
    assert found.p_value == pytest.approx(np.mean(np.array(gaps) >= 2.5 - 1e-9))


def test_group_gaps_keep_segments_of_a_recording_together():
    scores, groups = np.repeat([1, 1, 0, 0], 25), np.repeat(["a", "a", "b", "b"], 25)
    together = group_gaps(scores, groups, np.repeat(range(4), 25), fewest=2)
    apart = group_gaps(scores, groups, range(100))
    assert together.p_value == pytest.approx(1 / 3)  # 2 of 6 divisions of four recordings
    assert apart.p_value < 0.001
    assert apart.interval == (1, 1)


def test_group_gaps_without_a_gap_have_uniform_p_values():
    rng = np.random.default_rng(0)
    groups = np.arange(60) % 3
    found = [group_gaps(rng.normal(size=60), groups, range(60), i, num_resamples=99) for i in range(200)]
    assert np.mean([gaps.p_value for gaps in found]) == pytest.approx(0.5, abs=0.08)
    assert np.mean([gaps.p_value <= 0.1 for gaps in found]) == pytest.approx(0.1, abs=0.07)
    covered = [low <= 0 <= high for gaps in found for low, high in gaps.rest_intervals.values()]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.05)


@pytest.mark.parametrize(
    ("groups", "recordings", "reason"),
    [
        (["a", "a"], [0, 1], "all clips are of one group, 'a'"),
        (["a", "b", "b"], [0, 0, 1], "1 recording holds clips of several groups"),
        (["a"] * 6 + ["b"], range(7), r"at least 5 recordings of each group are needed, .* fewer of 'b' \(1\)"),
    ],
)
def test_groups_that_cannot_be_exchanged_are_named(groups, recordings, reason):
    with pytest.raises(ValueError, match=f"no test of the gap: .*{reason}"):
        group_gaps(np.ones(len(groups)), groups, recordings)


def test_wrong_scores_raise():
    assert untestable(["a", "b"], [0, 1], fewest=1) == ""
    with pytest.raises(ValueError, match="finite"):
        group_gaps([1, np.nan], ["a", "b"], [0, 1])
    with pytest.raises(ValueError, match=r"must be \(N,\)"):
        group_gaps([1, 2], ["a"], [0])
