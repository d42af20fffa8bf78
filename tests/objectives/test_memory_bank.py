"""The memory and its negatives: what a row becomes, whose rows a state holds, and which rows are drawn."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.draws import clip_key
from avssl.objectives import MemoryBank, MemoryRows
from avssl.objectives.memory_bank import _Repeats
from avssl.objectives.negatives import NegativeSampler


def _rows(names: str) -> MemoryRows:
    return MemoryRows.from_ids(list(names))


def _index(row: list[int], group: Tensor | None = None) -> BatchIndex:
    rows = torch.tensor(row)
    return BatchIndex(rows, rows if group is None else group[rows], clip_key(0, 0, rows, torch.arange(len(row))))


def _embeddings(*directions: list[float]) -> Embeddings:
    video = torch.tensor(directions)
    return Embeddings(video, video.flip(1))


# ---------------------------------------------------------------- rows


def test_rows_begin_as_unit_vectors_that_belong_to_their_ids() -> None:
    one, other = MemoryBank(_rows("abcd"), 128), MemoryBank(_rows("dxa"), 128)
    torch.testing.assert_close(one.video.norm(dim=1), torch.ones(4))
    assert torch.equal(one.video[[3, 0]], other.video[[0, 2]])
    assert not torch.equal(one.video, one.audio)
    assert not torch.equal(one.video, MemoryBank(_rows("abcd"), 128, seed=1).video)


def test_first_directions_are_uniform_on_the_sphere() -> None:
    bank = MemoryBank(MemoryRows.from_ids([str(i) for i in range(4000)]), 16)
    assert bank.video.mean(dim=0).abs().max() < 0.02  # standard error 1 / sqrt(16 * 4000) = 0.004
    assert (bank.video.square().mean(dim=0) - 1 / 16).abs().max() < 0.005


def test_update_by_hand() -> None:
    bank = MemoryBank(_rows("ab"), 2, momentum=0.5)
    bank.video[0], before = torch.tensor([1.0, 0.0]), bank.video[1].clone()
    bank.update(_embeddings([0.0, 7.0]), _index([0]))
    torch.testing.assert_close(bank.video[0], torch.tensor([0.5, 0.5]) / 0.5**0.5)
    assert torch.equal(bank.video[1], before)


def test_a_repeated_id_takes_the_mean_of_its_embeddings() -> None:
    bank = MemoryBank(_rows("abc"), 2, momentum=0.0)
    bank.update(_embeddings([5.0, 0.0], [-1.0, 0.0], [0.0, 1.0]), _index([2, 0, 2]))
    torch.testing.assert_close(bank.video[2], torch.tensor([1.0, 1.0]) / 2**0.5)  # of unit vectors
    torch.testing.assert_close(bank.video[0], torch.tensor([-1.0, 0.0]))


def test_mean_of_equal_rows_is_that_of_a_product_with_all_pairs() -> None:
    def of_pairs(row: Tensor, x: Tensor) -> Tensor:
        same = (row[:, None] == row).float()
        return same / same.sum(dim=1, keepdim=True) @ x

    x = torch.randn(64, 5)
    for row in (torch.randperm(64), torch.arange(64).roll(7) // 2):  # each once, each twice
        assert _Repeats(row)(x).equal(of_pairs(row, x))
    row = torch.randint(0, 9, (64,))
    torch.testing.assert_close(_Repeats(row)(x), of_pairs(row, x))


def test_update_does_not_depend_on_the_order_of_the_batch() -> None:
    one, other = MemoryBank(_rows("abc"), 4), MemoryBank(_rows("abc"), 4)
    video, audio = torch.randn(2, 5, 4).unbind()
    row, order = torch.tensor([0, 1, 0, 2, 0]), torch.tensor([4, 2, 3, 0, 1])
    one.update(Embeddings(video, audio), _index(row.tolist()))
    other.update(Embeddings(video[order], audio[order]), _index(row[order].tolist()))
    torch.testing.assert_close(one.video, other.video)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 1e-3), ("bf16", 1e-2)])
def test_half_precision_follows_the_full_one(dtype: str, tolerance: float) -> None:
    full, half = MemoryBank(_rows("abc"), 8), MemoryBank(_rows("abc"), 8, dtype=dtype)  # type: ignore[arg-type]
    for _ in range(5):
        online = Embeddings(*torch.randn(2, 2, 8).unbind())
        full.update(online, _index([0, 2]))
        half.update(online, _index([0, 2]))
    assert half.video.itemsize == 2
    torch.testing.assert_close(half.rows("video", torch.arange(3)), full.video, rtol=0, atol=tolerance)
    cosines = half.cosines(F.normalize(torch.randn(1, 8)), "video", torch.tensor([[0, 1]]))
    assert cosines.dtype == torch.float32


# ---------------------------------------------------------------- states


def test_state_of_the_same_ids_in_another_order_is_put_in_order() -> None:
    saved, bank = MemoryBank(_rows("abcd"), 4, seed=1), MemoryBank(_rows("dbac"), 4)
    bank.load_state_dict(saved.state_dict())
    assert torch.equal(bank.video, saved.video[[3, 1, 0, 2]])
    assert torch.equal(bank.audio, saved.audio[[3, 1, 0, 2]])
    assert torch.equal(bank.id_key, _rows("dbac").id_key)


@pytest.mark.parametrize("names", ["abc", "abce", "abcde", "x"])
def test_another_corpus_is_refused(names: str) -> None:
    bank = MemoryBank(_rows(names), 4)
    before = bank.video.clone()
    known = len(set(names) & set("abcd"))
    with pytest.raises(ValueError, match=rf"another corpus: {known} of its 4 ids are among the {len(names)} rows"):
        bank.load_state_dict(MemoryBank(_rows("abcd"), 4, seed=1).state_dict())
    assert torch.equal(bank.video, before)


def test_another_corpus_is_remapped_when_asked() -> None:
    saved = MemoryBank(_rows("abcd"), 4, seed=1)
    bank, fresh = (MemoryBank(_rows("xcya"), 4, remap=True) for _ in range(2))
    state = saved.state_dict()
    bank.load_state_dict(state)
    assert torch.equal(bank.video, torch.stack([fresh.video[0], saved.video[2], fresh.video[2], saved.video[0]]))
    assert torch.equal(state["id_key"], _rows("abcd").id_key)  # the state itself is left as it was


def test_rows_need_ids_of_their_own() -> None:
    with pytest.raises(ValueError, match="two of the 3 rows have the same id"):
        _rows("aba")
    with pytest.raises(ValueError, match=r"group \(2,\) and id_key \(3,\)"):
        MemoryRows(torch.arange(3), torch.arange(2))


def test_bank_refuses_other_embeddings() -> None:
    bank = MemoryBank(_rows("abc"), 4)
    with pytest.raises(ValueError, match=r"one view of each of 2 clips and 4 features, got embeddings \(4, 4\)"):
        bank.update(Embeddings(torch.ones(4, 4), torch.ones(4, 4)), _index([0, 1]))
    with pytest.raises(ValueError, match=r"got embeddings \(2, 5\)"):
        bank.update(Embeddings(torch.ones(2, 5), torch.ones(2, 5)), _index([0, 1]))
    with pytest.raises(ValueError, match=r"momentum \(1\.0\) must be in"):
        MemoryBank(_rows("abc"), 4, momentum=1.0)


# ---------------------------------------------------------------- negatives

GROUP = torch.tensor([4, 1, 4, 0, 2, 2, 4, 3])


def test_negatives_are_uniform_over_the_rows_of_other_files() -> None:
    index = _index(list(range(8)), GROUP)
    drawn = NegativeSampler(GROUP).draw(index, 20_000)
    for row in range(8):
        counts = drawn[row].bincount(minlength=8).double()
        permitted = GROUP[row] != GROUP
        assert (counts[~permitted] == 0).all()
        expected = 20_000 / permitted.sum()
        assert ((counts[permitted] - expected).abs() < 5 * expected.sqrt()).all()


def test_excluded_rows_are_never_drawn_and_the_others_stay_uniform() -> None:
    # For row 0: two of its own file, twice excluded; for row 5: none of its own.
    index = _index([0, 5, 3], GROUP)
    excluded = torch.tensor([[2, 3, 6], [0, 3, 7], [1, 4, 5]])
    drawn = NegativeSampler(GROUP, most_excluded=3).draw(index, 20_000, excluded)
    for i, allowed in enumerate(([1, 4, 5, 7], [1, 2, 6], [0, 2, 6, 7])):
        counts = drawn[i].bincount(minlength=8).double()
        assert counts.nonzero()[:, 0].tolist() == allowed
        expected = 20_000 / len(allowed)
        assert ((counts[allowed] - expected).abs() < 5 * expected**0.5).all()


def test_a_draw_is_a_function_of_the_clip_alone() -> None:
    index, sampler = _index([0, 5, 3, 5], GROUP), NegativeSampler(GROUP)
    drawn = sampler.draw(index, 50)
    alone = BatchIndex(index.row[2:3], index.group[2:3], index.key[2:3])
    assert torch.equal(sampler.draw(alone, 50)[0], drawn[2])
    assert not torch.equal(drawn[1], drawn[3])  # another visit of the row
    assert torch.equal(sampler.draw(index, 20), drawn[:, :20])


def test_a_file_that_is_everything_leaves_no_negatives() -> None:
    with pytest.raises(ValueError, match="one file holds 4 of the 4 rows, which leaves it no negatives"):
        NegativeSampler(torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"no negatives beside 5 positives"):
        NegativeSampler(GROUP, most_excluded=5)
