import threading

import pytest

from avssl.core.errors import InputError
from avssl.media import prefetch


def counted(log, stop=100, fail_at=None):
    try:
        for number in range(stop):
            if number == fail_at:
                raise OSError(f"at {number}")
            log.append(number)
            yield number
    finally:
        log.append("closed")


def test_items_come_in_order_and_the_generator_is_closed():
    log = []
    assert list(prefetch(counted(log, 20), 3)) == list(range(20))
    assert log == [*range(20), "closed"]


def test_it_runs_ahead_in_a_thread_of_its_own_but_not_far():
    log, threads = [], set()

    def noted():
        for number in counted(log):
            threads.add(threading.current_thread())
            yield number

    items = prefetch(noted(), 3)
    for number in range(50):
        assert next(items) == number
        assert len(log) <= number + 1 + 3 + 1  # given, waiting, and one in hand
    items.close()
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert not threads.pop().is_alive()
    assert log[-1] == "closed"
    assert len(log) < 60


def test_errors_are_raised_at_their_place():
    items = prefetch(counted([], fail_at=2), 8)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(OSError, match="at 2"):
        next(items)


@pytest.mark.parametrize("count", [0, -1])
def test_a_queue_without_a_limit_is_an_error_before_anything_starts(count):
    log, threads = [], threading.active_count()
    with pytest.raises(InputError, match=f"count must be at least 1 item, got {count}"):
        prefetch(counted(log), count)
    assert log == []
    assert threading.active_count() == threads
