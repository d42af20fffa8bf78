"""CMA against loops in plain Python, closed forms and two real ranks; its search is in test_neighbors.py."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import CMA, MemoryRows, neighbor_precision, positive_sets

CASES = ("cma softmax", "cma nce_frozen", "cma both")


def _cosine(x: Tensor, y: Tensor) -> float:
    return float(torch.cosine_similarity(x.detach().double(), y.double(), dim=0))


def _batch(tiny: Any) -> tuple[Embeddings, BatchIndex]:
    video, audio, index = tiny.clips(0)
    return tiny.TinyModel()(video, audio), index


@pytest.mark.parametrize("positives", ["within", "across", "both"])
def test_cma_matches_loop_reference(tiny: Any, positives: str) -> None:
    objective = tiny.make_objective("cma softmax", positives=positives, positive_weight=3.0)
    objective.on_epoch_start(1)
    online, index = _batch(tiny)
    bank = objective.bank
    found = positive_sets(bank.video, bank.audio, 3, "consensus")
    negatives = objective.negatives.draw(index, 16, excluded=found[index.row])

    def contrast(e: Tensor, memory: Tensor, own: list[int], drawn: list[int]) -> float:
        exps = sum(math.exp(_cosine(e, memory[j]) / 0.3) for j in drawn)
        scores = [_cosine(e, memory[j]) / 0.3 for j in own]
        return statistics.fmean(math.log(math.exp(s) + exps) - s for s in scores)

    terms: dict[str, list[float]] = {"cross": [], "within": [], "across": []}
    for i, row in enumerate(index.row.tolist()):
        drawn, sets = negatives[i].tolist(), found[row].tolist()
        for e, own, other in ((online.video[i], bank.video, bank.audio), (online.audio[i], bank.audio, bank.video)):
            terms["cross"].append(contrast(e, other, [row], drawn))
            terms["within"].append(contrast(e, own, sets, drawn[:8]))  # the first positive_negatives
            terms["across"].append(contrast(e, other, sets, drawn))  # all, as the instance term
    mean = {name: statistics.fmean(values) for name, values in terms.items()}
    positive = (mean["within"] + mean["across"]) / 2 if positives == "both" else mean[positives]
    result = objective(online, None, index)
    assert result.total.item() == pytest.approx((mean["cross"] + 3 * positive) / 4, rel=1e-5)
    assert result.terms["loss_cross"].item() == pytest.approx(mean["cross"], rel=1e-5)


@pytest.mark.parametrize("z_scores", ["first", "all"])
@pytest.mark.parametrize("positives", ["within", "across", "both"])
def test_nce_of_the_released_program(tiny: Any, positives: str, z_scores: str) -> None:
    """NumPy, by its rules: 8 negatives within a modality, all 16 elsewhere; one z, of the instance term or of all.

    At this temperature exp(score) is far from 1, so that the two normalizers and the two counts give other totals.
    """
    options = {"positives": positives, "positive_weight": 2.0, "temperature": 0.1, "z_scores": z_scores}
    objective = tiny.make_objective("cma nce_frozen", agreement="consensus", **options)
    objective.on_epoch_start(1)
    online, index = _batch(tiny)
    memory = {"v": objective.bank.video, "a": objective.bank.audio}
    memory = {name: F.normalize(rows.double(), dim=1).numpy() for name, rows in memory.items()}
    embedding = {"v": online.video, "a": online.audio}
    embedding = {name: F.normalize(x.detach().double(), dim=1).numpy() for name, x in embedding.items()}
    found = objective.found[index.row].numpy()
    negatives = objective.negatives.draw(index, 16, excluded=objective.found[index.row]).numpy()
    instance = index.row.numpy()[:, None]

    def score(term: str, rows: np.ndarray) -> list[np.ndarray]:
        pairs = ("vv", "aa") if term == "within" else ("va", "av")
        return [np.einsum("bd,bkd->bk", embedding[e], memory[m][rows]) / 0.1 for e, m in pairs]

    rows = {"cross": (instance, negatives), "within": (found, negatives[:, :8]), "across": (found, negatives)}
    wanted = ("cross", "within", "across") if positives == "both" else ("cross", positives)
    scores = {name: [score(name, side) for side in rows[name]] for name in wanted}
    counted = wanted if z_scores == "all" else ("cross",)
    z = np.concatenate([np.exp(x).ravel() for name in counted for x in scores[name][1]]).mean()
    losses = {}
    for name, (positive, negative) in scores.items():
        kz = negative[0].shape[1] * z
        data = [-np.log(np.exp(s) / (np.exp(s) + kz)).mean(axis=1) for s in positive]
        noise = [-np.log(kz / (np.exp(s) + kz)).sum(axis=1) for s in negative]
        losses[name] = np.mean(data) + np.mean(noise)
    mean = np.mean([losses[name] for name in wanted[1:]])
    result = objective(online, None, index)
    assert result.terms["z"].item() == pytest.approx(z, rel=1e-5)
    for name in wanted:
        assert result.terms[f"loss_{name}"].item() == pytest.approx(losses[name], rel=1e-5)
    assert result.total.item() == pytest.approx((losses["cross"] + 2 * mean) / 3, rel=1e-5)
    if positives == "both":  # the weight 2 of the mean is a weight of 1 of each
        assert result.total.item() == pytest.approx(np.mean(list(losses.values())), rel=1e-5)


def test_loss_is_avids_until_the_warm_up_ends(tiny: Any) -> None:
    avid, cma = tiny.make_objective("avid softmax", variant="cross"), tiny.make_objective("cma softmax")
    online, index = _batch(tiny)
    cma.on_epoch_start(0)
    assert cma(online, None, index).total.equal(avid(online, None, index).total)
    cma.on_epoch_start(1)
    assert {"loss_within", "neighbor_precision"} <= set(cma(online, None, index).terms)


def test_positives_are_searched_every_n_passes(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = tiny.make_objective("cma softmax", warmup_epochs=2, refresh_epochs=3)
    searched: list[int] = []
    search = objective.find_positives
    for number in range(10):
        monkeypatch.setattr(objective, "find_positives", lambda n=number: (searched.append(n), search()))
        objective.on_epoch_start(number)
    assert searched == [2, 5, 8]


def test_positives_are_of_the_memory_as_it_is_and_never_negatives(tiny: Any) -> None:
    objective = tiny.make_objective("cma softmax")
    tiny.train(tiny.TinyModel(), objective, range(2))
    objective.on_epoch_start(1)
    bank = objective.bank
    assert objective.found.equal(positive_sets(bank.video, bank.audio, 3, "consensus"))
    assert objective.precision.item() == neighbor_precision(objective.found, torch.arange(14) % 3).item()
    index = tiny.clips(0)[2]
    negatives = objective.negatives.draw(index, 500, excluded=objective.found[index.row])
    for i, row in enumerate(index.row.tolist()):
        assert not set(negatives[i].tolist()) & {row, *objective.found[row].tolist()}


def test_cma_ignores_the_order_of_the_batch_and_the_scale_of_embeddings(tiny: Any) -> None:
    objective = tiny.make_objective("cma both")
    objective.on_epoch_start(1)
    online, index = _batch(tiny)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    permuted = BatchIndex(index.row[order], index.group[order], index.key[order])
    other = objective(Embeddings(3 * online.video[order], 0.1 * online.audio[order]), None, permuted)
    torch.testing.assert_close(other.total, objective(online, None, index).total)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_cma_has_a_closed_form_when_all_is_equal(weight: float) -> None:
    """Every softmax is over equal scores: log 1025 of the instance, log 65 of each positive among 64 negatives."""
    rows = MemoryRows.from_ids([str(i) for i in range(40)])
    objective = CMA(rows, 4, num_positives=3, positive_weight=weight, warmup_epochs=0)
    for memory in (objective.bank.video, objective.bank.audio):
        memory.copy_(torch.tensor([1.0, 0, 0, 0]))
    objective.on_epoch_start(0)
    same = torch.tensor([[2.0, 0, 0, 0]]).expand(3, 4)
    result = objective(Embeddings(same, same), None, BatchIndex(*(torch.arange(3) for _ in range(3))))
    assert result.terms["loss_within"].item() == pytest.approx(math.log(65), abs=1e-5)
    expected = (math.log(1025) + weight * math.log(65)) / (1 + weight)
    assert result.total.item() == pytest.approx(expected, abs=1e-5)


def test_cma_refuses_mismatched_input(tiny: Any) -> None:
    objective = tiny.make_objective("cma softmax")
    objective.on_epoch_start(1)
    online, index = _batch(tiny)
    with pytest.raises(ValueError, match="one view of each of 6 clips and 5 features"):
        objective(Embeddings(online.video[:4], online.audio[:4]), None, index)
    with pytest.raises(ValueError, match="one view of each of 6 clips and 5 features"):
        objective.update(Embeddings(online.video[:, :4], online.audio[:, :4]), None, index)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(assert_ranks_equal_one_process: Callable[[str], None], case: str) -> None:
    assert_ranks_equal_one_process(case)


@pytest.mark.parametrize("case", CASES)
def test_resume_is_exact(assert_resume_is_exact: Callable[[str], None], case: str) -> None:
    assert_resume_is_exact(case)  # from the middle of a pass: the positives are the saved ones


def test_begins_from_the_state_of_avid(tiny: Any) -> None:
    avid = tiny.make_objective("avid nce_frozen")
    tiny.train(tiny.TinyModel(), avid, range(2))
    cma = tiny.make_objective("cma nce_frozen", warmup_epochs=0)
    missing, unexpected = cma.load_state_dict(avid.state_dict(), strict=False)
    assert (set(missing), unexpected) == ({"found", "precision"}, [])
    cma.on_epoch_start(0)
    assert cma.z.equal(avid.z)
    assert cma.found.equal(positive_sets(avid.bank.video, avid.bank.audio, 3, "union"))


def test_state_in_another_order_has_its_positives_searched_again(tiny: Any) -> None:
    saved = tiny.make_objective("cma softmax")
    tiny.train(tiny.TinyModel(), saved, range(3))
    rows, order = tiny.memory_rows(), torch.randperm(14)
    shuffled = MemoryRows(rows.id_key[order], rows.group[order])
    other = CMA(shuffled, 5, num_positives=3, num_negatives=16, positive_negatives=8)
    other.load_state_dict(saved.state_dict())
    assert other.bank.video.equal(saved.bank.video[order])
    assert other.found.equal(positive_sets(other.bank.video, other.bank.audio, 3, "consensus"))
    with pytest.raises(ValueError, match="another corpus: 0 of its 14 ids are among the 8 rows"):
        CMA(MemoryRows.from_ids(list("abcdefgh")), 5, num_positives=3).load_state_dict(saved.state_dict())


def test_cma_refuses_what_cannot_be() -> None:
    rows = MemoryRows.from_ids(list("abcdefgh"))
    wrong: dict[str, Any] = {"agreement": "any", "positives": "all", "num_positives": 7, "positive_negatives": 2000}
    wrong |= {"positive_weight": 0.0, "z_scores": "own", "warmup_epochs": -1, "refresh_epochs": 0, "temperature": 0.0}
    for option, value in wrong.items():
        with pytest.raises(ValueError, match=option):
            CMA(rows, 4, **{"num_positives": 3, option: value})
