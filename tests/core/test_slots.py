"""Answers in slots of shared memory are those of a pipe; slots are used again, and too large answers go another way."""

import gc

import numpy as np
import pytest
import torch

from avssl.core.parallel import Interrupt, Interrupted, parallel_map
from avssl.core.slots import Slots, allocate

KIB = 1024


def numbers(job):
    """Return an array made in the slot, one that is copied there, a view with gaps, and an empty one."""
    length, value = job
    memory = allocate(8 * length)
    made = np.full(length, value) if memory is None else np.frombuffer(memory, np.int64)
    made[:] = value
    ordinary = torch.arange(2 * length) + value
    return made, ordinary, ordinary[::2], torch.empty(0, 3), "text"


def check(answer, length, value):
    made, ordinary, gaps, empty, text = answer
    assert (made == value).all()
    assert len(made) == length
    assert torch.equal(ordinary, torch.arange(2 * length) + value)
    assert torch.equal(gaps, ordinary[::2])
    assert (empty.shape, text) == ((0, 3), "text")


@pytest.mark.parametrize("start_method", ["fork", "forkserver"])
def test_answers_lie_in_slots_that_are_used_again(start_method):
    slots = Slots(5, 64 * KIB)
    jobs = [(50 + n, n) for n in range(12)]
    results = parallel_map(numbers, jobs, num_workers=1, slots=slots, start_method=start_method)
    for job, answer in zip(jobs, results, strict=True):
        check(answer, *job)
    assert slots.num_spilled == 0
    del answer
    assert sorted(slots.take() for _ in range(5)) == [0, 1, 2, 3, 4]
    assert slots.take() is None


def test_what_does_not_fit_goes_another_way_and_is_counted():
    slots = Slots(8, 4 * KIB)
    jobs = [(10, 1), (1000, 2), (129, 3), (128, 4)]  # four times as many numbers of 8 bytes
    for job, answer in zip(jobs, parallel_map(numbers, jobs, num_workers=2, slots=slots), strict=True):
        check(answer, *job)
    assert slots.num_spilled == 2
    del answer
    assert sorted(slots.take() for _ in range(8)) == list(range(8))


def test_a_slot_is_not_written_while_a_part_of_an_answer_is_in_use():
    slots = Slots(2, 64 * KIB)
    jobs = [(50, n) for n in range(20)]
    kept = [answer[2][3:4] for answer in parallel_map(numbers, jobs, num_workers=1, ahead=1, slots=slots)]
    assert torch.cat(kept).tolist() == [6 + n for n in range(20)]
    assert slots.num_spilled == 18  # none is free again


def test_answers_without_arrays_need_no_slot():
    slots = Slots(1, KIB)
    assert list(parallel_map(str, range(5), num_workers=1, slots=slots)) == list("01234")
    assert (slots.take(), slots.num_spilled) == (0, 0)


def test_memory_of_a_slot_outlives_the_slots():
    slots = Slots(1, KIB)
    assert slots.take() == 0
    part = np.frombuffer(slots.lend(0), np.uint8)[:10]
    part[:] = 7
    del slots
    gc.collect()
    assert part.sum() == 70


def test_an_interrupt_ends_the_wait():
    interrupt = Interrupt()
    results = parallel_map(str, range(3), num_workers=1, interrupt=interrupt)
    assert next(results) == "0"
    interrupt.set()
    with pytest.raises(Interrupted):
        list(results)
