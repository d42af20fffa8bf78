import numpy as np
import pytest
from scipy.stats import binomtest

from avssl.evaluation import (
    GroupScore,
    bootstrap_interval,
    group_gap,
    mean_and_deviation,
    mean_interval,
    mean_intervals,
    subgroup_scores,
    wilson_interval,
)


@pytest.mark.parametrize(
    ("successes", "n", "interval"),
    [
        # Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0000, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_wilson_gives_published_values(successes, n, interval):
    assert wilson_interval(successes, n) == pytest.approx(interval, abs=5e-5)


def test_wilson_by_hand():
    # z^2 = 1 at this confidence: 1 of 2 has the center (1 + 1/2) / 3 and the half width sqrt(1/2 + 1/4) / 3.
    low, high = wilson_interval(1, 2, confidence=0.6826894921370859)
    assert (low, high) == pytest.approx((0.5 - 0.75**0.5 / 3, 0.5 + 0.75**0.5 / 3))


def test_wilson_matches_scipy_for_every_count_of_small_n():
    successes, n = np.array([(s, n) for n in range(1, 12) for s in range(n + 1)]).T
    low, high = wilson_interval(successes, n, confidence=0.9)
    for i in range(len(n)):
        expected = binomtest(int(successes[i]), int(n[i])).proportion_ci(0.9, method="wilson")
        assert (low[i], high[i]) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_everything():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_wilson_broadcasts():
    low, high = wilson_interval([0, 5, 10], 10)
    assert low.shape == high.shape == (3,)
    assert (low[0], high[2]) == (0.0, 1.0)
    assert low[1] + high[1] == pytest.approx(1.0)


@pytest.mark.parametrize("successes_n", [(3, 2), (-1, 2), (float("nan"), 2), (0, float("inf"))])
def test_wilson_refuses_counts_that_cannot_be(successes_n):
    with pytest.raises(ValueError, match=r"successes must lie in \[0, n\]"):
        wilson_interval(*successes_n)


def test_wilson_refuses_confidence_of_one():
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 1"):
        wilson_interval(1, 2, confidence=1)


def test_repeated_rows_of_a_recording_do_not_narrow_the_interval():
    hits, owners = np.array([True, False] * 10), np.arange(20)
    once = mean_interval(hits.astype(float), owners)
    for times in (2, 10):
        repeated = mean_interval(np.repeat(hits, times), np.repeat(owners, times))
        assert np.diff(repeated)[0] == pytest.approx(np.diff(once)[0], abs=0.06)
        assert np.diff(mean_interval(np.repeat(hits, times), np.arange(20 * times)))[0] < 0.8 * np.diff(once)[0]


def test_two_recordings_give_any_share():
    """One of the 4 resamplings of two recordings takes the hits twice, another the misses twice."""
    assert mean_interval([True, True, False, False], ["a", "a", "b", "b"]) == (0.0, 1.0)
    assert mean_interval([3.0, 5.0, 4.0], ["a", "a", "a"]) == (4.0, 4.0)


def test_the_mean_of_recordings_of_several_lengths_is_over_rows():
    values, owners = np.array([1.0, 0.0, 0.0, 0.0]), np.array([0, 1, 1, 1])
    # Both, in either order: 1 of 4 rows; twice the first: 1; twice the second: 0.
    assert mean_interval(values, owners) == (0.0, 1.0)


def test_intervals_of_rows_that_are_recordings():
    hits = np.array([True, True, False])
    assert mean_interval(hits, range(3)) == wilson_interval(2, 3)
    assert mean_interval(hits.astype(float), range(3), 5) == bootstrap_interval(hits.astype(float), 5)
    columns = np.array([[1.0, 0.2], [0.0, 0.4], [1.0, 0.6]])
    for column, interval in zip(columns.T, mean_intervals(columns, range(3), 5), strict=True):
        assert tuple(interval) == pytest.approx(mean_interval(column, range(3), 5), abs=1e-12)


@pytest.mark.parametrize(("values", "owners"), [([1.0], [0, 1]), ([], []), ([np.nan], [0]), (1.0, 0)])
def test_mean_interval_refuses(values, owners):
    with pytest.raises(ValueError, match="values"):
        mean_interval(values, owners)


def test_subgroups_by_hand():
    correct = np.array([True, False, True, True, False, True])
    groups = ["10", "2", "2", None, "10", ""]
    found = subgroup_scores(correct, groups, range(6))
    assert list(found) == ["2", "10", "(none)"]
    assert found["2"] == GroupScore(2, 0.5, wilson_interval(1, 2))
    assert found["(none)"] == GroupScore(2, 1.0, wilson_interval(2, 2))
    assert group_gap(found) == ("(none)", "2", 0.5)


def test_subgroups_take_numbers_and_nan():
    found = subgroup_scores(np.array([1.0, 0.25, 1.0]), np.array([1.5, np.nan, 0.5]), range(3))
    assert {name: group.mean for name, group in found.items()} == {"0.5": 1.0, "1.5": 1.0, "(none)": 0.25}


def test_subgroups_resample_recordings_where_clips_share_them():
    rng = np.random.default_rng(0)
    hits = np.repeat(rng.random(20) < 0.5, 10)  # the clips of a recording have one score
    together, apart = (subgroup_scores(hits, ["a"] * 200, owners)["a"] for owners in (np.arange(200) // 10, range(200)))
    width = np.sqrt(0.25 / 20) * 2 * 1.96
    assert np.diff(together.interval)[0] == pytest.approx(width, rel=0.15)
    assert np.diff(apart.interval)[0] < 0.4 * width


def test_subgroups_add_up_to_the_whole():
    generator = np.random.default_rng(0)
    correct, groups = generator.random(50) < 0.6, generator.integers(4, size=50)
    found = subgroup_scores(correct, groups, range(50))
    assert sum(group.n for group in found.values()) == 50
    assert sum(group.n * group.mean for group in found.values()) == pytest.approx(correct.sum())


@pytest.mark.parametrize(("scores", "groups"), [([True], ["a", "b"]), ([], []), ([[True]], [["a"]]), ([np.nan], ["a"])])
def test_subgroups_refuse(scores, groups):
    with pytest.raises(ValueError, match="scores"):
        subgroup_scores(np.array(scores), groups, range(len(groups)))


def test_mean_and_deviation_of_folds():
    assert mean_and_deviation([0.5, 0.7, 0.9]) == pytest.approx((0.7, 0.2))  # ((.2² + 0 + .2²) / 2) ** .5
    assert mean_and_deviation([0.5]) == (0.5, 0.0)
    with pytest.raises(ValueError, match="values are empty"):
        mean_and_deviation([])
