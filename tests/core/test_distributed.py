"""One process without a group, and two real gloo ranks started by torchrun (distributed_ranks.py)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.core import distributed

RANKS_SCRIPT = Path(__file__).with_name("distributed_ranks.py")
RESTART_SCRIPT = Path(__file__).with_name("restart_ranks.py")
LEAVING_SCRIPT = Path(__file__).with_name("leaving_ranks.py")


@pytest.fixture(scope="module")
def ranks(torchrun: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    torchrun(RANKS_SCRIPT, folder)
    return [torch.load(folder / f"rank{r}.pt", weights_only=True) for r in range(2)]


@pytest.fixture
def no_torchrun(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "TORCHELASTIC_USE_AGENT_STORE"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_start_joins_the_group_of_torchrun(ranks: list[dict[str, Any]]) -> None:
    assert [r["rank"] for r in ranks] == [0, 1]
    assert [r["is_main"] for r in ranks] == [True, False]
    assert all(r["world_size"] == 2 and r["is_initialized"] and r["device"] == "cpu" for r in ranks)


def test_gather_holds_the_rows_of_all_ranks_in_order(ranks: list[dict[str, Any]]) -> None:
    expected = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    assert all(torch.equal(r["gathered"], expected) for r in ranks)


def test_gather_takes_strided_tensors_of_any_rank(ranks: list[dict[str, Any]]) -> None:
    own = torch.arange(12.0).reshape(3, 2, 2).transpose(0, 1)
    assert all(torch.equal(r["strided"], torch.cat([own, own + 100])) for r in ranks)


def test_gather_gradient_is_the_sum_over_ranks_cut_to_own_rows(ranks: list[dict[str, Any]]) -> None:
    # d/dx_j Σ_r weight[r, j] x_j² = 2 (weight[0, j] + weight[1, j]) x_j for x = 0, 1, 10, 11.
    assert torch.equal(ranks[0]["gradient"], torch.tensor([[0.0], [2 * 62.0 * 1]]))
    assert torch.equal(ranks[1]["gradient"], torch.tensor([[2 * 73.0 * 10], [2 * 84.0 * 11]]))


def test_several_tensors_are_gathered_together(ranks: list[dict[str, Any]]) -> None:
    for number, r in enumerate(ranks):
        ones, twos, numbers, flags = r["together"]
        assert ones.tolist() == [[1.0] * 3] * 2 + [[2.0] * 3] * 2
        assert twos.tolist() == [[1.0] * 3, [2.0] * 3]
        assert twos.dtype == torch.bfloat16
        assert numbers.tolist() == [0, 1, 2, 1, 2, 3]
        assert flags.tolist() == [False, True]
        assert r["own_rows"].equal(ones[2 * number :][:2])
        # d/dx (1 + 2) x² = 6 x, and both ranks sum the others.
        assert r["together_gradients"][0].tolist() == [[6.0 * (number + 1)] * 3] * 2
        assert r["together_gradients"][1].tolist() == [[2.0] * 3]


def test_own_columns_come_from_the_rows_of_all_ranks(ranks: list[dict[str, Any]]) -> None:
    everyone = torch.cat([r["scores"] for r in ranks])  # (4, 4)
    for number, r in enumerate(ranks):
        assert r["columns"].equal(everyone[:, 2 * number :][:, :2])
        # Row i of all has the weight i + 1 on both ranks.
        assert r["columns_gradient"].tolist() == [[1.0 + 2 * number] * 4, [2.0 + 2 * number] * 4]


def test_mean_is_over_ranks(ranks: list[dict[str, Any]]) -> None:
    assert all(torch.equal(r["mean"], torch.tensor([1.5, 7.5])) for r in ranks)


def test_flags_agree_on_all_ranks(ranks: list[dict[str, Any]]) -> None:
    for r in ranks:
        assert (r["any_one"], r["any_none"]) == (True, False)


def test_broadcast_object_returns_the_value_of_the_source(ranks: list[dict[str, Any]]) -> None:
    assert all(r["from_0"] == {"folder": "runs/of_0"} and r["from_1"] == "rank 1" for r in ranks)


def test_restarted_ranks_join_one_group(torchrun: Callable[..., None], tmp_path: Path) -> None:
    torchrun(RESTART_SCRIPT, tmp_path, max_restarts=1)
    assert [(tmp_path / f"rank{r}").read_text() for r in range(2)] == ["1", "1"]


def test_no_thread_of_a_group_outlives_it(torchrun: Callable[..., None], tmp_path: Path) -> None:
    """A thread of gloo that needs Python after its end would abort the process (SIGABRT)."""
    torchrun(LEAVING_SCRIPT, tmp_path)
    of_rank = [json.loads((tmp_path / f"rank{r}.json").read_text()) for r in range(2)]
    assert [seen["during"] for seen in of_rank] == [4, 4]  # two of each group
    assert [seen["after_success"] for seen in of_rank] == [0, 0]
    assert [seen["after_error"] for seen in of_rank] == [0, 0]
    assert of_rank[0]["error"].startswith("RunError: rank 0 stops, as another rank has ended. Its own message says why")
    assert of_rank[1]["error"].startswith("KeyError: ")


def test_waiting_for_rank_0_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_JOIN_TIMEOUT_SECONDS", 0.1)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 2)
    torch.distributed.PrefixStore("avssl", store).set("attempt", "of a dead rank 0")
    with pytest.raises(TimeoutError, match="rank 1 waited 0 s for rank 0, which did not answer"):
        distributed._store_of_attempt(store, 1, 2)


def test_one_process_needs_no_group(no_torchrun: pytest.MonkeyPatch) -> None:
    assert distributed.start("cpu") == torch.device("cpu")
    assert not distributed.is_initialized()
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    rows = torch.randn(3, 2, requires_grad=True)
    assert distributed.gather_with_grad(rows) is rows
    assert distributed.own_rows(rows) is distributed.own_columns_of_all(rows) is rows
    mean = distributed.mean(rows)
    assert torch.equal(mean, rows)
    assert not mean.requires_grad
    assert distributed.any_true(True)
    assert not distributed.any_true(False)
    assert distributed.broadcast_object("value") == "value"
    distributed.set_flag("here")
    assert not distributed.has_flag("here")
    distributed.barrier()
    distributed.stop()


def test_start_ignores_a_world_of_one(no_torchrun: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        no_torchrun.setenv(name, value)
    assert distributed.start(torch.device("cpu")) == torch.device("cpu")
    assert not distributed.is_initialized()


def test_start_with_a_partial_environment_raises(no_torchrun: pytest.MonkeyPatch) -> None:
    no_torchrun.setenv("RANK", "1")
    with pytest.raises(RuntimeError, match=r"RANK set but WORLD_SIZE, LOCAL_RANK missing\. Start ranks with torchrun"):
        distributed.start("cpu")


def test_start_with_more_ranks_than_gpus_raises(no_torchrun: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "3")):
        no_torchrun.setenv(name, value)
    no_torchrun.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(
        ValueError, match=r"rank 3 of this machine has no GPU: 2 visible.*at most 2 ranks.*--device cpu"
    ):
        distributed.start("cuda")
