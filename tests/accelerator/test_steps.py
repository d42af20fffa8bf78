"""A step of every objective runs on an accelerator without a mistake of device, and the host never waits for it."""

from __future__ import annotations

import importlib.util
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
BUDGETS = Path(__file__).with_name("launches.txt")
EXCHANGES = Path(__file__).with_name("collectives.txt")
NAME_WIDTH = 28
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("soundingshapes_*.yaml"))


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    output = tmp_path_factory.mktemp("accelerator") / "steps.json"
    command = [sys.executable, str(SCRIPT), str(output)]
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
    read_at_the_end = found["monitor"].pop("copies")  # the embeddings of a batch of its gallery
    assert {copy.rpartition(" at ")[2].partition(":")[0] for copy in read_at_the_end} == {"training/monitors/clips.py"}
    assert sum(read_at_the_end.values()) == 2
    assert {name: copies for name, result in found.items() if (copies := result.get("copies"))} == {}
    assert len(found) > len(CONFIGS)


def test_no_part_of_a_step_launches_more_than_its_budget(steps: dict[str, Any]) -> None:
    header, *lines = BUDGETS.read_text().splitlines()
    columns = header[NAME_WIDTH:].split()
    budgets = {
        line[:NAME_WIDTH].strip(): dict(zip(columns, map(int, line[NAME_WIDTH:].split()), strict=True))
        for line in lines
    }
    counts = {name: result["launches"] for name, result in steps.items() if "launches" in result}
    assert budgets.keys() == counts.keys()
    over = {
        f"{name}, {part}": f"{count} launches, budget {budgets[name][part]}"
        for name, result in counts.items()
        for part, count in result.items()
        if count > budgets[name][part] * 1.03 + 3
    }
    assert over == {}, "reduce them, or renew launches.txt as steps.py says"


def test_objectives_exchange_no_more_than_they_need(steps: dict[str, Any]) -> None:
    spec = importlib.util.spec_from_file_location("steps", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.collectives_table(steps) == EXCHANGES.read_text().rstrip(), "renew collectives.txt as steps.py says"


def test_every_objective_has_a_configuration() -> None:
    named = {read_yaml(path).get("objective", {}).get("name", "info_nce") for path in CONFIGS}
    assert named == set(OBJECTIVES)
