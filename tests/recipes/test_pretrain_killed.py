"""Real processes, killed in the middle of a pass and continued, end with the bits of the run that was left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avssl.cli import main
from avssl.config import to_yaml
from avssl.engine import load_checkpoint, read_metrics

SCRIPT = Path(__file__).with_name("killed_pretrain.py")
CLOCKS = {"wall_seconds", "samples_per_second"}

# 4 epochs of 5 steps. A run killed in step 10 resumes at step 8: within an epoch and within a mean of 3 losses, one of
# which was written after the checkpoint. CMA has searched its positives at step 5, and searches again at step 15.
CHANGES = {
    "optim": {"batch_size": 4, "epochs": 4},
    "train": {"log_every": 3, "checkpoint_every_steps": 4, "ema_decay": 0.9},
    "monitor": {"every_steps": 0},
}
KILLED_IN, SAVED_AT, LAST = 10, 8, 20
OBJECTIVES = {
    "info_nce": {"name": "info_nce"},
    "cma": {"name": "cma", "loss": "nce_frozen", "num_positives": 4, "warmup_epochs": 1, "refresh_epochs": 2},
}


@pytest.fixture(scope="module")
def launch(torchrun):
    """``launch(ranks, "-m", "avssl", ...)`` runs ``python`` or ``torchrun`` and returns the exit status."""

    def run(ranks, *words, max_restarts=0):
        if ranks > 1:
            return torchrun(*words, ranks=ranks, max_restarts=max_restarts, check=False).returncode
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, *words], env=environment, timeout=600, capture_output=True).returncode

    return run


@pytest.fixture(scope="module")
def left_alone(launch, videos, tiny_config, tmp_path_factory):
    """``left_alone(objective, ranks)`` returns the config file and the directory of an uninterrupted run."""
    runs = {}

    def run(objective, ranks):
        if (objective, ranks) not in runs:
            folder = tmp_path_factory.mktemp(f"{objective}_{ranks}")
            config = folder / "config.yaml"
            config.write_text(to_yaml(tiny_config(videos, objective=OBJECTIVES[objective], **CHANGES)))
            words = ("pretrain", "--config", str(config), "--out", str(folder / "run"))
            assert (main(words) if ranks == 1 else launch(ranks, "-m", "avssl", *words)) == 0
            runs[objective, ranks] = config, folder / "run"
        return runs[objective, ranks]

    return run


def state(run, step):
    """Return the content of a checkpoint by path, without times."""
    saved = flatten(load_checkpoint(run / "checkpoints" / f"step-{step:09d}.pt"))
    return {path: value for path, value in saved.items() if path.rpartition("/")[2] not in CLOCKS}


def flatten(tree, path=""):
    if isinstance(tree, dict | list | tuple):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return {name: leaf for key, value in items for name, leaf in flatten(value, f"{path}/{key}").items()}
    return {path: tree}


def bits(value):
    """A NaN equals itself."""
    return value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value)


def assert_same_run(one, other):
    ours, theirs = state(one, LAST), state(other, LAST)
    assert ours.keys() == theirs.keys()
    assert [path for path in ours if bits(ours[path]) != bits(theirs[path])] == []
    rows = [[{k: v for k, v in row.items() if k not in CLOCKS} for row in read_metrics(run)] for run in (one, other)]
    assert [row["step"] for row in rows[0]] == [3, 6, 9, 12, 15, 18, 20]
    assert rows[0] == rows[1]
    assert (one / "weights/model.safetensors").read_bytes() == (other / "weights/model.safetensors").read_bytes()


@pytest.mark.parametrize(("objective", "ranks"), [("info_nce", 1), ("cma", 2)])
def test_killed_run_resumes_bit_for_bit(launch, left_alone, tmp_path, objective, ranks):
    config, whole = left_alone(objective, ranks)
    run = tmp_path / "run"
    killed = launch(ranks, str(SCRIPT), str(KILLED_IN), "pretrain", "--config", str(config), "--out", str(run))
    assert killed == (-9 if ranks == 1 else 1)
    saved = state(run, SAVED_AT)
    assert not (run / "weights").exists()
    assert read_metrics(run)[-1]["step"] == 9
    if objective == "cma":
        assert (saved["/task/objective.found"] >= 0).all()
        assert saved["/task/objective.z"].isfinite()
    assert launch(ranks, "-m", "avssl", "pretrain", "--resume", str(run)) == 0
    assert_same_run(whole, run)


def test_run_continues_when_torchrun_restarts_it(launch, left_alone, tmp_path):
    config, whole = left_alone("cma", 2)
    words = ("pretrain", "--config", str(config), "--out", str(tmp_path / "run"))
    assert launch(2, str(SCRIPT), str(KILLED_IN), *words, max_restarts=1) == 0
    assert_same_run(whole, tmp_path / "run")


def test_a_restart_does_not_replace_the_run_of_another_job(torchrun, left_alone):
    """The second attempt raises like the first, because the existing run is not of this job."""
    config, whole = left_alone("info_nce", 1)
    words = ("-m", "avssl", "pretrain", "--config", config, "--out", whole)
    told = torchrun(*words, ranks=1, max_restarts=1, check=False)
    assert told.returncode == 1
    assert told.stderr.count("holds a run already") == 2
