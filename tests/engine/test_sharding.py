"""Towers in shards equal whole ones in value, gradient and weights; any number of ranks continues their checkpoints."""

import runpy
import shutil
from pathlib import Path

import pytest
import torch

from avssl.engine.checkpoint import Checkpointer, CheckpointError, load_checkpoint
from avssl.engine.precision import Precision
from avssl.engine.sharding import _policy, placement_of
from avssl.models.vit import transformer_blocks

SCRIPT = Path(__file__).with_name("sharded_ranks.py")
script = runpy.run_path(str(SCRIPT))
train, numbers, SAVED = script["train"], script["numbers"], script["SAVED"]


@pytest.fixture(scope="module")
def folder(torchrun, tmp_path_factory):
    """Four ranks train and save; two ranks continue a checkpoint of theirs, and one of a single process."""
    folder = tmp_path_factory.mktemp("sharded")
    torchrun(SCRIPT, folder, ranks=4)
    with pytest.raises(ZeroDivisionError):
        train(SAVED, 7, folder / "of 1", crash=True)
    for name in ("of 4", "of 1"):
        shutil.copytree(folder / name, folder / f"{name}, on 1")
    torchrun(SCRIPT, folder)
    return folder


def found(folder, ranks=4):
    return torch.load(folder / f"found{ranks}.pt", weights_only=True)


def assert_same(got, expected, rtol=1e-3, atol=2e-5):
    assert got["task"].keys() == expected["task"].keys()
    for part in ("task", "average"):
        values = expected[part] or {}
        values = values.get("average", values)
        for name, value in values.items():
            other = got[part].get("average", got[part])[name]
            torch.testing.assert_close(
                other, value, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
            )
    assert got["metrics"].keys() == expected["metrics"].keys()
    for name, value in expected["metrics"].items():
        assert got["metrics"][name] == pytest.approx(value, rel=rtol, abs=max(1e-5, atol)), name
    assert got["seen"] == pytest.approx(expected["seen"], rel=rtol)


@pytest.mark.parametrize("variant", [name for name in script["VARIANTS"] if name != "bf16"])
def test_four_ranks_in_shards_equal_one_process_after_several_steps(folder, variant):
    one = numbers(*train(variant, 4))
    assert_same(found(folder)[variant], one)
    if variant in script["WITHOUT_SHARDS"]:
        assert_same(found(folder)[f"{variant}, ddp"], one)


def test_bf16_in_shards_is_as_near_as_bf16_without(folder):
    assert_same(found(folder)["bf16"], found(folder)["bf16, ddp"], rtol=0.05, atol=0.01)


def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(folder):
    straight, resumed = found(folder)["straight"], found(folder)["resumed"]
    assert straight["metrics"] == resumed["metrics"]
    assert straight["seen"] == resumed["seen"]
    for part in (straight["task"], straight["average"]["average"]):
        others = resumed["task"] if part is straight["task"] else resumed["average"]["average"]
        assert all(torch.equal(others[name], value) for name, value in part.items())


@pytest.mark.parametrize("variant", script["IN_PROGRAMS"])
def test_units_in_shards_are_programs_of_equal_value_and_gradient(folder, variant):
    plain, compiled = (found(folder, ranks=2)[name][variant] for name in ("plain", "compiled"))
    assert compiled.pop("programs 0") == compiled.pop("programs 1") > 0, "the second step makes none"
    assert plain.keys() == compiled.keys()
    rtol, atol = (0.05, 0.01) if variant == "bf16" else (1e-4, 1e-6)
    for name, value in plain.items():
        torch.testing.assert_close(
            compiled[name], value, rtol=rtol, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("saved", ["of 4", "of 1"])
@pytest.mark.filterwarnings("ignore:resuming with world_size 1, saved with 4")
def test_another_number_of_ranks_continues_a_checkpoint(folder, saved):
    one = numbers(*train(SAVED, 7, folder / f"{saved}, on 1", resume=True))
    assert_same(found(folder, ranks=2)[saved], one)
    assert_same(numbers(*train(SAVED, 7)), one, rtol=1e-2, atol=5e-4)  # seven steps of rounding, not four


def test_a_damaged_shard_is_noticed_and_the_checkpoint_before_it_used(folder, tmp_path):
    shutil.copytree(folder / "straight", tmp_path / "run")
    shard = next((tmp_path / "run" / "step-000000007").glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"step-000000007 is damaged: the checksum of shard-0.* is wrong"):
        load_checkpoint(tmp_path / "run" / "step-000000007")
    with pytest.warns(UserWarning, match="Trying the previous checkpoint"):
        assert Checkpointer(tmp_path / "run").latest().name == "step-000000006"
    shutil.rmtree(tmp_path / "run" / "step-000000006")
    shard.unlink()
    with (
        pytest.raises(CheckpointError, match="no checkpoint can be read"),
        pytest.warns(UserWarning, match="no such file"),
    ):
        Checkpointer(tmp_path / "run").latest()


def test_a_checkpoint_in_shards_holds_no_pickle_but_plain_values(folder):
    names = sorted(path.name for path in (folder / "straight" / "step-000000007").iterdir())
    shards = [f"shard-0000{number}-model-00001-of-00001.safetensors" for number in range(1, 5)]
    assert names == [*shards, "shards.json", "state.pt"]


def test_placement_gives_each_rank_a_part_where_the_first_dimension_is_short():
    shapes = ((8, 3), (6,), (1, 5, 8), (1, 16, 3), (1, 3))
    assert [placement_of(torch.Size(shape), 4).dim for shape in shapes] == [0, 0, 2, 1, 0]


def test_units_are_gathered_in_bf16_unless_their_norm_cannot_take_it():
    (block,) = transformer_blocks(1, 8, 2, 1e-6)
    bf16, cuda, cpu = Precision("bf16"), torch.device("cuda"), torch.device("cpu")
    policy = _policy(block, bf16, cuda)
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    for unit, precision, device in (
        (block, bf16, cpu),
        (block, Precision(), cuda),
        (torch.nn.BatchNorm1d(2), bf16, cuda),
    ):
        assert _policy(unit, precision, device).param_dtype is None
