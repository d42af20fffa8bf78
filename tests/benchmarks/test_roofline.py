"""Arithmetic, traffic and bounds of operations whose numbers are known, and the count of a small step."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "roofline.py"


@pytest.fixture(scope="module")
def roofline(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("roofline_trace")


@pytest.fixture
def traced(roofline: ModuleType) -> Callable[[Callable[[], Any]], list[Any]]:
    """Return ``traced(run)``: the operations that a function runs."""

    def trace(run: Callable[[], Any]) -> list[Any]:
        views = (torch.ops.aten.t.default, torch.ops.aten.view.default, torch.ops.aten.expand.default)
        found = roofline.Trace(lambda operation: operation not in views)
        with found.counting("step"):
            run()
        return found.operations

    return trace


def test_product_convolution_and_elementwise_have_their_known_numbers(traced: Callable[..., Any]) -> None:
    a, b = torch.zeros(64, 32), torch.zeros(32, 16)
    image, kernel = torch.zeros(2, 3, 8, 8), torch.zeros(5, 3, 3, 3)
    cases = {
        # name: (function, operations, bytes)
        "mm": (lambda: a @ b, 2 * 64 * 32 * 16, 4 * (64 * 32 + 32 * 16 + 64 * 16)),
        "convolution": (
            lambda: F.conv2d(image, kernel),
            2 * (2 * 5 * 6 * 6) * (3 * 3 * 3),
            4 * (2 * 3 * 8 * 8 + 5 * 27 + 2 * 5 * 6 * 6),
        ),
        "add": (lambda: torch.add(a, a), 0, 4 * 2 * 64 * 32),  # the same input is read once
        "mul_": (lambda: a.mul_(2), 0, 4 * 2 * 64 * 32),
        "fill_": (lambda: a.fill_(1), 0, 4 * 64 * 32),  # overwritten without being read
        "mul": (lambda: a * torch.zeros(1, 1).expand(64, 32), 0, 4 * (2 * 64 * 32 + 1)),
        "index_select": (lambda: a.index_select(0, torch.tensor([1, 2])), 0, 4 * 2 * 2 * 32 + 8 * 2),
        "_foreach_add_": (lambda: torch._foreach_add_([a, b], 1), 0, 4 * 2 * (64 * 32 + 32 * 16)),
    }
    for name, (run, flops, num_bytes) in cases.items():
        operation = traced(run)[-1]
        assert (operation.name, operation.flops, operation.num_bytes) == (name, flops, num_bytes), name


def test_views_run_no_kernel(traced: Callable[..., Any]) -> None:
    x = torch.zeros(4, 4)
    assert traced(lambda: x.t().t().expand(2, 4, 4)) == []


def test_batch_norm_reads_its_input_twice(roofline: ModuleType, traced: Callable[..., Any]) -> None:
    norm, x = nn.BatchNorm1d(1), torch.zeros(1000, 1)
    forward = [operation for operation in traced(lambda: norm(x)) if operation.name == "native_batch_norm"]
    assert [operation.second_reads for operation in forward] == [4000]
    assert 3 * 4000 <= forward[0].num_bytes <= 3 * 4000 + 100


def test_fused_run_reads_and_writes_once_and_ends_at_products(roofline: ModuleType, traced: Callable[..., Any]) -> None:
    x, weight = torch.zeros(100, 10), torch.zeros(10, 10)
    operations = traced(lambda: ((x + 1).relu_() * 2 @ weight).relu())
    assert [operation.name for operation in operations] == ["add", "relu_", "mul", "mm", "relu"]
    found = roofline.fused(operations, {"step"})
    assert [operation.name for operation in found] == ["fused", "mm", "relu"]
    assert found[0].num_bytes == 2 * 4000, "x is read, and the product of the run is written"
    assert roofline.fused(operations, set()) == operations
    with pytest.raises(ValueError, match="there are no parts"):
        roofline.fused(operations, {"another"})


def test_fused_run_writes_what_is_used_later_and_what_was_there_before(
    roofline: ModuleType, traced: Callable[..., Any]
) -> None:
    x, mean, weight = torch.zeros(100, 10), torch.zeros(10), torch.zeros(10, 10)

    def run() -> None:
        kept = x + 1
        mean.mul_(0.5)
        (kept * 2) @ weight
        kept.relu()

    first = roofline.fused(traced(run), {"step"})[0]
    assert first.num_bytes == 4 * (1000 + 10) + 4 * (1000 + 1000 + 10)


def test_bound_is_the_longer_of_arithmetic_and_traffic_of_each_kernel_and_of_launches(roofline: ModuleType) -> None:
    gpu = roofline.Gpu("a GPU", bf16_flops=100.0, tf32_flops=50.0, fp32_flops=10.0, bytes=10.0)

    def operation(name: str, flops: int, dtype: torch.dtype, num_bytes: int) -> Any:
        return roofline.Operation(name, "step", flops, dtype, {0: num_bytes}, {})

    cases = [
        (operation("mm", 200, torch.bfloat16, 10), 2.0),  # 200 / 100 and 10 / 10
        (operation("mm", 200, torch.float32, 10), 20.0),
        (operation("convolution", 200, torch.float32, 10), 4.0),
        (operation("add", 0, torch.bfloat16, 30), 3.0),
    ]
    for case, seconds in cases:
        assert gpu.seconds(case) == seconds
    operations = [case for case, _ in cases]
    found = roofline.bound(operations, gpu, launch_seconds=1.0)
    assert (found.matmul, found.memory, found.device) == (26.0, 6.0, 29.0)
    assert (found.launches, found.seconds) == (4.0, 29.0)
    assert roofline.bound(operations, gpu, launch_seconds=10.0).seconds == 40.0


def test_a_small_step_is_counted_on_the_pretended_accelerator() -> None:
    command = [sys.executable, str(SCRIPT), "--small", "--clips", "4", "--rows"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["variant"] for row in rows] == ["eager", "transforms fused", "all fused"]
    assert len({row["gflop"] for row in rows}) == 1, "fusing changes no product"
    for name in ("gbytes", "launches", "ms"):
        values = [row[name] for row in rows]
        assert values == sorted(values, reverse=True), name
    assert all(0 < row["share"] < 1 and row["clips"] == 4 for row in rows)
