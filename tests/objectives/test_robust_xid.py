"""Robust-xID against loops in plain Python, closed forms and two real ranks."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import MemoryRows, RobustXID, instance_weights, soft_targets

KINDS = ("bootstrapping", "swapped", "neighbor", "cycle")


def _weights_reference(scores: list[float], delta: float, kappa: float, w_min: float) -> list[float]:
    mu, sigma = statistics.fmean(scores), statistics.pstdev(scores)
    phi = [statistics.NormalDist(mu + delta * sigma, math.sqrt(kappa) * sigma).cdf(s) for s in scores]
    return [(1 - w_min) * p + w_min for p in phi]


@pytest.mark.parametrize(("delta", "kappa", "w_min"), [(0.0, 0.5, 0.25), (0.5, 0.3, 0.0), (-0.2, 1.0, 0.5)])
def test_weights_match_loop_reference(delta: float, kappa: float, w_min: float) -> None:
    scores = torch.randn(50, generator=torch.Generator().manual_seed(1)).tanh()
    expected = _weights_reference(scores.tolist(), delta, kappa, w_min)
    assert instance_weights(scores, delta, kappa, w_min).tolist() == pytest.approx(expected, abs=1e-6)


def test_weights_by_hand() -> None:
    # mu 0, population sigma 1, kappa 1: Phi(-1) and Phi(1).
    assert instance_weights(torch.tensor([-1.0, 1.0]), 0, 1, 0).tolist() == pytest.approx([0.1586553, 0.8413447])
    assert instance_weights(torch.tensor([-1.0, 1.0]), 0, 1, 1).tolist() == [1, 1]


def test_weights_of_equal_scores_stand_at_the_mean() -> None:
    equal = torch.full((7,), 0.3)
    assert instance_weights(equal, 0, 0.5, 0.2).tolist() == pytest.approx([0.6] * 7)
    below = 0.8 * statistics.NormalDist().cdf(-0.5 / math.sqrt(0.5)) + 0.2
    assert instance_weights(equal, 0.5, 0.5, 0.2).tolist() == pytest.approx([below] * 7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64])
def test_weights_of_coarse_scores_are_not_coarse(dtype: torch.dtype) -> None:
    scores = torch.tensor([-1.0, 0.3, 1.0, 1.0]).to(dtype)
    weights = instance_weights(scores, 0.1, 0.5, 0.25)
    assert weights.dtype == torch.float32
    assert weights.tolist() == pytest.approx(_weights_reference(scores.tolist(), 0.1, 0.5, 0.25), abs=1e-6)
    assert instance_weights(scores.double(), 0.1, 0.5, 0.25).dtype == torch.float64


def test_weights_rise_with_the_score_and_ignore_its_scale() -> None:
    scores = torch.linspace(-1, 1, 9)
    weights = instance_weights(scores, 0.1, 0.5, 0.25)
    assert (weights.diff() > 0).all()
    torch.testing.assert_close(instance_weights(0.1 * scores + 0.5, 0.1, 0.5, 0.25), weights)


def test_weights_reject_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"scores must be \(N,\) with N > 0, got \(2, 2\)"):
        instance_weights(torch.zeros(2, 2), 0, 0.5, 0.25)
    with pytest.raises(ValueError, match=r"kappa \(0\) must be above 0"):
        instance_weights(torch.zeros(2), 0, 0, 0.25)
    with pytest.raises(ValueError, match=r"w_min \(2\) must be in \[0, 1\]"):
        instance_weights(torch.zeros(2), 0, 0.5, 2)


def _dot(x: Tensor, y: Tensor) -> float:
    return float(torch.cosine_similarity(x.double(), y.double(), dim=0))


def _targets_reference(v: Tensor, a: Tensor, kind: str, tau_s: float, tau_t: float) -> list[list[float]]:
    rows = []
    for i in range(len(v)):
        logits = []
        for j in range(len(v)):
            logits.append(
                {
                    "bootstrapping": _dot(v[i], a[j]) / tau_s,
                    "swapped": _dot(a[i], v[j]) / tau_s,
                    "neighbor": _dot(v[i], v[j]) / tau_s,
                    "cycle": _dot(v[i], a[i]) / tau_t + _dot(a[i], v[j]) / tau_s + _dot(v[j], a[j]) / tau_t,
                }[kind]
            )
        total = sum(map(math.exp, logits))
        rows.append([math.exp(logit) / total for logit in logits])
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_soft_targets_match_loop_reference(kind: Any) -> None:
    video, audio = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(2)).unbind()
    s_v, s_a = soft_targets(video, audio, kind, 0.05, 0.07)
    expected_v = torch.tensor(_targets_reference(video, audio, kind, 0.05, 0.07))
    expected_a = torch.tensor(_targets_reference(audio, video, kind, 0.05, 0.07))
    torch.testing.assert_close(s_v, expected_v, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(s_a, expected_a, rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_soft_targets_of_one_point_are_uniform(kind: Any) -> None:
    same = torch.tensor([[3.0, 4.0]]).expand(5, 2)
    for target in soft_targets(same, same, kind, 0.02, 0.07):
        torch.testing.assert_close(target, torch.full((5, 5), 0.2))


def test_cycle_keeps_out_bad_pairs() -> None:
    # 0 and 1 look and sound alike; 2 looks alike too, but has another sound.
    video = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    audio = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    swapped, cycle = (soft_targets(video, audio, kind, 0.02, 0.07)[0][0] for kind in ("swapped", "cycle"))
    torch.testing.assert_close(swapped, torch.full((3,), 1 / 3))
    assert cycle[1].item() == pytest.approx(0.5, abs=1e-6)
    assert cycle[2] < 1e-6


def test_soft_targets_follow_a_permutation_and_ignore_scale() -> None:
    video, audio = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3)).unbind()
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    for kind in KINDS:
        s_v, _ = soft_targets(video, audio, kind, 0.05, 0.07)
        permuted, _ = soft_targets(4 * video[order], audio[order], kind, 0.05, 0.07)
        torch.testing.assert_close(permuted, s_v[order][:, order])


def test_soft_targets_reject_mismatched_input() -> None:
    with pytest.raises(ValueError, match=r"same instances.*video \(7, 4\) and audio \(8, 4\)"):
        soft_targets(torch.ones(7, 4), torch.ones(8, 4), "cycle", 0.02, 0.07)
    with pytest.raises(ValueError, match=r"kind \('cyclic'\) must be one of"):
        soft_targets(torch.ones(8, 4), torch.ones(8, 4), "cyclic", 0.02, 0.07)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"tau_s \(0\.0\) must be above 0"):
        soft_targets(torch.ones(8, 4), torch.ones(8, 4), "cycle", 0.0, 0.07)


# ---------------------------------------------------------------- the objective

CASES = ("robust_xid", "robust_xid swapped")


def _batch(tiny: Any) -> tuple[Embeddings, BatchIndex]:
    video, audio, index = tiny.clips(0)
    return tiny.TinyModel()(video, audio), index


@pytest.mark.parametrize("kind", ["none", *KINDS])
@pytest.mark.parametrize("weighted", [True, False])
def test_robust_xid_matches_loop_reference(tiny: Any, kind: str, weighted: bool) -> None:
    objective = tiny.make_objective("robust_xid", targets=kind, weighted=weighted)
    tiny.train(tiny.TinyModel(), objective, range(2))
    objective.on_epoch_start(1)
    online, index = _batch(tiny)
    bank, negatives = objective.bank, objective.negatives.draw(index, 16)
    scores = [_dot(v, a) for v, a in zip(bank.video, bank.audio, strict=True)]
    weights = _weights_reference(scores, 0.0, 0.5, 0.25) if weighted else [1.0] * 14
    total = weight_sum = 0.0
    for i, row in enumerate(index.row.tolist()):
        rows = [row, *negatives[i].tolist()]
        video, audio = bank.video[rows], bank.audio[rows]
        loss = 0.0
        for e, anchors, others in ((online.video[i], video, audio), (online.audio[i], audio, video)):
            logits = [_dot(e.detach(), other) / 0.3 for other in others]
            log_total = math.log(sum(map(math.exp, logits)))
            soft = [0.0] * 17 if kind == "none" else _targets_reference(anchors, others, kind, 0.2, 0.07)[0]
            for j, logit in enumerate(logits):
                hard = float(j == 0)
                target = hard if kind == "none" else 0.5 * hard + 0.5 * soft[j]
                loss -= target * (logit - log_total) / 2
        total += weights[row] * loss
        weight_sum += weights[row]
    assert objective(online, None, index).total.item() == pytest.approx(total / weight_sum, rel=1e-5)


def test_warm_up_is_plain_instance_discrimination(tiny: Any) -> None:
    objective = tiny.make_objective("robust_xid")
    avid = tiny.make_objective("avid softmax", variant="cross")
    online, index = _batch(tiny)
    objective.on_epoch_start(0)
    result = objective(online, None, index)
    torch.testing.assert_close(result.total, avid(online, None, index).total)
    assert result.terms["weight"].item() == 1
    objective.on_epoch_start(1)
    assert objective(online, None, index).terms["weight"].item() != 1


def test_robust_xid_is_log_k_plus_1_when_all_is_equal() -> None:
    objective = RobustXID(MemoryRows.from_ids(list("abcdefgh")), 4, warmup_epochs=0)
    for memory in (objective.bank.video, objective.bank.audio):
        memory.copy_(torch.tensor([1.0, 0, 0, 0]))
    objective.on_epoch_start(0)
    same = torch.tensor([[2.0, 0, 0, 0]]).expand(3, 4)
    index = BatchIndex(*(torch.arange(3) for _ in range(3)))
    assert objective(Embeddings(same, same), None, index).total.item() == pytest.approx(math.log(1025), abs=1e-5)


def test_a_bad_pair_counts_less() -> None:
    objective = RobustXID(MemoryRows.from_ids([str(i) for i in range(20)]), 8, warmup_epochs=0, num_negatives=4)
    objective.bank.audio.copy_(F.normalize(objective.bank.video + 0.1 * torch.randn(20, 8), dim=1))
    objective.bank.audio[3] = -objective.bank.video[3]
    objective.on_epoch_start(0)
    assert objective.weights.argmin().item() == 3
    assert objective.weights[3].item() == pytest.approx(0.25, abs=0.01)


def test_robust_xid_ignores_the_order_of_the_batch_and_the_scale_of_embeddings(tiny: Any) -> None:
    objective = tiny.make_objective("robust_xid swapped")
    objective.on_epoch_start(0)
    online, index = _batch(tiny)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    permuted = BatchIndex(index.row[order], index.group[order], index.key[order])
    other = objective(Embeddings(3 * online.video[order], 0.1 * online.audio[order]), None, permuted)
    torch.testing.assert_close(other.total, objective(online, None, index).total)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(assert_ranks_equal_one_process: Callable[[str], None], case: str) -> None:
    assert_ranks_equal_one_process(case)


@pytest.mark.parametrize("case", CASES)
def test_resume_is_exact(assert_resume_is_exact: Callable[[str], None], case: str) -> None:
    assert_resume_is_exact(case)


def test_state_in_another_order_is_weighed_again(tiny: Any) -> None:
    saved = tiny.make_objective("robust_xid")
    tiny.train(tiny.TinyModel(), saved, range(4))
    saved.on_epoch_start(2)
    rows, order = tiny.memory_rows(), torch.randperm(14)
    other = RobustXID(MemoryRows(rows.id_key[order], rows.group[order]), 5)
    other.load_state_dict(saved.state_dict())
    torch.testing.assert_close(other.weights, saved.weights[order])
    with pytest.raises(ValueError, match="another corpus: 0 of its 14 ids are among the 8 rows"):
        RobustXID(MemoryRows.from_ids(list("abcdefgh")), 5).load_state_dict(saved.state_dict())


def test_robust_xid_refuses_what_cannot_be() -> None:
    rows = MemoryRows.from_ids(list("abcd"))
    wrong: dict[str, Any] = {"kind": ("targets", "soft"), "soft_weight": ("soft_weight", 2.0), "kappa": ("kappa", 0.0)}
    wrong |= {"w_min": ("w_min", -1.0), "temperature": ("temperature", 0.0), "num_negatives": ("num_negatives", 0)}
    for message, (option, value) in wrong.items():
        with pytest.raises(ValueError, match=message):
            RobustXID(rows, 4, **{option: value})
    with pytest.raises(ValueError, match="one view of each of 2 clips and 4 features"):
        RobustXID(rows, 4)(Embeddings(torch.ones(4, 4), torch.ones(4, 4)), None, BatchIndex(*(torch.arange(2),) * 3))
