"""Splits of recordings: grouped, stratified, deterministic, and independent of the order of the rows."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from avssl.core.errors import InputError
from avssl.data.splits import assign_splits


def per_class(splits, labels):
    return {
        label: Counter(split for split, other in zip(splits, labels, strict=True) if other == label) for label in labels
    }


def assign(groups, labels, shares=(0.8, 0.1, 0.1), **options):
    return assign_splits(np.array(groups), [f"{label}/{g}" for g, label in zip(groups, labels, strict=True)], labels,
                         shares, **options)  # fmt: skip


@pytest.mark.parametrize(
    ("count", "shares", "expected"),
    [
        (100, (0.8, 0.1, 0.1), (80, 10, 10)),
        (10, (0.8, 0.1, 0.1), (8, 1, 1)),
        (5, (0.8, 0.1, 0.1), (3, 1, 1)),
        (3, (0.8, 0.1, 0.1), (1, 1, 1)),
        (2, (0.8, 0.1, 0.1), (1, 0, 1)),
        (2, (0.4, 0.4, 0.2), (1, 0, 1)),
        (1, (0.1, 0.1, 0.8), (1, 0, 0)),
        (7, (0.5, 0, 0.5), (4, 0, 3)),
        (4, (1, 0, 0), (4, 0, 0)),
        (20, (0.6, 0.2, 0.2), (12, 4, 4)),
    ],
)
def test_each_class_is_divided_by_the_shares(count, shares, expected):
    labels = ["a"] * count + ["b"] * count
    splits = assign(range(2 * count), labels, shares)
    for found in per_class(splits, labels).values():
        assert tuple(found[name] for name in ("train", "val", "test")) == expected


def test_rows_of_a_recording_stay_together():
    groups = [number // 4 for number in range(80)]  # four segments each
    splits = assign(groups, ["a"] * 80)
    assert all(len(set(splits[start : start + 4])) == 1 for start in range(0, 80, 4))
    assert Counter(splits) == {"train": 64, "val": 8, "test": 8}


def test_the_seed_alone_decides():
    labels = ["a", "b"] * 20
    once, again, other = (assign(range(40), labels, seed=seed).tolist() for seed in (0, 0, 1))
    assert once == again != other
    order = np.random.default_rng(0).permutation(40)
    shuffled = assign(order.tolist(), [labels[k] for k in order])
    assert shuffled.tolist() == [once[k] for k in order]


def test_given_splits_are_kept_and_counted():
    given = ["test", None, "mine", *[None] * 7]
    splits = assign(range(10), ["a"] * 10, given=given)
    assert (splits[0], splits[2]) == ("test", "mine")
    assert Counter(splits) == {"train": 7, "val": 1, "test": 1, "mine": 1}
    copies = assign([0, 0, 1, 2], ["a"] * 4, given=["val", None, None, None])
    assert copies[1] == "val"


def test_recordings_of_two_classes_are_divided_on_their_own():
    groups, labels = [0, 0, 1, 2, 3], ["a", "b", "a", "b", None]
    splits = assign(groups, labels)
    assert splits[0] == splits[1] == "train"
    assert splits[4] == "train"


@pytest.mark.parametrize("shares", [(0.8, 0.1, 0.2), (0, 0.5, 0.5), (0.5, 0.5), (1.2, -0.1, -0.1)])
def test_shares_that_are_none_raise(shares):
    with pytest.raises(InputError, match="must be the shares of train, val and test, which sum to 1"):
        assign([0], ["a"], shares)
