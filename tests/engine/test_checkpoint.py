import os
import random

import numpy as np
import pytest
import torch

from avssl.core.whole_file import unfinished_name
from avssl.engine import Checkpointer, CheckpointError, load_checkpoint
from avssl.engine import checkpoint as module


def state(value=1.0):
    return {"task": {"weight": torch.full((300, 5), value)}, "nested": [1, 2.5, "a", None, True, (3,)]}


def test_checkpoint_round_trip(tmp_path):
    checkpointer = Checkpointer(tmp_path / "c")
    assert checkpointer.latest() is None
    assert checkpointer.load_latest() is None
    path = checkpointer.save(7, state())
    assert path == checkpointer.latest() == checkpointer.path(7)
    loaded = checkpointer.load_latest()
    assert loaded["step"] == 7
    assert torch.equal(loaded["task"]["weight"], state()["task"]["weight"])
    assert loaded["nested"] == state()["nested"]


def test_checkpoint_keeps_the_last_ones(tmp_path):
    checkpointer = Checkpointer(tmp_path, keep_last=2)
    for step in (5, 10, 1000, 200):
        checkpointer.save(step, state())
    assert [p.name for p in checkpointer.files()] == ["step-000000200.pt", "step-000001000.pt"]
    with pytest.raises(ValueError, match=r"keep_last \(0\)"):
        Checkpointer(tmp_path, keep_last=0)


def test_checkpoint_ignores_and_clears_unfinished_files(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, state())
    (tmp_path / ".step-000000002.pt.0123456789ab.avssl-tmp").write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    assert checkpointer.load_latest()["step"] == 1
    checkpointer.save(3, state())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "step-000000001.pt", "step-000000003.pt"]


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = bytearray()
    elif how == "one bit":
        data[data.find(np.full(50, 2.0, np.float32).tobytes()) + 40] ^= 1  # inside a weight
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit"])
def test_checkpoint_skips_a_damaged_file_and_names_it(tmp_path, how):
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, state(1.0))
    damage(checkpointer.save(2, state(2.0)), how)
    with pytest.raises(CheckpointError, match=r"step-000000002\.pt is damaged"):
        load_checkpoint(checkpointer.path(2))
    with pytest.warns(UserWarning, match=r"step-000000002\.pt is damaged"):
        assert checkpointer.load_latest()["step"] == 1
    with pytest.warns(UserWarning, match=r"step-000000002\.pt is damaged"):
        assert checkpointer.latest() == checkpointer.path(1)


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_damage_at_any_byte_raises_one_error_type(tmp_path):
    """Whatever byte is hit, the error is ours or the content is right."""
    checkpointer = Checkpointer(tmp_path)
    path = checkpointer.save(1, state())
    good, generator = path.read_bytes(), random.Random(0)
    caught = 0
    for _ in range(150):
        data = bytearray(good)
        data[generator.randrange(len(data))] ^= 1 << generator.randrange(8)
        path.write_bytes(data)
        try:
            loaded = load_checkpoint(path)
        except CheckpointError:
            caught += 1
        else:
            assert torch.equal(loaded["task"]["weight"], state()["task"]["weight"])
    assert caught > 75


@pytest.mark.filterwarnings("ignore:.*is damaged")
def test_checkpoint_with_all_files_damaged_lists_them(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    for step in (1, 2):
        damage(checkpointer.save(step, state()), "truncated")
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint can be read.*step-000000002.*step-000000001"):
        checkpointer.load_latest()


def test_saving_an_object_raises_and_names_the_key(tmp_path):
    checkpointer = Checkpointer(tmp_path)
    with pytest.raises(TypeError, match=r"state\['extra'\]\['lr'\] is a float64"):
        checkpointer.save(1, {"extra": {"lr": np.float64(0.1)}})
    with pytest.raises(TypeError, match="key of type tuple"):
        checkpointer.save(1, {"extra": {(1, 2): 0}})
    assert checkpointer.files() == []


def test_loading_runs_no_code(tmp_path):
    """A file that would run code when unpickled is refused, and its code is not run."""

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"format_version": 1, "bomb": Bomb()}, tmp_path / "step-000000001.pt")
    with pytest.raises(CheckpointError, match="is not an avssl checkpoint"):
        load_checkpoint(tmp_path / "step-000000001.pt")
    assert not (tmp_path / "ran").exists()


def test_checkpoint_of_another_format_raises(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FORMAT_VERSION", 99)
    path = Checkpointer(tmp_path).save(1, state())
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="checkpoint format 99, but this avssl reads format 3"):
        load_checkpoint(path)


@pytest.mark.parametrize("save", ["save", "save_best"])
def test_no_room_for_a_checkpoint_leaves_the_last_one(tmp_path, file_size_limit, save):
    checkpointer = Checkpointer(tmp_path)
    checkpointer.save(1, state())
    with (
        file_size_limit(2**16),  # torch.save raises a RuntimeError of its own over the system's
        pytest.raises(OSError, match=r"File too large: .*: '.*(2|best)\.pt'"),
    ):
        getattr(checkpointer, save)(2, {"task": torch.zeros(10**6)})
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000001.pt"]


def test_load_checkpoint_of_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "step-000000001.pt")


def test_best_waits_for_a_checkpoint_that_is_being_written(tmp_path):
    class Writer:
        def wait(self):
            unfinished.rename(tmp_path / "step-000000005")

    unfinished = unfinished_name(tmp_path / "step-000000005")
    unfinished.mkdir()
    checkpointer = Checkpointer(tmp_path)
    checkpointer._writer = Writer()
    checkpointer.save_best(6, {})
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "step-000000005"}
