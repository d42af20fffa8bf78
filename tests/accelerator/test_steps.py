"""A step of every objective runs on an accelerator without a mistake of device, and the host never waits for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from avssl.config import read_yaml
from avssl.objectives import OBJECTIVES

SCRIPT = Path(__file__).with_name("steps.py")
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("soundingshapes_*.yaml"))
MANY = 128
"""Processes of which one is number 3: what fits only a single process shows."""


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("accelerator") / "steps.json"
    command = [sys.executable, str(SCRIPT), str(output), str(MANY), *map(str, CONFIGS)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return json.loads(output.read_text())


def test_tool_finds_mistakes_of_device_and_waiting(steps: dict[str, Any]) -> None:
    tool = steps.pop("tool")
    assert tool["mistakes"] == {
        "a number is read": "DataDependentOutputException",
        "the shape depends on data": "DynamicOutputShapeException",
        "two devices": "RuntimeError",
        "a buffer on the host": "RuntimeError",
    }
    assert sum(tool["copies"].values()) == 1
    steps["tool"] = tool


def test_no_step_mixes_devices_or_makes_the_host_wait(steps: dict[str, Any]) -> None:
    found = {name: result for name, result in steps.items() if name != "tool"}
    assert {name: result["error"] for name, result in found.items() if "error" in result} == {}
    assert {name: result["copies"] for name, result in found.items() if result["copies"]} == {}
    assert len(found) > len(CONFIGS)


def test_every_objective_has_a_configuration() -> None:
    named = {read_yaml(path).get("objective", {}).get("name", "info_nce") for path in CONFIGS}
    assert named == set(OBJECTIVES)
