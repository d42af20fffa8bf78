"""Print how fast a GPU can train at most: the roofline of a step, counted without a GPU and without computing anything.

    python benchmarks/roofline.py                 all cases of benchmarks/gpu.py, 128 clips a step
    python benchmarks/roofline.py --parts         and each part of a step
    python benchmarks/roofline.py --rows          the same as JSON lines

A step in bf16 with channels last runs on a pretended accelerator (tests/accelerator): transforms of raw planes, both
networks, InfoNCE, backward pass and optimizer. Its kernels are timed by the data sheet of an H200, as
roofline_trace.py describes. "eager" has a kernel for each operation; in "transforms fused" all that lies between two
products of the transforms is one kernel, and in "all fused" so is BatchNorm, ReLU, addition and the like between two
products of the networks. Attention is one fused kernel throughout. --launch-us is the time of the host for a kernel, an
assumption. Each time is a lower bound and each share of the ceiling an upper one: measurements come from
benchmarks/gpu.py, which prints these bounds beside them. The share is that of the ceiling of bf16 products which the
operations of the networks reach; those of the transforms, in float32, are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "tests" / "accelerator"))

import pretend
import torch
from gpu_plan import FULL, SMALL, Case
from roofline_trace import H200, Bound, Operation, Trace, bound, fused
from torch import Tensor

from avssl.config import Config
from avssl.core.batch import Batch, BatchIndex
from avssl.engine import Precision
from avssl.training.build import build_optimizer, build_sampling, build_task

LAUNCH_MICROSECONDS = 5.0
CLIPS = 128
NETWORKS = {"video forward", "audio forward", "heads and loss", "backward"}
VARIANTS: dict[str, set[str]] = {
    "eager": set(),
    "transforms fused": {"transforms"},
    "all fused": {"transforms", *NETWORKS},
}


@dataclass(frozen=True)
class Step:
    """Operations of a training step."""

    case: Case
    clips: int
    operations: list[Operation]

    def row(self, variant: str, launch_seconds: float) -> dict[str, Any]:
        """Return the numbers of a variant."""
        found = bound(fused(self.operations, VARIANTS[variant]), H200, launch_seconds)
        network_flops = sum(operation.flops for operation in self.operations if operation.part != "transforms")
        share = network_flops / H200.bf16_flops / found.seconds
        key = {"what": "bound", "pair": self.case.pair, "clip": self.case.clip, "clips": self.clips}
        return key | {"variant": variant} | numbers(found) | {"share": share}


def accelerator() -> list[torch.library.Library]:
    """Register the pretended accelerator, with attention as one kernel; keep what is returned while it is used."""
    attention = torch.library.Library("aten", "IMPL")
    attention.impl("scaled_dot_product_attention", _flash_attention, "AutogradPrivateUse1")
    return [*pretend.register(), attention]


def _flash_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None or enable_gqa:
        raise NotImplementedError("attention with a mask is not counted.")
    flash = torch.ops.aten._scaled_dot_product_flash_attention.default
    return flash(query, key, value, dropout_p, is_causal, scale=scale)[0]


def raw_batch(config: Config, clips: int) -> Batch:
    """Return frames of 4:3 as planes and audio, without values, as the loader gives them."""
    sampling, empty = build_sampling(config), partial(torch.empty, device=pretend.DEVICE)
    height, width = sampling.short_side or 0, (sampling.short_side or 0) * 4 // 3
    shape, key = (clips, sampling.num_frames), empty(clips, dtype=torch.int64)
    return Batch(
        empty(*shape, 1, height, width, dtype=torch.uint8),
        empty(clips, sampling.num_samples),
        BatchIndex(key, key, key),
        empty(clips, 2, dtype=torch.int64),
        empty(*shape, 2, (height + 1) // 2, (width + 1) // 2, dtype=torch.uint8),
    )


def trace_step(case: Case, clips: int) -> Step:
    """Return the operations of a step in which all that is computed once has been computed."""
    config = case.config(clips)
    task = build_task(config).train()
    standardize = task.transform.standardize
    standardize.set_statistics(torch.zeros_like(standardize.mean), torch.ones_like(standardize.mean))
    assert standardize.is_ready  # read once, not in every step
    trace = Trace(pretend.is_launch)
    trace.count_calls(task.transform, "transforms")
    trace.count_calls(task.model.video_encoder, "video forward")
    trace.count_calls(task.model.audio_encoder, "audio forward")
    with pretend.FakeTensorMode(allow_non_fake_inputs=True):
        for module in {task, *task.networks()}:
            pretend.move(module)
        batch, optimizer = raw_batch(config, clips), build_optimizer(config, task)
        with Precision("bf16", "channels_last").applied_to(task, pretend.DEVICE):
            for _ in range(3):  # the first notes which random numbers the second makes and keeps
                trace.operations.clear()
                with trace.counting("heads and loss"):
                    terms = task(batch)
                with trace.counting("backward"):
                    terms.total.backward()
                with trace.counting("optimizer"):
                    torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
                    task.after_step()
    return Step(case, clips, trace.operations)


# ---------------------------------------------------------------- rows and tables


def numbers(found: Bound) -> dict[str, Any]:
    """Return a bound's numbers."""
    milliseconds = {name: 1000 * getattr(found, name) for name in ("matmul", "memory", "launches", "seconds")}
    names = {"matmul": "matmul_ms", "memory": "memory_ms", "launches": "launch_ms", "seconds": "ms"}
    counts = {"gflop": found.flops / 1e9, "gbytes": found.num_bytes / 1e9, "launches": found.num_launches}
    return counts | {names[name]: value for name, value in milliseconds.items()}


def table(found: list[dict[str, Any]]) -> str:
    """Return the table of steps."""
    lines = [
        "| pair | clip | clips | step | GFLOP | GB | launches | matmul ms | memory ms | launch ms | at least ms | "
        "clips/s | share of the ceiling |",
        "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in found:
        lines.append(
            f"| {row['pair']} | {row['clip']} | {row['clips']} | {row['variant']} | {_cells(row)} | {row['ms']:.1f} | "
            f"{1000 * row['clips'] / row['ms']:.0f} | {row['share']:.0%} |"
        )
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> str:
    sizes = f"{row['gflop']:.0f} | {row['gbytes']:.3g} | {row['launches']}"
    return f"{sizes} | " + " | ".join(f"{row[name]:.2f}" for name in ("matmul_ms", "memory_ms", "launch_ms"))


def part_table(step: Step, launch_seconds: float) -> str:
    """Return the parts of an eager step, with the kernels that take the longest."""
    lines = [
        f"{step.case.name}, {step.clips} clips, eager:",
        "",
        "| part | GFLOP | GB | launches | matmul ms | memory ms | launch ms | at least ms | longest kernels (ms) |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for part in dict.fromkeys(operation.part for operation in step.operations):
        inside = [operation for operation in step.operations if operation.part == part]
        by_name: dict[str, float] = {}
        for operation in inside:
            by_name[operation.name] = by_name.get(operation.name, 0.0) + 1000 * H200.seconds(operation)
        longest = sorted(by_name.items(), key=lambda item: -item[1])[:3]
        row = numbers(bound(inside, H200, launch_seconds))
        names = ", ".join(f"{name} {value:.2f}" for name, value in longest)
        lines.append(f"| {part} | {_cells(row)} | {row['ms']:.2f} | {names} |")
    return "\n".join(lines)


def main() -> None:
    """Count the steps and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=CLIPS, help=f"Clips a step on one GPU; default {CLIPS}.")
    parser.add_argument(
        "--launch-us", type=float, default=LAUNCH_MICROSECONDS, help="Time of the host for a kernel; default 5."
    )
    parser.add_argument("--case", help="Only this case, as named in the first two columns, with a comma.")
    parser.add_argument("--parts", action="store_true", help="Print the parts of each step too.")
    parser.add_argument("--rows", action="store_true", help="Print JSON lines.")
    parser.add_argument("--small", action="store_true", help="The miniature of benchmarks/gpu.py.")
    options = parser.parse_args()
    cases = {case.name: case for case in (SMALL if options.small else FULL).cases}
    if options.case is not None and options.case not in cases:
        parser.error(f"no case {options.case!r}; there are {', '.join(map(repr, cases))}.")
    keep, launch_seconds = accelerator(), options.launch_us / 1e6
    chosen = list(cases.values()) if options.case is None else [cases[options.case]]
    steps = [trace_step(case, options.clips) for case in chosen]
    found = [step.row(variant, launch_seconds) for step in steps for variant in VARIANTS]
    if options.rows:
        print("\n".join(map(json.dumps, found)))
    else:
        figures = f"{H200.bf16_flops / 1e12:g} TFLOP/s in bf16, {H200.bytes / 1e12:g} TB/s"
        print(f"One {H200.name} ({figures}), {options.launch_us:g} µs a launch.\n\n{table(found)}")
        for step in steps if options.parts else []:
            print(f"\n{part_table(step, launch_seconds)}")
    assert keep, "libraries must live as long as the device is used"


if __name__ == "__main__":
    main()
