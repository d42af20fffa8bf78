from itertools import pairwise

import numpy as np
import pytest

from avssl.core.manifest import Manifest
from avssl.data.splits import held_out_rows, label_subset

IDS = [f"clip{i:03d}" for i in range(100)]
LABELS = ["a"] * 60 + ["b"] * 30 + ["c"] * 10


def test_every_class_gets_the_same_number():
    keep = label_subset(IDS, LABELS, per_class=5)
    assert [int(keep[np.array(LABELS) == name].sum()) for name in "abc"] == [5, 5, 5]


def test_fraction_is_rounded_half_up_and_never_to_nothing():
    def counts(fraction):
        keep = label_subset(IDS, LABELS, fraction=fraction)
        return [int(keep[np.array(LABELS) == name].sum()) for name in "abc"]

    assert counts(0.25) == [15, 8, 3]  # 7.5 and 2.5
    assert counts(0.01) == [1, 1, 1]
    assert counts(1.0) == [60, 30, 10]


def test_larger_subsets_contain_the_smaller_ones():
    subsets = [label_subset(IDS, LABELS, per_class=n) for n in (1, 2, 5, 10)]
    subsets.append(label_subset(IDS, LABELS, fraction=1.0))
    for small, large in pairwise(subsets):
        assert not (small & ~large).any()
    tenth = label_subset(IDS, LABELS, fraction=0.1)  # 6, 3 and 1
    assert not (label_subset(IDS, LABELS, per_class=1) & ~tenth).any()


def test_choice_depends_on_seed_and_id_alone():
    keep = label_subset(IDS, LABELS, per_class=4, seed=7)
    chosen = {IDS[i] for i in np.flatnonzero(keep)}
    order = np.random.default_rng(0).permutation(100)
    moved = label_subset(np.array(IDS)[order], np.array(LABELS)[order], per_class=4, seed=7)
    assert {IDS[i] for i in order[moved]} == chosen
    fewer = label_subset(IDS[60:], LABELS[60:], per_class=4, seed=7)  # without class a
    assert {IDS[60 + i] for i in np.flatnonzero(fewer)} == {name for name in chosen if name >= "clip060"}
    assert {IDS[i] for i in np.flatnonzero(label_subset(IDS, LABELS, per_class=4, seed=8))} != chosen


def test_every_row_is_chosen_equally_often():
    times = sum(label_subset(IDS, LABELS, per_class=5, seed=seed).astype(int) for seed in range(400))
    assert abs(times[60:90].mean() - 400 * 5 / 30) < 1e-9
    assert times[60:90].std() < 3 * np.sqrt(400 * (1 / 6) * (5 / 6))
    assert times[60:90].min() > 30


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_class": 11}, "11 labels per class, but the class 'c' has only 10 rows"),
        ({"per_class": 0}, r"labels per class \(0\) must be at least 1"),
        ({"fraction": 1.5}, r"label fraction \(1.5\) must be in \(0, 1\]"),
        ({}, "either per_class or fraction"),
        ({"per_class": 1, "fraction": 0.5}, "either per_class or fraction"),
    ],
)
def test_impossible_subsets_raise(options, message):
    with pytest.raises(ValueError, match=message):
        label_subset(IDS, LABELS, **options)


def test_ids_and_labels_must_go_together():
    with pytest.raises(ValueError, match="100 ids and 99 labels"):
        label_subset(IDS, LABELS[1:], per_class=1)


def manifest(files, segments=1):
    rows = [(f"{file}#{part}", file) for file in files for part in range(segments)]
    return Manifest.from_columns({"id": [r[0] for r in rows], "path": [r[1] for r in rows]}, "/videos")


def chosen(of, most):
    return {of["id"][row] for row in np.flatnonzero(held_out_rows(of, most))}


def test_number_of_rows_is_exact_in_any_order():
    files = [f"{number}.mp4" for number in range(500)]
    assert len(chosen(manifest(files), 25)) == 25
    assert chosen(manifest(files), 25) == chosen(manifest(files[::-1]), 25)
    assert chosen(manifest(files), 25) < chosen(manifest(files), 50)
    assert chosen(manifest(files), 0) == set()


def test_files_are_held_out_whole():
    of = manifest([f"{number}.mp4" for number in range(50)], segments=4)
    keep = held_out_rows(of, 11)
    assert keep.sum() == 8  # two files; a third would make 12
    assert set(of["path"][keep]).isdisjoint(of["path"][~keep])


def test_removing_a_file_replaces_only_that_file():
    """One other file is held out instead, and nothing else changes."""
    files = [f"{number}.mp4" for number in range(100)]
    whole = chosen(manifest(files), 10)
    gone = sorted(whole)[0].removesuffix("#0")
    without = chosen(manifest([name for name in files if name != gone]), 10)
    assert len(whole & without) == 9


def test_a_file_with_too_many_rows_is_skipped():
    rows = [("long.mp4#" + str(part), "long.mp4") for part in range(30)] + [(f"{n}.mp4", f"{n}.mp4") for n in range(10)]
    of = Manifest.from_columns({"id": [r[0] for r in rows], "path": [r[1] for r in rows]}, "/videos")
    keep = held_out_rows(of, 5)
    assert keep.sum() == 5
    assert "long.mp4" not in set(of["path"][keep])
