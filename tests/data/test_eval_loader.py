import pytest
import torch
from data_fakes import dataset, with_bad

from avssl.data import EvalLoader


def gather(loader):
    """Rows, keys and sound of all clips, and all failures."""
    rows, keys, audio, failed = [], [], [], []
    for batch, batch_rows, failures in loader:
        assert torch.equal(batch.index.row, batch_rows)
        rows += batch_rows.tolist()
        keys += batch.index.key.tolist()
        audio.append(batch.audio)
        failed += [failure.row for failure in failures]
    return rows, keys, torch.cat(audio), failed


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_eval_loader_gives_every_row_once_in_order(batch_size, num_workers):
    data = dataset(with_bad(10, [3, 9]))
    loader = EvalLoader(data, batch_size, num_workers=num_workers)
    rows, _, audio, failed = gather(loader)
    assert rows == [0, 1, 2, 4, 5, 6, 7, 8]
    assert sorted(failure.row for failure in loader.ledger) == [3, 9]
    assert set(failed) <= {3, 9}
    for row, sound in zip(rows, audio, strict=True):
        assert torch.equal(sound, data.read_even(row, 1)[0].audio)


def test_eval_loader_takes_several_windows_of_chosen_rows():
    data = dataset(6)
    loader = EvalLoader(data, 5, rows=[4, 1, 2], clips_per_row=2)
    assert len(loader) == 2
    assert [len(batch) for batch, _, _ in loader] == [4, 2]
    rows, keys, audio, _ = gather(loader)
    assert rows == [4, 4, 1, 1, 2, 2]
    assert len(set(keys)) == 6
    assert audio[:, 0].mul(100).round().tolist() == [0, 8] * 3


def test_eval_loader_takes_given_windows():
    loader = EvalLoader(dataset(3), 2, windows=[(2, 1.0, 2.0), (0, 3.0, 3.0), (2, 5.0, 4.0)])
    clips = [(b, i) for b, _, _ in loader for i in range(len(b))]
    rows = [int(b.index.row[i]) for b, i in clips]
    pictures = [b.video[i, 0].float().mean().item() / 10 for b, i in clips]
    sounds = [round(b.audio[i, 0].item() * 100, 3) for b, i in clips]
    assert rows == [2, 0, 2]
    assert pictures == [1.0, 3.0, 5.0]
    assert sounds == [2.0, 3.0, 4.0]
    keys = gather(loader)[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
def test_windows_of_a_row_that_follow_each_other_are_read_in_one_go(batch_size):
    import data_fakes

    windows = [(0, 1.0, 1.0), (0, 2.0, 2.5), (1, 0.0, 0.0), (0, 3.0, 3.0), (0, 4.0, 4.0)]
    data_fakes.opened.clear()
    loader = EvalLoader(dataset(2), batch_size, windows=windows)
    batches = [batch for batch, _, _ in loader]
    assert [len(batch) for batch in batches] == [min(batch_size, 5 - i) for i in range(0, 5, batch_size)]
    assert torch.cat([batch.index.row for batch in batches]).tolist() == [0, 0, 1, 0, 0]
    sounds = torch.cat([batch.audio[:, 0] for batch in batches])
    assert sounds.mul(100).tolist() == pytest.approx([1.0, 2.5, 0.0, 3.0, 4.0], abs=1e-3)
    expected = {1: 5, 2: 4, 3: 3, 100: 3}  # files opened
    assert len(data_fakes.opened) == expected[batch_size]
    assert len({int(key) for batch in batches for key in batch.index.key}) == 5


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_windows_that_are_read_together_do_not_depend_on_the_batch(batch_size):
    import data_fakes

    windows = [(0, float(i), float(i)) for i in range(5)] + [(1, 0.0, 0.0)]
    data_fakes.opened.clear()
    loader = EvalLoader(dataset(2), batch_size, windows=windows, together=2)
    numbers = [[(clip.row, clip.clip_number) for clip in clips] for clips, _ in loader.clips()]
    assert len(data_fakes.opened) == 4  # two, two and one of the first row, one of the second
    assert [number for batch in numbers for number in batch] == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    assert [len(batch) for batch in numbers] == {1: [2, 2, 1, 1], 4: [4, 2], 100: [6]}[batch_size]


def test_eval_loader_rejects_contradictions():
    with pytest.raises(ValueError, match=r"together \(2\).* goes with windows"):
        EvalLoader(dataset(3), 2, together=2)
    with pytest.raises(ValueError, match="either windows, or rows"):
        EvalLoader(dataset(3), 2, windows=[(0, 1.0, 1.0)], clips_per_row=2)
    with pytest.raises(ValueError, match=r"batch_size \(0\)"):
        EvalLoader(dataset(3), 0)
