"""The search within lists against the exact one."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.divided_rows import Division
from avssl.objectives import CMA, MemoryRows, positive_sets
from avssl.objectives.divided_neighbors import divided_agreements
from avssl.objectives.inverted_lists import Lists, ListSearch
from avssl.objectives.neighbors import unit_memories

AGREEMENTS = ("consensus", "union", "video", "audio")


def _memories(num_rows: int, num_clusters: int, spread: float = 0.7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_rows)
    centers = torch.randn(2, num_clusters, 16, generator=generator)[:, torch.arange(num_rows) % num_clusters]
    video, audio = (centers + spread * torch.randn(2, num_rows, 16, generator=generator)).unbind()
    return video, audio


def _found(video: Tensor, audio: Tensor, num_positives: int, agreement: Any, lists: Lists | None) -> Tensor:
    return divided_agreements(video, audio, num_positives, agreement, Division(len(video), True), lists)


@pytest.mark.parametrize("agreement", AGREEMENTS)
@pytest.mark.parametrize("num_positives", [1, 8, 150])
def test_all_lists_hold_what_an_exact_search_finds(agreement: Any, num_positives: int) -> None:
    video, audio = _memories(900, num_clusters=30)
    expected = positive_sets(video, audio, num_positives, agreement)
    assert _found(video, audio, num_positives, agreement, None).equal(expected)
    assert _found(video, audio, num_positives, agreement, Lists(20, probes=20)).equal(expected)


def test_a_lower_cosine_is_found_behind_rows_of_higher_sums() -> None:
    """Rows 1 to 99 have the query's video and unlike audio: their sums are higher than row 100's, which agrees most."""
    angle = torch.full((101, 2), 0.02) * torch.arange(101)[:, None] / 100
    angle[1:100, 1] = 1.6
    angle[100] = 1.1
    video, audio = (torch.stack([x.cos(), x.sin()], dim=1) for x in angle.T)
    assert 2 * torch.tensor(1.1).cos() < 1 + torch.tensor(1.6).cos()
    assert positive_sets(video, audio, 1, "consensus")[0].item() == 100
    assert _found(video, audio, 1, "consensus", Lists(3, probes=3))[0].item() == 100


@pytest.mark.parametrize("agreement", AGREEMENTS)
def test_few_lists_hold_most_and_give_each_row_once_and_never_itself(agreement: Any) -> None:
    video, audio = _memories(1200, num_clusters=30)
    found, expected = (_found(video, audio, 8, agreement, lists) for lists in (Lists(30, probes=3), None))
    assert (found.diff(dim=1) > 0).all()
    assert not (found == torch.arange(1200)[:, None]).any()
    recall = (found[:, :, None] == expected[:, None]).any(dim=2).float().mean()
    assert 0.5 < recall < 1


def test_rows_whose_lists_are_short_are_searched_exactly() -> None:
    video, audio = _memories(60, num_clusters=30, spread=0.01)  # two rows a list
    search = ListSearch(unit_memories(video, audio, "video"), 5, "video", Lists(30, probes=1), 60)
    scores, rows = search.best(search.queries(torch.arange(60)), torch.arange(60))
    assert ((scores == -torch.inf) == ((rows < 0) | (rows == torch.arange(60)[:, None]))).all()
    assert (scores[:, -1] == -torch.inf).any()
    expected = positive_sets(video, audio, 5, "video")
    found = _found(video, audio, 5, "video", Lists(30, probes=1))
    assert found[scores[:, -1] == -torch.inf].equal(expected[scores[:, -1] == -torch.inf])


def test_lists_are_four_times_the_root_of_the_rows_unless_set() -> None:
    assert [Lists().count_for(number) for number in (1, 100, 10**8)] == [1, 40, 40_000]
    assert Lists(7).count_for(5) == 5
    search = ListSearch([F.normalize(torch.ones(50, 3), dim=1)], 2, "video", Lists(), 50)  # copies of one row
    assert len(search.centers) == 29


def test_cma_takes_its_positives_from_lists(tiny: Any) -> None:
    objective = tiny.make_objective("cma softmax", search="ivf", search_lists=2, search_probes=2)
    objective.on_epoch_start(1)
    expected = positive_sets(objective.bank.video, objective.bank.audio, 3, "consensus")
    assert objective.found.equal(expected)


def test_an_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    rows = MemoryRows.from_ids([str(number) for number in range(9)])
    with pytest.raises(ValueError, match=r"needs faiss: pip install 'avssl\[search\]'"):
        CMA(rows, 4, num_positives=2, search="ivf")
    CMA(rows, 4, num_positives=2)
