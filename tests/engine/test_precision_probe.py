"""Choice of the fastest precision, with a clock that the tests move."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from avssl.engine import Precision, all_precisions, probe_precision
from avssl.engine import precision_probe as module
from avssl.engine.precision_probe import Trial

FP32, FP32_LAST, _, BF16, BF16_LAST, _ = all_precisions()


@pytest.fixture
def trial_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Trial]:
    """Return ``trial_of(seconds)``: a trial whose steps take the seconds of ``seconds(precision, number)``."""
    clock = {"now": 0.0}
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock["now"])

    def build(seconds: Callable[[Precision, int], float]) -> Trial:
        counts = dict.fromkeys(all_precisions(), 0)

        @contextmanager
        def trial(precision: Precision) -> Iterator[Callable[[], None]]:
            clock["now"] += 100.0  # of rearranging kernels: not timed

            def step() -> None:
                clock["now"] += seconds(precision, counts[precision])
                counts[precision] += 1

            yield step

        return trial

    return build


def test_probe_takes_the_fastest_and_skips_candidates_that_fail(trial_of: Callable[..., Trial]) -> None:
    cost = {FP32: 3.0, FP32_LAST: 2.0, BF16: 1.0}

    def seconds(precision: Precision, number: int) -> float:
        if precision not in cost:
            raise NotImplementedError("no kernel")
        return cost[precision]

    times = probe_precision([FP32, FP32_LAST, BF16, BF16_LAST], trial_of(seconds))
    assert times.fastest == BF16
    assert times.seconds == {**cost, BF16_LAST: float("inf")}
    numbers = "bf16 contiguous 1000 ms, fp32 channels_last 2000 ms, fp32 contiguous 3000 ms"
    assert str(times) == f"{numbers}, bf16 channels_last does not run"


def test_the_first_step_and_a_busy_machine_decide_nothing(trial_of: Callable[..., Trial]) -> None:
    """Another program slows down two of the fastest candidate's three steps; its warm-up takes long too."""
    slow = {(BF16_LAST, 0): 50.0, (BF16_LAST, 1): 9.0, (BF16_LAST, 2): 9.0}

    def seconds(precision: Precision, number: int) -> float:
        return slow.get((precision, number), 2.0 if precision == BF16_LAST else 4.0)

    assert probe_precision(all_precisions(), trial_of(seconds)).fastest == BF16_LAST


def test_candidates_take_turns(trial_of: Callable[..., Trial]) -> None:
    order = []

    def seconds(precision: Precision, number: int) -> float:
        order.append(precision)
        return 1.0

    times = probe_precision([FP32, BF16], trial_of(seconds), num_rounds=2)
    assert order == [FP32, FP32, BF16, BF16, FP32, BF16]
    assert times.fastest == FP32, "the first wins a tie"


def test_probe_fails_when_nothing_runs(trial_of: Callable[..., Trial]) -> None:
    def no_kernel(precision: Precision, number: int) -> float:
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="fp32 contiguous: no such kernel"):
        probe_precision([FP32], trial_of(no_kernel))

    error = torch.OutOfMemoryError("CUDA out of memory.")

    def no_memory(precision: Precision, number: int) -> float:
        raise error

    with pytest.raises(torch.OutOfMemoryError) as caught:
        probe_precision([FP32], trial_of(no_memory))
    assert caught.value is error
