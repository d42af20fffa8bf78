"""Markdown tables from the rows of ``benchmarks/gpu.py``."""

from __future__ import annotations

from typing import Any

import losses

Rows = list[dict[str, Any]]


def tables(rows: Rows) -> str:
    """Return the machine, then the tables of steps, losses and shards, and the failed measurements."""
    done = {what: [row for row in rows if row["what"] == what and "failed" not in row] for what in _ORDER}
    tflops = next((row["tflops"] for row in done["ceiling"]), float("nan"))
    parts = [f"{rows[0]['machine']}. The ceiling: a bf16 product at {tflops:.3g} TFLOP/s."]
    bounds = [row for whole in done["bound"] for row in whole["bounds"]]
    parts += [step_table(done["step"], bounds, tflops), losses.table(done["loss"]), shard_table(done["shards"])]
    failed = [row for row in rows if "failed" in row]
    parts += [f"Not measured: {name(row)}: {row['failed']}" for row in failed]
    return "\n\n".join(parts)


_ORDER = ("ceiling", "bound", "step", "loss", "shards")


def step_table(steps: Rows, bounds: Rows, tflops: float) -> str:
    """Return the stages of each case with their speed relative to fp32, and the bounds of an H200 in bf16."""
    lines = [
        "| pair | clip | stage | clips a step | ms | clips/s | times fp32 | share of the ceiling | peak GiB | "
        "H200's bound, eager: ms | all fused: ms | eager bound / time |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for case in dict.fromkeys((row["pair"], row["clip"]) for row in steps):
        stages = [row for row in steps if (row["pair"], row["clip"]) == case]
        base = next((row["seconds"] for row in stages if row["stage"] == "fp32"), float("nan"))
        found = {row["variant"]: row["ms"] for row in bounds if (row["pair"], row["clip"]) == case}
        for row in stages:
            seconds, share = row["seconds"], row["flops"] / row["seconds"] / 1e12 / tflops
            cells = "- | - | -"
            if found and row["stage"] != "fp32":
                share_of_bound = found["eager"] / 1000 / seconds
                cells = f"{found['eager']:.1f} | {found['all fused']:.1f} | {share_of_bound:.0%}"
            lines.append(
                f"| {' | '.join(case)} | {row['stage']} | {row['clips']} | {1000 * seconds:.1f} | "
                f"{row['clips'] / seconds:.0f} | {base / seconds:.2f} | {share:.1%} | {row['peak_gib']:.2f} | {cells} |"
            )
    return "\n".join(lines)


def shard_table(rows: Rows) -> str:
    """Return the speed of training from shards, and how long the device waits."""
    lines = [
        "| pair | clip | clips a step | clips/s from shards | workers | device idle |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        numbers = f"{row['clips_per_second']:.0f} | {row['workers']} | {row['idle']:.0%}"
        lines.append(f"| {row['pair']} | {row['clip']} | {row['clips']} | {numbers} |")
    return "\n".join(lines)


def name(row: dict[str, Any]) -> str:
    """Return the name of a row in words."""
    return ", ".join(str(row[key]) for key in ("what", "loss", "N", "D", "pair", "clip", "stage") if key in row)
