"""The crash harness: it counts file operations, kills before the one that it drew, and sees a difference."""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def crashes(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    script = benchmark_script("crashes")
    script.preload()
    return script


@pytest.fixture(scope="module")
def harness(crashes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    words = "synthesize {work}/made --num-clips 2 --num-test-clips 1 --width 32 --height 32 --duration-seconds 0.5"
    job = crashes.Job("synthesize", (*words.split(), "--num-workers", "1"), ("made/**/*.mp4", "made/**/*.csv"))
    return crashes.Harness(job, tmp_path_factory.mktemp("crashes"), lambda work: None)


def test_verbs_end_equal_after_kills_and_leave_nothing(harness: Any) -> None:
    assert harness.num_writes > 3
    assert len(harness.expected) == 4
    for number in range(2):
        row = harness.killed(random.Random(number))
        assert (row["status"], row["differing"], row["left"]) == (0, [], []), row


def test_a_process_dies_before_the_operation_that_was_drawn(crashes: ModuleType, harness: Any) -> None:
    status, count = harness._run(harness._fresh("first"), harness.job.words, die_at=1)
    assert (status, count) == (-signal.SIGKILL, 1)
    assert crashes.all_names(harness.folder / "first") == set()


def test_a_difference_is_seen(crashes: ModuleType, harness: Any) -> None:
    other = copy.copy(harness)
    other.job = replace(harness.job, words=(*harness.job.words, "--seed", "1"))
    row = other.killed(random.Random(0))
    assert [name for name in row["differing"] if name.endswith(".mp4")], row
    assert crashes.table([row]).splitlines()[-1].startswith("| all | 1 |")
