"""Arithmetic of the plan for many processes."""

import pytest

from avssl.core.exchanges import Exchange
from avssl.training.cluster_plan import passed_bytes, received_bytes


def test_exchanges_are_scaled_to_the_processes():
    own = Exchange(((4, 8), (4,)), (128, 32), has_grad=True)
    pairs = Exchange(((4, 4),), (64,), has_grad=False, is_pairs=True)
    fixed = Exchange(((1, 5),), (20,), has_grad=False)
    # 16 clips on each of 3 processes: 2 * 2 * 160 * 4, 2 * 16 * 16 * 4 and 2 * 20 bytes.
    assert received_bytes([own], 4, 16, 3) == 2560
    assert received_bytes([pairs], 4, 16, 3) == 2048
    assert received_bytes([fixed], 4, 16, 3) == 40
    # 16 clips that fetch 5 rows of 8 bytes each: two of three rows are kept by others.
    fetched = Exchange(((4, 5, 2),), (160,), has_grad=False, is_fetch=True)
    assert received_bytes([fetched], 4, 16, 3) == pytest.approx(640 * 2 / 3)


def test_shards_pass_weights_twice_and_gradients_once():
    assert passed_bytes(100, 60, 4, is_sharded=False) == 90
    assert passed_bytes(100, 60, 4, is_sharded=True) == 195
