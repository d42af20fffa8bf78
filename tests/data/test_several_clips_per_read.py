"""Several clips of each opening of a file."""

import data_fakes
import pytest
import torch
from data_fakes import assert_same_batches, dataset, rows_of, take, with_bad

from avssl.core import distributed, draws
from avssl.data import TooManyBadFiles, TrainLoader


def test_a_block_of_reads_is_dealt_out_over_batches_of_different_files():
    data_fakes.opened.clear()
    loader = TrainLoader(dataset(12), 4, clips_per_read=3)
    assert loader.steps_per_epoch == 9
    batches = take(loader, 9)
    order = draws.epoch_order(3, 0, loader.dataset.id_keys).tolist()
    for step, batch in enumerate(batches):
        assert batch.index.row.tolist() == order[step // 3 * 4 :][:4]
    # Every clip of a row is another one, and each is what reading it alone gives.
    clips = [(row, step % 3) for step, batch in enumerate(batches) for row in batch.index.row.tolist()]
    assert len(set(clips)) == 36
    data = loader.dataset
    for batch, number in zip(batches, [0, 1, 2] * 3, strict=True):
        for i, row in enumerate(batch.index.row.tolist()):
            alone = data.read(row, 0, number)
            assert torch.equal(batch.video[i], alone.video)
            assert torch.equal(batch.audio[i], alone.audio)
            assert batch.index.key[i] == draws.clip_key(3, 0, data.id_keys[row : row + 1], number)


def test_each_file_is_opened_once_a_pass():
    data_fakes.opened.clear()
    take(TrainLoader(dataset(12), 4, clips_per_read=3), 9)
    assert sorted(data_fakes.opened) == sorted(set(data_fakes.opened))
    assert len(data_fakes.opened) == 12


@pytest.mark.parametrize("clips_per_read", [1, 2, 5])
@pytest.mark.parametrize("bad", [[], [1, 5, 6, 17]])
def test_a_resumed_stream_goes_on_the_same_with_other_workers(clips_per_read, bad):
    names = with_bad(19, bad)

    def loader(workers=0):
        return TrainLoader(dataset(names), 4, clips_per_read=clips_per_read, num_workers=workers, max_bad_fraction=0.5)

    count = 2 * loader().steps_per_epoch + 3
    whole = take(loader(), count)
    for stop in (1, 2, count // 2, count - 2):
        first = loader()
        take(first, stop)
        second = loader(workers=2)
        second.load_state_dict(first.state_dict())
        assert_same_batches(take(second, count - stop), whole[stop:])


def test_bad_files_are_replaced_and_batches_stay_whole():
    loader = TrainLoader(dataset(with_bad(16, [2, 3])), 4, clips_per_read=4, max_bad_fraction=0.5)
    rows = rows_of(take(loader, loader.steps_per_epoch))
    assert len(rows) == 64
    assert not {2, 3} & set(rows)
    assert len(loader.ledger) == 2
    with pytest.raises(TooManyBadFiles):
        take(TrainLoader(dataset(with_bad(8, range(8))), 4, clips_per_read=4, max_bad_fraction=1.0), 2)


def test_ranks_together_equal_one_process(monkeypatch):
    together = take(TrainLoader(dataset(24), 6, clips_per_read=2), 8)
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        monkeypatch.setattr(distributed, "world_size", lambda: 2)
        parts.append(take(TrainLoader(dataset(24), 3, clips_per_read=2), 8))
    for whole, first, second in zip(together, *parts, strict=True):
        assert sorted(whole.index.key.tolist()) == sorted(first.index.key.tolist() + second.index.key.tolist())


def test_another_number_of_clips_is_another_stream():
    state = TrainLoader(dataset(12), 4, clips_per_read=2).state_dict()
    with pytest.raises(ValueError, match="clips_per_read 3"):
        TrainLoader(dataset(12), 4, clips_per_read=3).load_state_dict(state)
    with pytest.raises(ValueError, match=r"clips_per_read \(0\)"):
        TrainLoader(dataset(12), 4, clips_per_read=0)


def test_keys_of_many_texts_are_those_of_each():
    texts = ["", "a.mp4", "ü/ß.mp4#0.000-10.000"]
    assert draws.text_keys(texts).tolist() == [draws.text_key(text) for text in texts]
    assert len(draws.text_keys([])) == 0


def test_the_draws_of_one_clip_are_those_of_a_batch():
    keys = torch.tensor([0, 1, -5, 2**62, -(2**63)])
    for seed, epoch, number in ((0, 0, 0), (-7, 3, 11), (2**63 + 5, 9, 2)):
        batch = draws.clip_key(seed, epoch, keys, number)
        numbers = torch.full_like(keys, number)
        assert torch.equal(batch, draws.clip_key(seed, epoch, keys, numbers))
        alone = [draws.clip_key_int(seed, epoch, key, number) for key in keys.tolist()]
        assert alone == batch.tolist()
        units = draws.uniform(batch, "window.audio", 3)[:, 0].tolist()
        assert [draws.uniform_float(key, "window.audio") for key in alone] == units
