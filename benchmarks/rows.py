"""JSONL files of benchmark rows, with which an interrupted benchmark continues, and the name of the machine."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

import torch

# As the kernel calls them: of x86 (tiles, vectors) and of ARM.
_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16", "bf16": "BF16"}


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return the rows so far, none if there is no file; skip a line that a killed run left incomplete."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True) if file.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}\n")]


def append_row(file: Path, row: dict[str, Any]) -> None:
    """Append a row on a line of its own, whatever the last run left."""
    was_cut = file.exists() and file.read_bytes()[-1:] not in (b"", b"\n")
    with file.open("a", encoding="utf-8") as out:
        out.write(("\n" if was_cut else "") + json.dumps(row) + "\n")


def bf16_units(device: torch.device) -> list[str]:
    """Return the names of the processor's bf16 units, or an empty list."""
    if device.type == "cuda":
        return ["tensor cores"] if torch.cuda.get_device_capability(device) >= (8, 0) else []
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    flags = {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()
    }
    return [name for flag, name in _UNITS.items() if flag in flags]


def machine(device: torch.device) -> str:
    """Describe the machine: its GPU and cores, or the cores that torch uses."""
    if device.type == "cuda":
        cores = len(os.sched_getaffinity(0))
        return f"one {torch.cuda.get_device_name(device)}, {cores} CPU cores, torch {torch.__version__}"
    kind = {"x86_64": "an x86", "aarch64": "an ARM"}.get(platform.machine(), f"a {platform.machine()}")
    units = bf16_units(device)
    count = torch.get_num_threads()
    cores = f"{count} core{'s' if count > 1 else ''} of {kind} processor"
    return f"{cores}{f' with {units[0]}' if units else ''}, torch {torch.__version__}"
