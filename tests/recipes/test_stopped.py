"""A signal to the whole process group: what `timeout`, the stop of a container, scancel and Ctrl-C send."""

import glob
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.core.manifest import read_manifest, write_table

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


@pytest.fixture(scope="module")
def ask():
    """``ask(**question)`` returns the answer of tests/recipes/command_server.py."""
    command = [sys.executable, str(Path(__file__).with_name("command_server.py"))]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as server:

        def ask(**question):
            server.stdin.write(json.dumps(question) + "\n")
            server.stdin.flush()
            return json.loads(server.stdout.readline())

        yield ask
        server.stdin.close()


@pytest.fixture
def begin(tmp_path, ask):
    """``begin(words, seconds)`` runs a command in a new process group, see :func:`ask`, and returns its id."""
    groups = []

    def start(words, seconds=0.1):
        groups.append(ask(words=words, folder=str(tmp_path), seconds=seconds, cache=os.environ["XDG_CACHE_HOME"]))
        return groups[-1]

    yield start
    for group in groups:
        if members(group):
            os.killpg(group, signal.SIGKILL)


@pytest.fixture
def end(ask):
    """``end(process, what)`` waits for the end of a process and returns its status; ``what()`` tells if none comes."""

    def end(process, what):
        status = []

        def ended():
            found = ask(wait=process)
            status.extend([] if found is None else [found])
            return bool(status)

        wait_for(ended, what)
        return status[0]

    return end


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


def wait_for(condition, what, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, what()
        time.sleep(0.01)


@pytest.fixture
def stop(end, tmp_path):
    """``stop(process, number, is_ready)`` sends a signal to a group that is ready; returns its status and words."""

    def stop(process, number, is_ready):
        told = (tmp_path / "told").read_text
        wait_for(lambda: is_ready() or not members(process), told)
        assert members(process), told()
        os.killpg(process, number)
        if number == signal.SIGTERM:
            os.killpg(process, number)  # as `timeout` does
        status = end(process, told)
        wait_for(lambda: not members(process), lambda: f"{members(process)} are left")
        return status, told()

    return stop


@pytest.mark.parametrize("verb", ["pretrain", "finetune", "distill"])
def test_a_training_ends_with_a_checkpoint(command, begin, stop, tmp_path, verb):
    process = begin(command(verb))
    pattern = str(tmp_path / "out" / "**" / "step-*.pt")
    saved = lambda: glob.glob(pattern, recursive=True)  # noqa: E731 (folders may vanish meanwhile)
    status, told = stop(process, signal.SIGTERM, saved)
    assert status == 75, told
    assert "stopped by SIGTERM after step" in told
    assert "Traceback" not in told


@pytest.mark.parametrize("verb", ["pretrain", "index", "demo", *NOT_TRAINING])
@pytest.mark.parametrize(("number", "expected"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_other_verbs_end_quietly(command, begin, stop, tmp_path, verb, number, expected):
    process = begin(command(verb), 60)
    status, told = stop(process, number, lambda: busy(tmp_path))
    assert status == expected, told
    assert told.endswith("avssl: interrupted.\n" if number == signal.SIGINT else "avssl: stopped by SIGTERM.\n")
    assert "Traceback" not in told


@pytest.mark.parametrize("verb", ["pretrain", "index", "prepare", "synthesize", "embed"])
def test_no_process_outlives_a_killed_one(command, begin, end, tmp_path, verb):
    process = begin(command(verb), 60)
    wait_for(lambda: busy(tmp_path), (tmp_path / "told").read_text)
    assert len(members(process)) >= 2
    os.kill(process, signal.SIGKILL)
    assert end(process, (tmp_path / "told").read_text) == -signal.SIGKILL
    wait_for(lambda: not members(process), lambda: f"{members(process)} are left")


@pytest.mark.parametrize("verb", ["pretrain", "finetune", *NOT_TRAINING])
def test_a_killed_worker_is_named_with_its_file(command, begin, end, tmp_path, verb):
    process = begin(command(verb), 60)
    wait_for(lambda: busy(tmp_path), (tmp_path / "told").read_text)
    os.kill(busy(tmp_path)[0], signal.SIGKILL)
    status, told = end(process, (tmp_path / "told").read_text), (tmp_path / "told").read_text()
    assert status == 1, told
    assert "worker process was ended by SIGKILL while " in told
    assert ".mp4" in told.splitlines()[-1]
    assert "Traceback" not in told
