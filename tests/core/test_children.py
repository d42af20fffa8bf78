"""Children end with their parent, ignore the signals to its group, and pass large messages without /dev/shm."""

import faulthandler
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from avssl.core.channel import Channel
from avssl.core.children import Child, note
from avssl.core.errors import InputError
from avssl.core.parallel import ChildDied, parallel_map
from avssl.core.stopping import STOP_SIGNALS

ROOT = Path(__file__).resolve().parents[2]


def wait_at(job):
    """Return the job, once its file exists if it is one."""
    while isinstance(job, Path) and not job.exists():
        time.sleep(0.01)
    return job


def obey(job):
    """Run one job."""
    note(f"doing {job}")
    if job == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if job == "crash":
        faulthandler.disable()  # pytest's, which prints a page
        os.kill(os.getpid(), signal.SIGSEGV)
    if job == "raise":
        raise KeyError("no such thing")
    if job == "slow":
        time.sleep(0.2)
    return job, os.getpid()


def echo(connection):
    channel = Channel(connection)
    while True:
        channel.send(channel.receive())


# ------------------------------------------------------------------ messages


def test_messages_come_back_as_they_were():
    child = Child(echo)
    channel = Channel(child.connection)
    frames = torch.arange(3 * 2**20, dtype=torch.int64).view(3, -1)
    messages = [
        1,
        {"a": torch.arange(5), "b": "x" * 100_000, "empty": torch.empty(0, 3)},
        (frames, frames[:, ::2], torch.tensor(3.5), torch.zeros(3, dtype=torch.uint8)),
    ]
    for message in messages:
        channel.send(message)
        back = channel.receive()
        assert repr(back) == repr(message)
    assert all(torch.equal(a, b) for a, b in zip(back, messages[-1], strict=True))
    back[0][0, 0] = 7  # a message is the receiver's own, and writable
    child.kill()
    assert back[0][0, 0] == 7


def test_a_message_is_freed_with_its_tensors():
    child = Child(echo)
    channel = Channel(child.connection)

    def mapped():
        return Path("/proc/self/maps").read_text().count("memfd:avssl")

    before = mapped()
    channel.send(torch.zeros(2**20))
    part = channel.receive()[5:6]
    assert mapped() == before + 1
    del part
    assert mapped() == before
    child.kill()


# ------------------------------------------------------------------ jobs


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_results_come_in_order(num_workers):
    jobs = ["slow", "a", "b", "slow", *"cdefg"]
    found = list(parallel_map(obey, iter(jobs), num_workers=num_workers))
    assert [job for job, _ in found] == jobs
    assert len({pid for _, pid in found} - {os.getpid()}) == num_workers


def test_results_come_as_they_are_ready(tmp_path):
    gate = tmp_path / "gate"
    results = parallel_map(wait_at, [gate, *"abcdef"], num_workers=2, ahead=1, in_order=False)
    first = next(results)  # while the first job still waits
    gate.touch()
    assert first == "a"
    assert {first, *results} == {gate, *"abcdef"}


def test_jobs_are_taken_a_limited_number_ahead():
    taken = []
    results = parallel_map(obey, (taken.append(n) or n for n in range(100)), num_workers=2, ahead=3)
    for _ in range(4):
        next(results)
    assert len(taken) == 4 + 2 * 3
    results.close()


@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
def test_other_start_methods(start_method):
    found = parallel_map(str.upper, ["a", "b"], num_workers=1, start_method=start_method)
    assert list(found) == ["A", "B"]


def test_an_exception_keeps_its_type_and_tells_where():
    with pytest.raises(KeyError, match="no such thing") as told:
        list(parallel_map(obey, ["a", "raise"], num_workers=2))
    assert told.value.__notes__[0] == "while doing raise"
    assert "in obey" in told.value.__notes__[1]


def test_a_note_holds_any_name_where_the_locale_is_ascii():
    lines = (
        "from avssl.core.children import _Page; p = _Page(); p.write('3.04\\u202fPM \\udce9'); print(ascii(p.read()))"
    )
    ascii_locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)}
    told = subprocess.run([sys.executable, "-c", lines], env={**os.environ, **ascii_locale}, capture_output=True)
    assert told.stdout.decode().strip() == r"'3.04\u202fPM \\xe9'", told.stderr


@pytest.mark.parametrize(("job", "name", "advice"), [("die", "SIGKILL", "Memory"), ("crash", "SIGSEGV", "decoder")])
def test_a_dead_child_is_named_with_what_it_was_doing(job, name, advice):
    with pytest.raises(ChildDied, match=rf"worker process was ended by {name} while doing {job}\. .*{advice}"):
        list(parallel_map(obey, ["a", "b", job, "c"], num_workers=2))


def test_a_child_killed_between_jobs_is_named_with_its_last():
    results = parallel_map(obey, ["a", *["slow"] * 20], num_workers=1)
    _, pid = next(results)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ChildDied, match=r"while doing (a|slow)\. "):
        list(results)


def test_no_jobs_and_too_few_workers():
    assert list(parallel_map(obey, [], num_workers=2)) == []
    with pytest.raises(InputError, match=r"num_workers \(-1\)"):
        list(parallel_map(obey, [], num_workers=-1))


# ------------------------------------------------------------------ ends

OWNER = """
import os, sys, time
from avssl.core.parallel import parallel_map
def work(number):
    open(f"{sys.argv[1]}/{os.getpid()}", "w").close()
    time.sleep(600)
results = parallel_map(work, range(10), num_workers=2)
if sys.argv[2] == "loses":
    from avssl.core.children import Child
    def wait(connection):
        work(0)
    for _ in range(2): Child(wait)
    while len(os.listdir(sys.argv[1])) < 2: time.sleep(0.01)
elif sys.argv[2] == "forgets":
    import threading
    threading.Thread(target=lambda: next(results), daemon=True).start()
    while len(os.listdir(sys.argv[1])) < 2: time.sleep(0.01)
else:
    next(results)
"""


@pytest.fixture
def owner(tmp_path):
    """``owner("waits")`` starts a process with two busy children; returns it and their ids."""
    started = []

    def start(how):
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        words = [sys.executable, "-c", OWNER, str(tmp_path), how]
        process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)
        started.append(process)
        assert wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
        return process, [int(path.name) for path in tmp_path.iterdir()]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.02)
    return condition()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_children_end_with_their_parent(owner, are_gone, number):
    process, children = owner("waits")
    process.send_signal(number)
    process.wait()
    assert are_gone(children)


@pytest.mark.parametrize("how", ["forgets", "loses"])
def test_a_parent_that_does_not_end_its_children_ends_and_they_with_it(owner, are_gone, how):
    process, children = owner(how)
    assert process.wait(60) == 0
    assert are_gone(children)


def test_children_ignore_the_signals_of_the_group(owner):
    process, children = owner("waits")
    for number in STOP_SIGNALS:
        for child in children:
            os.kill(child, number)
    time.sleep(0.2)
    assert process.poll() is None
    assert not any(Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] in "ZX" for child in children)


def test_nothing_in_the_package_starts_processes_or_shares_memory_in_another_way():
    others = ("DataLoader", "ProcessPool", "share_memory", "shared_memory", "multiprocessing.Queue", ".Process(")
    found = {
        (str(file.relative_to(ROOT)), word)
        for file in (ROOT / "avssl").rglob("*.py")
        for word in others
        if word in file.read_text(encoding="utf-8")
    }
    taken = ("avssl/integrations/mteb.py", "DataLoader")  # mteb's own, which it gives its encoders
    assert found == {("avssl/core/children.py", ".Process("), taken}


def test_children_need_no_room_in_dev_shm():
    """With a /dev/shm in which nothing can be written."""
    script = (
        "import numpy\nfrom avssl.core.parallel import parallel_map\n"
        "print([len(part) for part in parallel_map(numpy.zeros, [2**20] * 4, num_workers=2)])\n"
    )
    mounted = 'mount -t tmpfs -o ro,size=4k tmpfs /dev/shm && exec "$0" -c "$1"'
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    try:
        words = ["unshare", "-rm", "sh", "-c", mounted, sys.executable, script]
        done = subprocess.run(words, capture_output=True, text=True, timeout=100, env=environment)
    except FileNotFoundError:
        pytest.skip("needs the program unshare")
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"this system lets nobody mount: {done.stderr}")
    assert (done.stdout, done.stderr) == (f"{[2**20] * 4}\n", "")
