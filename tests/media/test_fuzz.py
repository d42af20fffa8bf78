"""A thousand damaged files: every one ends with a status, and nothing but MediaError comes out of the readers."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

NUM_FILES = 1000


@pytest.fixture(scope="module")
def fuzz(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("fuzz")


def test_whole_files_are_healthy_and_damage_depends_on_the_number_alone(fuzz: ModuleType, tmp_path: Path) -> None:
    seeds = fuzz.make_seeds(tmp_path)
    assert len(seeds) >= 15, "most encoders are in PyAV's wheel"
    files = [fuzz.damaged(seeds, number) for number in range(100)]
    assert files == [fuzz.damaged(seeds, number) for number in range(100)]
    assert sum(data != seeds[name[7:]] for name, data in files) > 80
    for name in seeds:
        found = fuzz.look(fuzz.SETTINGS, str(tmp_path / name))
        assert found["reader"] == "ok", name
        assert found["health"] == ("ok" if fuzz.SEEDS[name][0] else "no_video"), name


def test_every_damaged_file_ends_with_a_status(fuzz: ModuleType, tmp_path: Path) -> None:
    outcomes = fuzz.fuzz(tmp_path, NUM_FILES, replace(fuzz.SETTINGS, timeout_seconds=5.0))
    assert len(outcomes) == NUM_FILES
    failed = {name: f"{o.failure}: {o.detail}" for name, o in outcomes.items() if o.failure}
    bugs = {name: text for name, text in failed.items() if text.startswith("bug")}
    assert not bugs, bugs  # an exception other than MediaError
    # The readers turn other exceptions into bad files, so that a run goes on; here they are faults of the code.
    surprised = {name: o.answer for name, o in outcomes.items() if o.answer and "crashed" in o.answer.values()}
    assert not surprised, surprised
    # Damage may declare a length of an hour, and reading all of it takes the longer the slower the machine is.
    assert len(failed) <= NUM_FILES // 50, failed
    crashes = {name: text for name, text in failed.items() if not text.startswith("timeout")}
    assert len(crashes) <= NUM_FILES // 200, crashes  # decoders may crash, but hardly ever
    counts = Counter(fuzz.status(outcome, "health") for outcome in outcomes.values())
    assert counts["ok"] > NUM_FILES // 10, counts  # the damage is not so crude that all are refused at the door
    assert counts["truncated"] > NUM_FILES // 20, counts
    assert counts["unreadable"] > NUM_FILES // 20, counts
    peak_gib = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    own_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert peak_gib < own_gib + fuzz.SETTINGS.memory_gib, (peak_gib, own_gib)


def test_health_and_reader_agree(fuzz: ModuleType, tmp_path: Path) -> None:
    """What the health check calls ok can be read, but for a few files damaged where it did not look."""
    outcomes = fuzz.fuzz(tmp_path, 300, first=NUM_FILES)
    healthy = [o for o in outcomes.values() if fuzz.status(o, "health") == "ok"]
    readable = [o for o in healthy if fuzz.status(o, "reader") == "ok"]
    assert len(healthy) > 30
    assert len(readable) > 0.8 * len(healthy)
