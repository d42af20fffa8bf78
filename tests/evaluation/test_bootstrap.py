import numpy as np
import pytest
import torch

from avssl.evaluation import bootstrap_interval, bootstrap_intervals


def test_interval_of_hits_is_close_to_the_normal_one():
    hits = np.arange(500) < 425
    low, high = bootstrap_interval(hits, seed=0)
    error = 1.96 * (0.85 * 0.15 / 500) ** 0.5
    assert low == pytest.approx(0.85 - error, abs=0.005)
    assert high == pytest.approx(0.85 + error, abs=0.005)


def test_interval_narrows_with_the_confidence_and_the_number():
    values = np.random.default_rng(0).normal(size=400)
    width = lambda v, c: np.diff(bootstrap_interval(v, 0, confidence=c))[0]  # noqa: E731
    assert width(values, 0.5) < width(values, 0.95)
    assert width(values, 0.95) == pytest.approx(2 * width(np.tile(values, 4), 0.95), rel=0.15)


def test_interval_is_a_function_of_the_seed_alone():
    values = torch.linspace(0, 1, 50)
    assert bootstrap_interval(values, 1) == bootstrap_interval(values, 1) != bootstrap_interval(values, 2)


def test_interval_of_a_constant_is_a_point():
    assert bootstrap_interval([0.25] * 10) == (0.25, 0.25)
    assert bootstrap_interval([0.5]) == (0.5, 0.5)


def test_intervals_of_columns_are_those_of_each_alone():
    values = np.random.default_rng(0).normal(size=(60, 3))
    together = bootstrap_intervals(values, 5)
    assert together.shape == (3, 2)
    for column, interval in zip(values.T, together, strict=True):
        assert interval == pytest.approx(bootstrap_interval(column, 5), abs=1e-12)
        generator = np.random.default_rng(5)
        means = [column[generator.integers(60, size=60)].mean() for _ in range(2000)]
        assert interval == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([], "at least one number"), ([0.0, float("nan")], "must be finite; 1 of them")],
)
def test_interval_refuses(values, reason):
    with pytest.raises(ValueError, match=reason):
        bootstrap_interval(values)


def test_intervals_refuse_other_shapes():
    with pytest.raises(ValueError, match=r"must be \(n, M\), got shape \(3,\)"):
        bootstrap_intervals([1.0, 2.0, 3.0])
