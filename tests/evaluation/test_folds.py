import pytest

from avssl.evaluation import mean_and_deviation


def test_mean_and_deviation_of_folds():
    assert mean_and_deviation([0.5, 0.7, 0.9]) == pytest.approx((0.7, 0.2))  # ((.2² + 0 + .2²) / 2) ** .5
    assert mean_and_deviation([0.5]) == (0.5, 0.0)
    with pytest.raises(ValueError, match="values are empty"):
        mean_and_deviation([])
