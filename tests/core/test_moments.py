"""Moments of maps: the ranges of steps of each cell are those of the matched moments."""

from __future__ import annotations

import pytest
import torch

from avssl.core.moments import matched_moments, mean_by_cell, steps_by_cell


@pytest.mark.parametrize("num_cells", [1, 2, 5, 8])
@pytest.mark.parametrize("num_steps", [1, 3, 5, 13])
def test_ranges_of_steps_are_those_of_the_moments(num_cells: int, num_steps: int) -> None:
    cell, step = matched_moments(num_cells, num_steps)
    ranges = steps_by_cell(num_cells, num_steps)
    assert [step[cell == number].tolist() for number in range(num_cells)] == [
        list(range(num_steps))[own] for own in ranges
    ]
    values = torch.rand(len(cell), 3)
    expected = torch.stack([values[cell == number].mean(dim=0) for number in range(num_cells)])
    torch.testing.assert_close(mean_by_cell(values, cell, num_cells), expected)
