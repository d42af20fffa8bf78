import numpy as np
import pytest

from avssl.data.splits.folds import leave_one_fold_out
from avssl.evaluation import mean_and_deviation


def test_each_fold_is_tested_once_against_all_others():
    folds = leave_one_fold_out(["2", "1", "10", "1", "2"])
    assert [fold.name for fold in folds] == ["1", "2", "10"]
    assert [fold.test.tolist() for fold in folds] == [[1, 3], [0, 4], [2]]
    for fold in folds:
        assert sorted([*fold.train, *fold.test]) == [0, 1, 2, 3, 4]


def test_mean_and_deviation_of_folds():
    assert mean_and_deviation([0.5, 0.7, 0.9]) == pytest.approx((0.7, 0.2))  # ((.2² + 0 + .2²) / 2) ** .5
    assert mean_and_deviation([0.5]) == (0.5, 0.0)


def test_missing_folds_are_named():
    with pytest.raises(ValueError, match="2 of 4 rows have no fold, the first is row 1"):
        leave_one_fold_out(np.array(["1", None, "2", ""], dtype=object))
    with pytest.raises(ValueError, match="at least two folds, got 1"):
        leave_one_fold_out(["1", "1"])
    with pytest.raises(ValueError, match="values are empty"):
        mean_and_deviation([])
