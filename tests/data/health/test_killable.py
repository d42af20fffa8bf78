import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from avssl.data.health.killable import run_killable


def obey(path):
    """Does what a file's name says."""
    word = os.path.basename(path)
    if word.startswith("hang"):
        time.sleep(600)
    if word.startswith("crash"):
        ctypes.string_at(0)
    if word.startswith("exit"):
        os._exit(3)
    if word.startswith("raise"):
        raise LookupError("what no one expected")
    if word.startswith("eat"):
        return {"eaten": len(bytearray(3 * 2**30))}
    if word.startswith("huge"):
        return {"text": "x" * 2**21}
    return {"word": word, "pid": os.getpid()}


def by_number(outcomes):
    return {outcome.number: outcome for outcome in outcomes}


def test_every_file_ends_with_one_outcome_whatever_its_task_does():
    paths = ["a", "hang", "b", "crash", "exit", "raise", "c", "eat", "huge", "d"]
    outcomes = list(run_killable(obey, paths, num_workers=2, timeout_seconds=1.0, memory_gib=1.0))
    assert sorted(outcome.number for outcome in outcomes) == list(range(10))
    found = by_number(outcomes)
    assert [found[n].failure for n in range(10)] == [
        "", "timeout", "", "crashed", "crashed", "bug", "", "bug", "crashed", "",
    ]  # fmt: skip
    assert found[0].answer["word"] == "a"
    assert found[1].detail == "not done after 1 s"
    assert "SIGSEGV" in found[3].detail
    assert "status 3" in found[4].detail
    assert "LookupError in test_killable.py" in found[5].detail
    assert "MemoryError" in found[7].detail


def test_one_worker_goes_on_after_each_death():
    paths = ["crash", "a", "exit", "b", "hang", "c"]
    found = by_number(run_killable(obey, paths, num_workers=1, timeout_seconds=1.0))
    assert [found[n].failure for n in range(6)] == ["crashed", "", "crashed", "", "timeout", ""]
    assert len({found[n].answer["pid"] for n in (1, 3, 5)}) == 3  # each after a death is a new process


def test_a_file_is_not_blamed_for_the_damage_of_the_one_before():
    seen = []

    def fragile(path):
        seen.append(path)  # the list of this process alone
        if len(seen) > 1 and path == "victim":
            os._exit(1)
        return {"path": path}

    found = by_number(run_killable(fragile, ["first", "victim", "last"], num_workers=1))
    assert [found[n].failure for n in range(3)] == ["", "", ""]


def test_a_worker_is_replaced_before_what_it_leaks_adds_up(monkeypatch):
    monkeypatch.setattr("avssl.data.health.killable._FILES_PER_WORKER", 3)
    found = by_number(run_killable(obey, [str(n) for n in range(7)], num_workers=1))
    assert len({found[n].answer["pid"] for n in range(7)}) == 3


def test_closing_the_iterator_ends_the_workers():
    outcomes = run_killable(obey, ["a", "b", *["hang"] * 10], num_workers=2)
    with closing(outcomes):
        pid = next(outcomes).answer["pid"]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_odd_names_reach_the_worker():
    names = ["ä ö.mp4", "two\nlines", os.fsdecode(b"\xff.mp4")]
    found = by_number(run_killable(obey, names, num_workers=1))
    assert [found[n].answer["word"] for n in range(3)] == names


def test_no_files_and_no_workers():
    assert list(run_killable(obey, [])) == []
    with pytest.raises(ValueError, match=r"num_workers \(0\) must be at least 1"):
        list(run_killable(obey, ["a"], num_workers=0))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_die_with_the_process_that_owns_them(tmp_path, are_gone, number):
    script = tmp_path / "owner.py"
    script.write_text(
        "import os, sys, time\n"
        "from avssl.data.health.killable import run_killable\n"
        "def task(path):\n"
        "    open(path + str(os.getpid()), 'w').close()\n"
        "    time.sleep(600)\n"
        "list(run_killable(task, [sys.argv[1]] * 2, num_workers=2))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[3])}
    owner = subprocess.Popen([sys.executable, script, f"{tmp_path}/pid"], env=environment, stderr=subprocess.DEVNULL)
    while len(pids := [int(path.name[3:]) for path in tmp_path.glob("pid*")]) < 2:
        assert owner.poll() is None
        time.sleep(0.05)
    owner.send_signal(number)
    owner.wait()
    assert are_gone(pids)
