"""The ordinary step and ours: the same work, and a table that says whether the default wins."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from avssl.engine import Precision, all_precisions

FP32, _, _, BF16, _, BF16_VIEWS = all_precisions()


@pytest.fixture
def reference(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("reference_step")


def test_both_ways_do_the_same_work_in_every_format(reference: ModuleType) -> None:
    config = reference.step_config(2, 32, 2)
    batch, device = reference.made_up_batch(config, 2), torch.device("cpu")
    for precision in (FP32, BF16_VIEWS):
        flops, losses = [], []
        for build in (reference.ordinary_step, reference.our_step):
            step = build(config, batch, precision, device)
            losses.append(step())
            with FlopCounterMode(display=False) as counter:
                step()
            counts = counter.get_flop_counts()["Global"]
            flops.append(sum(n for name, n in counts.items() if "conv" in str(name)))
        assert flops[1] == pytest.approx(flops[0], rel=0.01), precision
        assert all(0 < loss < 10 for loss in losses)


WITH_UNITS = "Aim: at least 2 times, as there are bf16 units (AMX);"


@pytest.mark.parametrize(
    ("chosen", "units", "words"),
    [
        (BF16, ["AMX"], f"in fp32 contiguous, 2.00 times in CPU seconds. {WITH_UNITS} met."),
        (FP32, ["AMX"], f"{WITH_UNITS} missed. Another format of ours takes 500 ms."),
        (FP32, [], "1.00 times in CPU seconds. Aim: not to lose by more than 3%; met."),
    ],
)
def test_the_table_says_whether_the_default_wins(
    reference: ModuleType, chosen: Precision, units: list[str], words: str
) -> None:
    wall = {("ordinary", precision): 2.0 for precision in all_precisions()}
    wall |= {("avssl", precision): 2.0 for precision in all_precisions()}
    cpu = wall | {("avssl", BF16): 1.0}
    text = reference.table(wall | {("avssl", BF16): 0.5}, cpu, chosen, units)
    assert "| 2000 | 500 | 4.00 | 2.00 | 4.00 | 2.00 |" in text
    assert f"**{chosen}**, the choice of `auto`" in text
    assert words in text
