"""Arithmetic of the cluster plan, with numbers that can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def plan(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("cluster_plan")


def cluster(plan: ModuleType, **changes: Any) -> Any:
    options = {name[2:].replace("-", "_"): default for name, (default, _) in plan.OPTIONS.items()}
    return plan.Cluster(**options | {"variant": "eager", "of_bound": 0.5} | changes)


def counted(plan: ModuleType, **changes: Any) -> Any:
    numbers = {"flops": 40 * 10**9, "bound_seconds": 0.01, "share": 0.2, "parameters": 25 * 10**6}
    sizes = {"state_bytes": 4 * 10**8, "activation_bytes": 10**10, "bank_bytes": 10**9, "clip_bytes": 10**6}
    return plan.Counted(**numbers | sizes | changes)


def test_a_sum_over_all_gpus_passes_nvlink_and_each_gpus_port(plan: ModuleType) -> None:
    within, between = 2 * 7 / 8 * 1e9 / 450e9, 2 * 7 / 8 * 1e9 / 8 / 50e9
    assert plan.all_reduce_seconds(1e9, cluster(plan)) == pytest.approx(within + between)
    assert plan.all_reduce_seconds(1e9, cluster(plan, nodes=1)) == pytest.approx(within)
    assert plan.all_reduce_seconds(1e9, cluster(plan, nodes=1, gpus=1)) == 0


def test_hours_and_shares_follow_from_the_step(plan: ModuleType) -> None:
    run = plan.replace(plan._runs()["avid"], rows=2_560_000, epochs=18)
    text = plan.describe(run, counted(plan), cluster(plan))
    # 40 clips x 64 GPUs: 1000 steps an epoch, 18 000 in all, of 0.01 / 0.5 = 0.02 s.
    assert "| **time** | **0.1 h, 6.4 GPU hours** |" in text
    assert "2000 clips/s a GPU, 128000 in all" in text
    assert "20.0 ms at 50% of it (10%)" in text
    found = {x.name: x for x in plan.resources(run, counted(plan), cluster(plan, decode_ms_per_frame=1.0, cores=72))}
    assert found["decoding"].needed == pytest.approx(8 * 2000 * 8 / 1000), "16 000 clips/s of 8 frames of 1 ms"
    assert found["decoding"].used == pytest.approx(2.0), "of 64 cores beside one for each GPU"
    assert found["GPU memory"].needed == pytest.approx(0.4 + 10 + 1)
    assert found["transfer"].needed == pytest.approx(40 * 1e6 / 0.02 / 1e9)
    assert found["feeding"].used == pytest.approx(found["transfer"].needed / 5)
    row_bytes = 567 * 2**20 / 360
    assert found["reading"].needed == pytest.approx(16_000 * row_bytes * 0.25 / 1e9), "2.5 of 10 s"
    assert found["local copy"].needed == pytest.approx(2_560_000 * row_bytes / 1e12)


def test_the_scarcest_resource_breaks_first(plan: ModuleType) -> None:
    run = plan._runs()["avid"]
    ample = {"disk_tb": 1000, "storage_gb_s": 1000}
    text = plan.describe(run, counted(plan, activation_bytes=200 * 10**9), cluster(plan, **ample))
    assert "First to break: GPU memory, at 143%; " in text
    roomy = cluster(plan, **ample, cores=1000)
    assert plan.describe(run, counted(plan), roomy).endswith("all suffice.")


def test_every_option_has_a_source(plan: ModuleType) -> None:
    words = ("https://", "measured by", "an assumption", "Machines.")
    assert [name for name, (_, text) in plan.OPTIONS.items() if not any(word in text for word in words)] == []
