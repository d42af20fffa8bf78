"""A thread that runs ahead keeps the order, passes errors on, and ends when it is closed."""

import threading
import time

import pytest

from avssl.core.ahead import Ahead


def test_items_come_in_order_a_limited_number_ahead():
    taken = []
    ahead = Ahead((taken.append(n) or n for n in range(9)), count=2)
    items = iter(ahead)
    assert next(items) == 0
    until = time.monotonic() + 20
    while len(taken) < 4 and time.monotonic() < until:
        time.sleep(0.001)
    assert taken == [0, 1, 2, 3]  # one taken, two waiting, one made
    assert list(items) == list(range(1, 9))
    ahead.close()
    assert "avssl-ahead" not in [thread.name for thread in threading.enumerate()]


def test_an_error_comes_after_the_items_before_it():
    def items():
        yield 1
        raise KeyError("no more")

    ahead = Ahead(items())
    found = iter(ahead)
    assert next(found) == 1
    with pytest.raises(KeyError, match="no more"):
        next(found)
    ahead.close()


def test_close_interrupts_a_wait_but_not_what_has_ended():
    wait, called = threading.Event(), []

    def interrupt():
        called.append(1)
        wait.set()

    def items():
        yield 1
        wait.wait()

    ahead = Ahead(items(), interrupt=interrupt)
    assert next(iter(ahead)) == 1
    ahead.close()
    assert called == [1]
    ended = Ahead(iter([1]), interrupt=interrupt)
    assert list(ended) == [1]
    ended.close()
    assert called == [1]
