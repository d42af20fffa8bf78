import threading
import warnings
from pathlib import Path

import data_fakes
import pytest
import torch
from data_fakes import assert_same_batches, dataset, rows_of, take, with_bad

from avssl.core import distributed, draws
from avssl.core.parallel import ChildDied
from avssl.data import TooManyBadFiles, TrainLoader


@pytest.fixture
def as_rank(monkeypatch):
    """Makes loaders believe that they are one of several ranks."""

    def become(rank, world_size):
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: world_size)

    return become


def quiet_share(loader):
    loader.share_bad_files = lambda: None  # no process group behind a believed rank
    return loader


# ------------------------------------------------------------------ order


def test_pass_holds_every_id_once_up_to_the_remainder():
    loader = TrainLoader(dataset(23), 4)
    assert loader.steps_per_epoch == 5
    batches = take(loader, 15)
    epochs = [rows_of(batches[i : i + 5]) for i in (0, 5, 10)]
    for number, rows in enumerate(epochs):
        assert len(set(rows)) == 20
        assert rows == draws.epoch_order(3, number, loader.dataset.id_keys)[:20].tolist()
    assert epochs[0] != epochs[1]


def test_batch_index_names_the_draws_of_each_clip():
    data = dataset(9)
    batches = take(TrainLoader(data, 4), 3)
    for number, batch in zip((0, 0, 1), batches, strict=True):
        assert torch.equal(batch.index.key, draws.clip_key(3, number, data.id_keys[batch.index.row]))
        for i, row in enumerate(batch.index.row.tolist()):
            assert torch.equal(batch.video[i], data.read(row, number).video)
            assert torch.equal(batch.audio[i], data.read(row, number).audio)


@pytest.mark.parametrize("bad", [[], [1, 5, 6]])
def test_ranks_together_equal_one_process(as_rank, bad):
    """Without bad files step by step, with them as a set over the pass."""
    names = with_bad(24, bad)
    as_rank(0, 1)
    together = take(TrainLoader(dataset(names), 6, max_bad_fraction=0.5), 4)
    parts = []
    for rank in (0, 1):
        as_rank(rank, 2)
        loader = quiet_share(TrainLoader(dataset(names), 3, max_bad_fraction=0.5))
        assert loader.steps_per_epoch == 4
        parts.append(take(loader, 4))
    if not bad:
        for whole, first, second in zip(together, *parts, strict=True):
            assert sorted(whole.index.key.tolist()) == sorted(first.index.key.tolist() + second.index.key.tolist())
    good = set(range(24)) - set(bad)
    assert set(rows_of(together)) == good
    assert set(rows_of(parts[0]) + rows_of(parts[1])) == good


def test_clips_of_other_shapes_share_a_batch():
    names = ["a.mp4", "b_tall.mp4", "c.mp4", "d_tall.mp4"]
    (batch,) = take(TrainLoader(dataset(names), 4), 1)
    tall = torch.tensor([row in (1, 3) for row in batch.index.row.tolist()])
    assert batch.video.shape == (4, 4, 3, 12, 8)
    assert (batch.valid_hw[tall] == torch.tensor([12, 8])).all()
    assert (batch.valid_hw[~tall] == torch.tensor([6, 8])).all()
    assert not batch.video[~tall][..., 6:, :].any()


# ------------------------------------------------------------------ workers


@pytest.mark.parametrize("num_workers", [1, 3])
def test_batches_do_not_depend_on_workers(num_workers):
    """Over epochs, shapes, permanent failures, and failures that only some windows meet."""
    names = with_bad(26, [0, 4, 9, 20]) + with_bad(12, range(0, 12, 2), "_truncated", "w")
    names = [f"{i}_tall{name}" if i % 5 == 0 else f"{i}{name}" for i, name in enumerate(names)]

    def batches(workers):
        loader = TrainLoader(dataset(names), 4, num_workers=workers, max_bad_fraction=0.5)
        return take(loader, 30), loader

    expected, one = batches(0)
    found, other = batches(num_workers)
    assert_same_batches(expected, found)
    assert one.state_dict() == other.state_dict()
    assert len(one.ledger) >= 6


def test_workers_start_without_warnings_and_leave_the_generator_alone():
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        take(TrainLoader(dataset(8), 2, num_workers=3), 2)
        take(TrainLoader(dataset(8), 2), 2)
    assert torch.equal(state, torch.get_rng_state())


def test_a_worker_that_dies_is_reported_with_what_it_was_reading():
    names = [*with_bad(7, []), "killer_deadly.mp4"]
    loader = TrainLoader(dataset(names), 4, num_workers=2)
    with pytest.raises(ChildDied, match=r"ended by SIGKILL while reading killer_deadly\.mp4 ") as caught:
        take(loader, 8)
    assert "(/nowhere/killer_deadly.mp4). Memory ran out" in str(caught.value)


def test_a_fault_of_the_code_ends_the_run_with_its_reason(monkeypatch):
    """It fails for every row, so that too many are lost."""

    def buggy(path, backend="auto", limits=None):
        raise TypeError("a bug")

    monkeypatch.setattr("avssl.data.row_files.open_media", buggy)
    for num_workers in (0, 1):
        with pytest.raises(TooManyBadFiles, match=r"crashed: \d+\n.*reading failed \(TypeError in .+:\d+: a bug\)"):
            take(TrainLoader(dataset(8), 4, num_workers=num_workers), 1)


# ------------------------------------------------------------------ resume


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("stop", [1, 3, 6, 7, 12, 13])
def test_resume_continues_exactly(stop, num_workers):
    """From the middle of a pass, its end, and after bad files; whatever was read ahead is forgotten."""
    names = with_bad(26, [3, 4, 11]) + with_bad(5, [0, 2], "_truncated", "w")

    def make():
        return TrainLoader(dataset(names), 5, num_workers=num_workers, max_bad_fraction=0.5)

    whole = make()
    expected = take(whole, 20)
    first = make()
    take(first, stop)
    state = first.state_dict()
    assert state == first.state_dict()
    resumed = make()
    resumed.load_state_dict(state)
    assert_same_batches(expected[stop:], take(resumed, 20 - stop))
    assert resumed.state_dict() == whole.state_dict()


def test_state_is_of_batches_handed_out_not_read_ahead():
    loader = TrainLoader(dataset(40), 2, num_workers=2, prefetch_factor=4)
    take(loader, 3)
    state = loader.state_dict()
    assert (state["epoch"], state["batches"], state["position"]) == (0, 3, 6)


def test_iterating_again_continues():
    expected = take(TrainLoader(dataset(20), 3), 9)
    loader = TrainLoader(dataset(20), 3)
    assert_same_batches(expected, take(loader, 4) + take(loader, 5))


@pytest.mark.parametrize(
    ("other", "name"),
    [
        (lambda: TrainLoader(dataset(20, seed=9), 4), "seed"),
        (lambda: TrainLoader(dataset(21), 4), "manifest"),
        (lambda: TrainLoader(dataset(20), 5), "global_batch_size"),
    ],
)
def test_resume_refuses_another_run(other, name):
    with pytest.raises(ValueError, match=f"cannot continue with {name} .* made with"):
        other().load_state_dict(TrainLoader(dataset(20), 4).state_dict())


def test_resume_on_another_number_of_ranks_warns_and_keeps_the_place(as_rank):
    as_rank(0, 1)
    one = TrainLoader(dataset(24), 4)
    expected = take(one, 6)
    state = TrainLoader(dataset(24), 4)
    take(state, 2)
    rows = []
    for rank in (0, 1):
        as_rank(rank, 2)
        loader = quiet_share(TrainLoader(dataset(24), 2))
        with pytest.warns(UserWarning, match="continuing on 2 ranks, saved on 1"):
            loader.load_state_dict(state.state_dict())
        rows += rows_of(take(loader, 4))
    assert sorted(rows) == sorted(rows_of(expected[2:]))


# ------------------------------------------------------------------ bad files


def test_bad_files_are_replaced_by_the_next_ids_and_then_by_new_windows():
    loader = TrainLoader(dataset(with_bad(12, [2, 7, 9])), 4, max_bad_fraction=0.3)
    batches = take(loader, 3)
    order = [row for row in draws.epoch_order(3, 0, loader.dataset.id_keys).tolist() if row not in (2, 7, 9)]
    assert rows_of(batches) == order + order[:3]
    keys = torch.cat([batch.index.key for batch in batches])
    assert len(keys.unique()) == 12  # the three that come again are cut elsewhere
    assert sorted(failure.row for failure in loader.ledger) == [2, 7, 9]
    assert loader.ledger.counts() == {"not_media": 3}


def test_bad_files_are_opened_once():
    data_fakes.opened.clear()
    take(TrainLoader(dataset(with_bad(12, [2, 7])), 4, max_bad_fraction=0.3), 12)
    assert data_fakes.opened.count("v002_broken.mp4") == 1
    assert data_fakes.opened.count("v007_broken.mp4") == 1


def test_known_bad_files_are_not_opened_after_a_resume():
    loader = TrainLoader(dataset(with_bad(12, [2, 7])), 4, max_bad_fraction=0.3)
    take(loader, 3)
    resumed = TrainLoader(dataset(with_bad(12, [2, 7])), 4, max_bad_fraction=0.3)
    resumed.load_state_dict(loader.state_dict())
    data_fakes.opened.clear()
    take(resumed, 6)
    assert not [name for name in data_fakes.opened if "broken" in name]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_too_many_bad_files_stop_the_run(num_workers, tmp_path):
    names = with_bad(40, range(0, 40, 4))
    loader = TrainLoader(dataset(names), 4, num_workers=num_workers, max_bad_fraction=0.1)
    with pytest.raises(TooManyBadFiles, match=r"(?s)5 of 40 rows.*not_media: 5\n    v0\d\d_broken.mp4: /nowhere"):
        take(loader, 10)
    loader.ledger.write(tmp_path / "dropped_files.csv")
    assert (tmp_path / "dropped_files.csv").read_text().count("not_media") == 5


def test_all_files_bad_ends_even_if_allowed():
    with pytest.raises(TooManyBadFiles, match="every row"):
        take(TrainLoader(dataset(with_bad(6, range(6))), 2, max_bad_fraction=1.0), 1)


def test_loader_rejects_a_batch_larger_than_the_data(as_rank):
    with pytest.raises(ValueError, match=r"batch_size \(8\) on 1 ranks .* 7 rows"):
        TrainLoader(dataset(7), 8)
    as_rank(0, 2)
    with pytest.raises(ValueError, match=r"batch_size \(4\) on 2 ranks"):
        TrainLoader(dataset(7), 4)


TWO_RANKS = """
import sys
sys.path.insert(0, sys.argv[1])
import fakes, pytest
import avssl.data.dataset
avssl.data.row_files.open_media = fakes.open_media
from avssl.core import distributed
from avssl.data import TooManyBadFiles, TrainLoader
from avssl.engine.replicas import collect_ranks, pick_parts
distributed.start("cpu")
names = fakes.with_bad(24, [1, 2, 7, 11])
loader = TrainLoader(fakes.dataset(names), 3, max_bad_fraction=0.2)
rows = fakes.rows_of(fakes.take(loader, 13))
assert len(rows) == 39 and not {1, 2, 7, 11} & set(rows)
assert sorted(f.row for f in loader.ledger) == [1, 2, 7, 11], list(loader.ledger)
if distributed.is_main():
    loader.ledger.write(sys.argv[2])
states = collect_ranks(loader.state_dict())
shared = [state["shared_ledger"] for state in states]
assert len(shared[0]["failures"]) == 4 and shared[1] is None  # saved once
assert not any(state["ledger"]["failures"] for state in states)
resumed = TrainLoader(fakes.dataset(names), 3, max_bad_fraction=0.2)
resumed.load_state_dict(pick_parts(states))
assert collect_ranks(resumed.state_dict()) == states
assert list(resumed.ledger) == list(loader.ledger)  # in one order on all ranks
strict = TrainLoader(fakes.dataset(names), 3, max_bad_fraction=0.15)
with pytest.raises(TooManyBadFiles, match="4 of 24"):  # together; each rank alone has fewer
    fakes.take(strict, 13)
distributed.stop()
"""


def test_two_ranks_share_bad_files_and_stop_together(torchrun, tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(TWO_RANKS)
    order = draws.epoch_order(3, 0, dataset(with_bad(24, [1, 2, 7, 11])).id_keys).tolist()
    alone = [len({1, 2, 7, 11} & set(order[rank::2])) for rank in (0, 1)]
    assert max(alone) <= 0.15 * 24, "the ids must be such that no rank stops by itself"
    torchrun(script, Path(__file__).parent, tmp_path / "dropped_files.csv")
    assert (tmp_path / "dropped_files.csv").read_text().count("not_media") == 4


# ------------------------------------------------------------------ threads and shared memory


def test_clips_that_fit_no_slot_come_another_way_and_are_counted(monkeypatch):
    names = [f"{i}_tall.mp4" if i % 5 == 0 else f"{i}.mp4" for i in range(20)]
    expected = take(TrainLoader(dataset(names), 4), 12)
    loader = TrainLoader(dataset(names), 4, num_workers=2)
    assert_same_batches(take(loader, 12), expected)
    assert loader.num_spilled == 0
    monkeypatch.setattr("avssl.data.workers._room_bytes", lambda dataset: 8700)  # canvases of 8 x 12 do not fit
    loader = TrainLoader(dataset(names), 4, num_workers=2)
    assert_same_batches(take(loader, 12), expected)
    assert 0 < loader.num_spilled < 16


def test_without_room_for_shared_memory_clips_come_another_way(monkeypatch, caplog):
    monkeypatch.setattr("avssl.data.workers._room_bytes", lambda dataset: 2**58)  # no address space has as much
    loader = TrainLoader(dataset(20), 4, num_workers=2)
    assert_same_batches(take(loader, 6), take(TrainLoader(dataset(20), 4), 6))
    assert "clips take a slower way" in caplog.text


def test_batches_that_are_kept_stay_as_they_are():
    """However many are kept: the memory that workers write to is never that of a batch."""
    loader = TrainLoader(dataset(8), 2, num_workers=2)
    batches = iter(loader)
    kept = [next(batches) for _ in range(40)]
    copies = [batch.video.clone() for batch in kept]
    [next(batches) for _ in range(20)]
    batches.close()
    assert all(torch.equal(batch.video, copy) for batch, copy in zip(kept, copies, strict=True))


def test_the_thread_and_the_workers_end_with_the_iteration():
    batches = iter(TrainLoader(dataset(50), 2, num_workers=2))
    next(batches)
    assert [thread.name for thread in threading.enumerate()].count("avssl-ahead") == 1
    batches.close()
    assert [thread.name for thread in threading.enumerate()].count("avssl-ahead") == 0
