"""Arithmetic of CMA's searches."""

import pytest

from avssl.objectives.inverted_lists import Lists
from avssl.training.search_plan import Corpus, exact_cost, list_cost


def test_an_exact_search_by_hand() -> None:
    divided = exact_cost(Corpus(1000, 4, 16, 2, 5, is_divided=True))
    assert divided.operations == 2 * 1000 * 1000 * 32
    assert divided.hours == pytest.approx(divided.operations / 4 / 1e14 / 3600)
    # 750 rows of 32 numbers in float32 with their own number, and 5 scores and rows of 250 from three others.
    assert divided.received_bytes == 750 * (32 * 4 + 8) + 250 * 5 * 12 * 3
    block = 2**28 * 2 * 2
    assert divided.memory_bytes - block == 250 * 32 * 6
    whole = exact_cost(Corpus(1000, 4, 16, 2, 5, is_divided=False))
    assert (whole.received_bytes, whole.memory_bytes - block) == (750 * 5 * 8, 1000 * 32 * 6)
    assert exact_cost(Corpus(1000, 1, 16, 1, 5, is_divided=True)).received_bytes == 0


def test_a_search_within_lists_by_hand() -> None:
    corpus = Corpus(1000, 4, 16, 2, 5, is_divided=True)
    cost = list_cost(corpus, Lists(50, probes=10))
    lists, compared, centers = 2 * 1000 * 50 * 32, 2 * 1000 * 10 * 20 * 32, 2 * 40 * 50 * 50 * 32 * 10
    assert cost.operations == 2 * lists + compared + centers
    sample = 40 * 50 * 32 * 4
    assert cost.received_bytes == 750 * (32 * 4 + 8 + 4 * 10) + 250 * 5 * 12 * 3 + sample * 3 / 4
    assert cost.memory_bytes == 250 * (2 * 32 * 4 + 8) + sample
    assert list_cost(corpus, Lists(50, probes=10), 2).operations - cost.operations == compared
    # Many rows: far fewer operations than the exact product.
    many = Corpus(10**8, 64, 128, 2, 32, is_divided=True)
    assert list_cost(many, Lists()).operations < exact_cost(many).operations / 100
