"""Rows are divided into parts by the manifest alone, so that it does not matter which process computes which."""

import numpy as np
import pytest

from avssl.core.manifest import Manifest
from avssl.data.row_parts import expected_windows, plan_parts
from avssl.data.sampling import ClipSampling, spaced_windows


@pytest.mark.parametrize(
    ("clips", "size", "spans"),
    [
        ([1] * 7, 3, [(0, 3), (3, 6), (6, 7)]),
        ([2, 2, 2], 3, [(0, 2), (2, 3)]),
        ([100, 1, 1, 100], 10, [(0, 1), (1, 4)]),
        ([5], 10, [(0, 1)]),
        ([], 10, []),
    ],
)
def test_a_part_ends_with_the_row_that_fills_it(clips, size, spans):
    assert plan_parts(np.array(clips), size) == spans


def test_windows_are_expected_where_they_are_placed():
    sampling, lengths = ClipSampling(), [0.5, 2.0, 2.6, 10.0, 61.3]
    rows = {"id": list("abcde"), "path": list("abcde"), "duration_seconds": lengths}
    expected = [len(spaced_windows(0.5, sampling, (0.0, x), (0.0, x))[0]) for x in lengths]
    found = expected_windows(Manifest.from_columns(rows, "."), sampling.audio_seconds, 0.5)
    assert found.tolist() == pytest.approx(expected, abs=1)
    spans = {"start_seconds": [0.0] * 5, "stop_seconds": lengths}
    by_span = {name: rows[name] for name in ("id", "path")} | spans
    assert expected_windows(Manifest.from_columns(by_span, "."), sampling.audio_seconds, 0.5).tolist() == found.tolist()


def test_rows_of_unknown_length_make_small_parts():
    rows = Manifest.from_columns({"id": ["a", "b"], "path": ["a", "b"], "duration_seconds": [None, 2.0]}, ".")
    assert expected_windows(rows, 2.0, 1.0).tolist() == [59, 1]
    assert expected_windows(rows.select(np.array([1])), 2.0, 1.0).tolist() == [1]


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan, 1e300])
def test_a_length_that_is_none_does_not_make_one_part_of_all(odd):
    columns = {"id": list("abc"), "path": list("abc"), "duration_seconds": [10.0, odd, 10.0]}
    windows = expected_windows(Manifest.from_columns(columns, "."), 2.0, 1.0)
    assert windows[0] == windows[2] == 9
    assert 1 <= windows[1] < 1000
