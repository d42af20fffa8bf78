"""A signal to the whole process group: what `timeout`, the stop of a container, scancel and Ctrl-C send."""

import glob
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.core import parallel
from avssl.core.manifest import read_manifest, write_table
from avssl.data.health import killable

CPU = ["--train.device", "cpu", "--train.checkpoint_every_steps", "1", "--data.num_workers", "2"]
NOT_TRAINING = ["prepare", "synthesize", "embed", "probe", "robustness", "cka"]


@pytest.fixture(scope="module")
def table(videos):
    """Labeled rows in two splits."""
    path = videos.parent / "stopped.csv"
    assert main(["index", str(videos), "-o", str(path)]) == 0
    columns = {
        "label": ["low" if number < 10 else "high" for number in range(20)],
        "split": ["train" if number % 2 else "test" for number in range(20)],
    }
    manifest = read_manifest(path).table
    for name, values in columns.items():
        manifest = manifest.append_column(name, [values])
    write_table(manifest, path)
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def teacher(table, run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped_teacher") / "run"
    words = ["finetune", table, "--checkpoint", run, "--out", folder, *CPU[:4], "--data.num_workers", "0"]
    assert main([*map(str, words), "--optim.epochs", "1"]) == 0
    return folder


@pytest.fixture
def command(table, run, request, tiny_yaml, tmp_path):
    """``command(verb)`` returns the words of a command with two workers."""
    videos, out = table.parent / "videos", tmp_path / "out"
    model = ["--checkpoint", run, "--num_workers", "2", "--device", "cpu"]
    commands = {
        "pretrain": ["pretrain", "--config", tiny_yaml, "--out", out, *CPU],
        "finetune": ["finetune", table, "--checkpoint", run, "--out", out, *CPU, "--optim.epochs", "99"],
        "distill": lambda: [
            "distill", table, "--teacher", request.getfixturevalue("teacher"), "--distill.rows", "all",
            "--out", out, *CPU, "--optim.epochs", "99",
        ],
        "index": ["index", videos, "-o", videos.parent / "stopped_index.csv", "--num_workers", "2"],
        "prepare": ["prepare", table, out, "--rows_per_shard", "2", "--num_workers", "2"],
        "synthesize": ["synthesize", out, "--num_clips", "50", "--num_workers", "2"],
        "embed": ["embed", table, "-o", out, *model],
        "probe": ["probe", table, *model, "--cache-folder", tmp_path],
        "robustness": ["robustness", table, "-o", out, *model],
        "cka": ["cka", run, run, "--data", table, "--out", out, "--num_workers", "2", "--device", "cpu"],
        "demo": ["demo", out, "--tiny"],
    }  # fmt: skip

    def words(verb):
        found = commands[verb]
        return [str(word) for word in (found() if callable(found) else found)]

    return words


@pytest.fixture
def tiny_yaml(tiny_config, table, tmp_path):
    from avssl.config import to_yaml

    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(tiny_config(table, optim={"epochs": 99}, data={"num_workers": 2})))
    return path


@pytest.fixture
def begin(tmp_path, monkeypatch):
    """``begin(words, seconds)`` runs a command in a new process group and returns its id.

    Its workers take some seconds for each job, and there is the file ``busyPID`` when one has done its first.
    """
    groups, pause = [], [0.1]

    def slow(serve):
        def served(connection, task, *rest):
            def answer(job):
                result = task(job)
                (tmp_path / f"busy{os.getpid()}").touch()
                time.sleep(pause[0])
                return result

            serve(connection, answer, *rest)

        return served

    def start(words, seconds=0.1, new_python=False):
        if new_python:  # for trainings: autograd does not run in a fork of a process in which it has run
            told = (os.POSIX_SPAWN_OPEN, 1, str(tmp_path / "told"), os.O_WRONLY | os.O_CREAT, 0o644)
            actions, command = [told, (os.POSIX_SPAWN_DUP2, 1, 2)], [sys.executable, "-m", "avssl", *words]
            groups.append(os.posix_spawn(sys.executable, command, os.environ, file_actions=actions, setsid=True))
            return groups[-1]
        pause[0] = seconds
        process = os.fork()
        if process == 0:
            try:
                os.setsid()
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
                told = os.open(tmp_path / "told", os.O_WRONLY | os.O_CREAT)
                os.dup2(told, 1)
                os.dup2(told, 2)
                sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
                status = main(words)
                sys.stdout.flush()
                sys.stderr.flush()
            except BaseException:
                import traceback

                traceback.print_exc()
                sys.stderr.flush()
                status = 99
            finally:
                os._exit(status)
        groups.append(process)
        return process

    for module in (parallel, killable):
        monkeypatch.setattr(module, "_serve", slow(module._serve))
    yield start
    for group in groups:
        if members(group):
            os.killpg(group, signal.SIGKILL)


def busy(folder):
    """Return the workers that have done a job."""
    return [int(path.name[4:]) for path in folder.glob("busy*")]


def members(group):
    """Return the processes of a group that are not zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def wait_for(condition, what, seconds=20):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(0.01)


def stop(process, number, told, is_ready):
    """Send a signal to the group when it is ready; return its status, its words and what is left of it."""
    wait_for(lambda: is_ready() or not members(process), told.read_text)
    assert members(process), told.read_text()
    os.killpg(process, number)
    if number == signal.SIGTERM:
        os.killpg(process, number)  # as `timeout` does
    status = []

    def ended():
        pid, code = os.waitpid(process, os.WNOHANG)
        status.extend([os.waitstatus_to_exitcode(code)] if pid else [])
        return bool(pid)

    wait_for(ended, told.read_text)
    wait_for(lambda: not members(process), lambda: f"{members(process)} are left")
    return status[0], told.read_text()


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "distill"])
def test_a_training_ends_with_a_checkpoint(command, begin, tmp_path, verb):
    process = begin(command(verb), new_python=True)
    pattern = str(tmp_path / "out" / "**" / "step-*.pt")
    saved = lambda: glob.glob(pattern, recursive=True)  # noqa: E731 (folders may vanish meanwhile)
    status, told = stop(process, signal.SIGTERM, tmp_path / "told", saved)
    assert status == 75, told
    assert "stopped by SIGTERM after step" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("verb", ["pretrain", "index", "demo", *NOT_TRAINING])
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_other_verbs_end_quietly(command, begin, tmp_path, verb, number, expected):
    process = begin(command(verb), 60)
    status, told = stop(process, number, tmp_path / "told", lambda: busy(tmp_path))
    assert status == expected, told
    assert told.endswith("avssl: interrupted.\n" if number == signal.SIGINT else "avssl: stopped by SIGTERM.\n")
    assert "Traceback" not in told


@pytest.mark.parametrize("verb", ["pretrain", "index", "prepare", "synthesize", "embed"])
def test_no_process_outlives_a_killed_one(command, begin, tmp_path, verb):
    process = begin(command(verb), 60)
    wait_for(lambda: busy(tmp_path), (tmp_path / "told").read_text)
    assert len(members(process)) >= 2
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    wait_for(lambda: not members(process), lambda: f"{members(process)} are left")


@pytest.mark.parametrize("verb", ["pretrain", "finetune", *NOT_TRAINING])
def test_a_killed_worker_is_named_with_its_file(command, begin, tmp_path, verb):
    process = begin(command(verb), 60)
    wait_for(lambda: busy(tmp_path), (tmp_path / "told").read_text)
    os.kill(busy(tmp_path)[0], signal.SIGKILL)
    _, code = os.waitpid(process, 0)
    told = (tmp_path / "told").read_text()
    assert os.waitstatus_to_exitcode(code) == 1, told
    assert "worker process was ended by SIGKILL while " in told
    assert ".mp4" in told.splitlines()[-1]
    assert "Traceback" not in told
