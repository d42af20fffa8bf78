"""AVID against loops in plain Python, closed forms and two real ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.draws import clip_key
from avssl.objectives import AVID, MemoryRows, nce_loss


def _nce_reference(positive: list[list[float]], negative: list[list[float]], z: float) -> float:
    total = 0.0
    for s_pos, s_neg in zip(positive, negative, strict=True):
        kz = len(s_neg) * z
        attract = sum(-math.log(math.exp(s) / (math.exp(s) + kz)) for s in s_pos) / len(s_pos)
        repel = sum(-math.log(kz / (math.exp(s) + kz)) for s in s_neg)
        total += attract + repel
    return total / len(positive)


@pytest.mark.parametrize(("num_positives", "num_negatives", "z"), [(1, 1, 1.0), (1, 7, 2.2), (5, 3, 0.4)])
def test_nce_matches_loop_reference(num_positives: int, num_negatives: int, z: float) -> None:
    generator = torch.Generator().manual_seed(num_negatives)
    positive = 4 * torch.randn(6, num_positives, generator=generator)
    negative = 4 * torch.randn(6, num_negatives, generator=generator)
    expected = _nce_reference(positive.tolist(), negative.tolist(), z)
    assert nce_loss(positive, negative, z).item() == pytest.approx(expected, rel=1e-5)
    assert nce_loss(positive, negative, torch.tensor(z)).item() == pytest.approx(expected, rel=1e-5)
    assert nce_loss(positive.double(), negative.double(), z).item() == pytest.approx(expected, rel=1e-6)


def test_nce_of_equal_scores_has_a_closed_form() -> None:
    # 7.93 nats with 1 024 negatives, whatever the score is.
    for score in (0.0, 1 / 0.07):
        loss = nce_loss(torch.full((4, 3), score), torch.full((4, 1024), score), math.exp(score))
        assert loss.item() == pytest.approx(math.log(1025) + 1024 * math.log(1 + 1 / 1024), abs=1e-4)


def test_nce_does_not_overflow() -> None:
    # e^500 is no float64; a sure positive and sure negatives cost nothing, the opposite costs their distance.
    sure = nce_loss(torch.full((1, 1), 500.0), torch.full((1, 2), -500.0), 1.0)
    wrong = nce_loss(torch.full((1, 1), -500.0), torch.full((1, 1), 500.0), 1.0)
    assert sure.item() == 0
    assert wrong.item() == pytest.approx(1000)


def test_nce_rejects_mismatched_scores() -> None:
    with pytest.raises(ValueError, match=r"same B > 0 clips.*\(7, 1\) and \(8, 4\)"):
        nce_loss(torch.zeros(7, 1), torch.zeros(8, 4), 1.0)
    with pytest.raises(ValueError, match=r"K > 0, got \(8, 1\) and \(8, 0\)"):
        nce_loss(torch.zeros(8, 1), torch.zeros(8, 0), 1.0)
    with pytest.raises(ValueError, match=r"z \(0\.0\) must be a finite number above 0"):
        nce_loss(torch.zeros(8, 1), torch.zeros(8, 2), 0.0)


# ---------------------------------------------------------------- the objective

CASES = ("avid softmax", "avid nce_frozen", "avid nce_running", "avid nce_batch")


def _cosine(x: Tensor, y: Tensor) -> float:
    return float(torch.cosine_similarity(x.detach().double(), y.double(), dim=0))


def _scores_reference(objective: AVID, online: Embeddings, index: BatchIndex, across: bool) -> list[Any]:
    """For each direction, the (B, 1) and (B, K) scores as nested lists, by loops."""
    negatives = objective.negatives.draw(index, objective.num_negatives)
    bank, directions = objective.bank, []
    for embedding, own, other in ((online.video, bank.video, bank.audio), (online.audio, bank.audio, bank.video)):
        memory = other if across else own
        positive, negative = [], []
        for i, row in enumerate(index.row.tolist()):
            positive.append([_cosine(embedding[i], memory[row]) / objective.temperature])
            drawn = negatives[i].tolist()
            negative.append([_cosine(embedding[i], memory[j]) / objective.temperature for j in drawn])
        directions.append((positive, negative))
    return directions


def _softmax_reference(positive: list[list[float]], negative: list[list[float]]) -> float:
    total = 0.0
    for (s,), others in zip(positive, negative, strict=True):
        total += math.log(math.exp(s) + sum(map(math.exp, others))) - s
    return total / len(positive)


def _batch(tiny: Any) -> tuple[Embeddings, BatchIndex]:
    video, audio, index = tiny.clips(0)
    return tiny.TinyModel()(video, audio), index


@pytest.mark.parametrize("variant", ["cross", "self", "joint"])
@pytest.mark.parametrize("loss", ["softmax", "nce_frozen", "nce_running", "nce_batch"])
def test_avid_matches_loop_reference(tiny: Any, variant: str, loss: str) -> None:
    objective = tiny.make_objective("avid softmax", variant=variant, loss=loss)
    online, index = _batch(tiny)
    across = {"cross": [True], "self": [False], "joint": [True, False]}[variant]
    directions = [d for cross in across for d in _scores_reference(objective, online, index, cross)]
    if loss == "softmax":
        expected = statistics.fmean(_softmax_reference(*direction) for direction in directions)
    else:
        z = statistics.fmean(math.exp(s) for _, negative in directions for row in negative for s in row)
        expected = statistics.fmean(_nce_reference(*direction, z) for direction in directions)
        assert objective(online, None, index).terms["z"].item() == pytest.approx(z, rel=1e-5)
    assert objective(online, None, index).total.item() == pytest.approx(expected, rel=1e-5)


def test_the_programs_z_is_that_of_the_first_term(tiny: Any) -> None:
    online, index = _batch(tiny)
    zs = {}
    for variant in ("cross", "self", "joint"):
        for z_scores in ("all", "first"):
            options = {"variant": variant, "loss": "nce_frozen", "z_scores": z_scores, "temperature": 0.1}
            objective = tiny.make_objective("avid softmax", **options)
            objective.update(online, None, index)
            zs[variant, z_scores] = objective.z.item()
    assert zs["cross", "all"] == zs["cross", "first"] == zs["joint", "first"]
    assert zs["self", "all"] == zs["self", "first"]
    mean = (zs["cross", "all"] + zs["self", "all"]) / 2
    assert zs["joint", "all"] == pytest.approx(mean, rel=1e-6) != zs["joint", "first"]


def test_avid_loss_of_an_untrained_network_is_the_papers_chance_line() -> None:
    # Scores of random directions in 128 dimensions: z about 2.2, NCE about 8.7 a direction.
    rows = MemoryRows.from_ids([str(i) for i in range(2000)])
    video, audio = torch.randn(2, 256, 128, generator=torch.Generator().manual_seed(0)).unbind()
    row = torch.arange(256)
    index = BatchIndex(row, row, clip_key(0, 0, row))
    result = AVID(rows, 128, loss="nce_frozen")(Embeddings(video, audio), None, index)
    assert result.terms["z"].item() == pytest.approx(2.2, abs=0.1)
    assert result.total.item() == pytest.approx(8.7, abs=0.3)


def test_avid_is_log_k_plus_1_when_all_is_equal() -> None:
    rows = MemoryRows.from_ids(list("abcdefgh"))
    objective = AVID(rows, 4, num_negatives=1024)
    for memory in (objective.bank.video, objective.bank.audio):
        memory.copy_(torch.tensor([1.0, 0, 0, 0]))
    index = BatchIndex(*(torch.arange(3) for _ in range(3)))
    same = torch.tensor([[2.0, 0, 0, 0]]).expand(3, 4)
    assert objective(Embeddings(same, same), None, index).total.item() == pytest.approx(math.log(1025), abs=1e-5)
    nce = AVID(rows, 4, num_negatives=1024, loss="nce_batch")
    nce.bank.load_state_dict(objective.bank.state_dict())
    assert nce(Embeddings(same, same), None, index).total.item() == pytest.approx(7.93, abs=0.005)


def test_avid_ignores_the_order_of_the_batch_and_the_scale_of_embeddings(tiny: Any) -> None:
    objective = tiny.make_objective("avid nce_batch")
    online, index = _batch(tiny)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    permuted = BatchIndex(index.row[order], index.group[order], index.key[order])
    other = objective(Embeddings(3 * online.video[order], 0.1 * online.audio[order]), None, permuted)
    result = objective(online, None, index)
    for name, value in result.terms.items():
        torch.testing.assert_close(other.terms[name], value)


@pytest.mark.parametrize("case", CASES)
def test_forward_changes_nothing(tiny: Any, case: str) -> None:
    objective = tiny.make_objective(case)
    online, index = _batch(tiny)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    first = objective(online, None, index).total
    assert objective(online, None, index).total.equal(first)
    assert all(value.equal(before[name]) or value.isnan() for name, value in objective.state_dict().items())


def test_z_is_frozen_running_or_the_batchs(tiny: Any) -> None:
    zs = {}
    for loss in ("nce_frozen", "nce_running", "nce_batch"):
        objective = tiny.make_objective("avid softmax", variant="cross", loss=loss, z_momentum=0.75)
        model, seen = tiny.TinyModel(), []
        for step in range(3):
            video, audio, index = tiny.clips(step)
            online = model(video, audio)
            seen.append(objective(online, None, index).terms["z"].item())
            objective.update(online.detach(), None, index)
        zs[loss] = seen, objective.z.item()
    first, second, third = zs["nce_batch"][0]
    assert zs["nce_frozen"] == (pytest.approx([first] * 3), pytest.approx(first))
    running = 0.75 * first + 0.25 * first, 0.75 * first + 0.25 * second
    assert zs["nce_running"][0] == pytest.approx([first, *running])
    assert zs["nce_running"][1] == pytest.approx(0.75 * running[1] + 0.25 * third)
    assert math.isnan(zs["nce_batch"][1])


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(assert_ranks_equal_one_process: Callable[[str], None], case: str) -> None:
    assert_ranks_equal_one_process(case)


@pytest.mark.parametrize("case", CASES)
def test_resume_is_exact(assert_resume_is_exact: Callable[[str], None], case: str) -> None:
    assert_resume_is_exact(case)


def test_state_of_another_corpus_is_refused(tiny: Any) -> None:
    other = AVID(MemoryRows.from_ids(list("abcdefgh")), 5)
    with pytest.raises(ValueError, match="memory is of another corpus: 0 of its 14 ids are among the 8 rows"):
        other.load_state_dict(tiny.make_objective("avid softmax").state_dict())


def test_gradient_under_bfloat16_autocast_is_that_of_float32(tiny: Any) -> None:
    objective = tiny.make_objective("avid nce_batch")
    online, index = _batch(tiny)
    with torch.autocast("cpu", torch.bfloat16):
        low = objective(online, None, index).total
    assert low.equal(objective(online, None, index).total)


def test_avid_refuses_what_cannot_be() -> None:
    rows = MemoryRows.from_ids(list("abcd"))
    for option, value in {"variant": "both", "loss": "nce", "temperature": 0.0, "num_negatives": 0}.items():
        with pytest.raises(ValueError, match=option):
            AVID(rows, 4, **{option: value})
    with pytest.raises(ValueError, match="one view of each of 2 clips and 4 features"):
        AVID(rows, 4)(Embeddings(torch.ones(4, 4), torch.ones(4, 4)), None, BatchIndex(*(torch.arange(2),) * 3))
