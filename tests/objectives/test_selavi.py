"""SeLaVi against loops, exact assignments, closed forms, two real ranks and a training without its guard."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import MemoryRows, SeLaVi, selavi, sinkhorn
from avssl.objectives.selavi import cluster_sizes, transported_labels

CASES = ("selavi", "selavi apart")


def _log_probabilities(seed: int, num_rows: int, num_clusters: int) -> torch.Tensor:
    scores = torch.randn(num_rows, num_clusters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * scores).log_softmax(dim=1)


def _trained(tiny: Any, case: str = "selavi", **changes: Any) -> tuple[SeLaVi, Embeddings, BatchIndex]:
    """An objective with labels, and a batch."""
    objective = tiny.make_objective(case, **changes)
    model = tiny.TinyModel(objective.needs)
    tiny.train(model, objective, range(3))
    video, audio, index = tiny.clips(3)
    return objective, model(video, audio), index


def test_transport_is_the_optimal_assignment_to_clusters_of_equal_sizes() -> None:
    log_p = _log_probabilities(0, 40, 4)
    labels = transported_labels(log_p, torch.ones(4, dtype=torch.float64), 0.01, 3000)
    assert torch.bincount(labels).tolist() == [10] * 4
    rows, places = linear_sum_assignment(log_p.repeat_interleave(10, dim=1).numpy(), maximize=True)
    np.testing.assert_array_equal(labels.numpy()[rows], places // 10)


def test_transport_keeps_the_given_sizes_and_gives_the_largest_to_the_likeliest() -> None:
    log_p = (_log_probabilities(1, 100, 3).exp() * torch.tensor([1.0, 4.0, 2.0])).log().log_softmax(dim=1)
    sizes = torch.tensor([1.5, 1.2, 0.3], dtype=torch.float64)
    labels = transported_labels(log_p, sizes, 0.01, 3000)
    assert torch.bincount(labels).tolist() == pytest.approx([10, 50, 40], abs=1)
    assert torch.equal(transported_labels(log_p, sizes, 0.05, 0), log_p.argmax(dim=1))


def test_sinkhorn_with_sizes_matches_plain_reference() -> None:
    scores, sizes = _log_probabilities(2, 12, 3), torch.tensor([1.0, 3.0, 2.0], dtype=torch.float64)
    share = np.exp(scores.numpy() / 0.5)
    for _ in range(7):
        share *= sizes.numpy() / share.sum(axis=0)
        share /= share.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(sinkhorn(scores, 0.5, 7, sizes=sizes).numpy(), share, rtol=1e-10)
    with pytest.raises(ValueError, match=r"sizes must be \(3,\) as scores, got \(2,\)"):
        sinkhorn(scores, 0.5, 7, sizes=sizes[:2])


def test_sizes_are_normal_numbers_of_each_head() -> None:
    sizes = cluster_sizes(0, 0, 2000, 0.1)
    assert sizes.mean().item() == pytest.approx(1)
    assert sizes.std().item() == pytest.approx(0.1, rel=0.1)
    assert torch.equal(sizes, sizes.sort(descending=True).values)
    assert not torch.equal(sizes, cluster_sizes(0, 1, 2000, 0.1))
    assert torch.equal(cluster_sizes(5, 3, 4, 0.0), torch.ones(4, dtype=torch.float64))
    assert (cluster_sizes(0, 0, 1000, 0.9) > 0).all()


@pytest.mark.parametrize("case", CASES)
def test_loss_matches_loop_reference(tiny: Any, case: str) -> None:
    objective, online, index = _trained(tiny, case)
    losses = []
    for name in ("video", "audio"):
        for n, row in enumerate(index.row.tolist()):
            for head in range(2):
                label = int(objective.labels.labels[head, row])
                logits = [score / 0.3 for score in getattr(online, f"{name}_scores")[n, head].tolist()]
                if name == "audio":
                    logits = [logits[k] for k in objective.audio_order[head].tolist()]
                if label >= 0:
                    losses.append(math.log(sum(map(math.exp, logits))) - logits[label])
    result = objective(online, None, index)
    assert result.total.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert all(term.shape == () and not term.requires_grad for term in result.terms.values())


def test_labels_come_from_both_modalities_and_the_prototypes_of_now(tiny: Any) -> None:
    objective, _, _ = _trained(tiny)
    objective.find_clusters([0, 1])
    bank, rows = objective.labels.bank, objective.labels.seen_rows()
    for head in range(2):
        log_p = sum(
            (getattr(bank, name)[rows] @ getattr(objective, f"{name}_prototypes")[head].T / 0.3).log_softmax(dim=1) / 2
            for name in ("video", "audio")
        )
        expected = transported_labels(log_p, cluster_sizes(0, head, 3, 0.1), 0.05, 50)
        assert torch.equal(objective.labels.labels[head, rows], expected)
        assert (objective.labels.labels[head] >= 0).sum() == len(rows)


def test_matching_finds_the_order_of_the_other_modality() -> None:
    video = _log_probabilities(3, 50, 5)
    order = torch.tensor([3, 0, 4, 1, 2])
    audio = video[:, order]
    assert torch.equal(audio[:, selavi._matching(video.exp().T @ audio.exp())], video)


def test_modalities_are_matched_once_and_only_with_prototypes_of_their_own(tiny: Any) -> None:
    shared, _, _ = _trained(tiny)
    assert torch.equal(shared.audio_order, torch.arange(3).repeat(2, 1))
    apart, _, _ = _trained(tiny, "selavi apart")
    before = apart.audio_order.clone()
    apart.find_clusters([0, 1])
    assert torch.equal(apart.audio_order, before)


def test_heads_take_turns(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    objective = tiny.make_objective("selavi", heads=4, refresh_epochs=2)
    tiny.train(tiny.TinyModel(objective.needs), objective, range(2))
    calls: list[list[int]] = []
    real = objective.find_clusters
    monkeypatch.setattr(objective, "find_clusters", lambda heads: (calls.append(heads), real(heads)))
    for number in range(1, 4):
        objective.on_epoch_start(number)
    assert calls == [[0, 1, 2, 3], [1, 3], [0, 2]]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(assert_ranks_equal_one_process: Callable[[str], None], case: str) -> None:
    assert_ranks_equal_one_process(case)


@pytest.mark.parametrize("case", CASES)
def test_resume_is_exact(assert_resume_is_exact: Callable[[str], None], case: str) -> None:
    assert_resume_is_exact(case)


def test_given_sizes_keep_embeddings_apart(small_training: Any) -> None:
    options: dict[str, Any] = {"clusters": 8, "heads": 1, "temperature": 0.8, "epochs": 20, "lr": 1e-2}
    guarded = small_training.train("selavi", **options)
    assert not guarded.findings
    assert guarded.purity > 0.8
    assert guarded.objective.used_clusters > 0.95
    collapsed = small_training.train("selavi", iterations=0, **options)
    assert any("collapsed" in finding for finding in collapsed.findings)
    assert collapsed.objective.used_clusters < 0.3


def test_selavi_refuses_what_cannot_be(tiny: Any) -> None:
    rows = MemoryRows.from_ids(list("abcd"))
    with pytest.raises(ValueError, match=r"clusters \(5\) must be at least 2 and at most the 4 rows"):
        SeLaVi(rows, 4, clusters=5)
    with pytest.raises(ValueError, match=r"size_deviation \(1\.0\) must be in \[0, 1\)"):
        SeLaVi(rows, 4, clusters=2, size_deviation=1.0)
    objective = SeLaVi(rows, 4, clusters=2, heads=3)
    pair = torch.ones(2, 4)
    two = BatchIndex(*(torch.arange(2),) * 3)
    with pytest.raises(ValueError, match=r"SeLaVi needs Embeddings.video_scores \(V\*B, 3, 2\), got none"):
        objective(Embeddings(pair, pair), None, two)
    with pytest.raises(ValueError, match=r"SeLaVi needs Embeddings.video_prototypes \(H, K, D\), got none"):
        objective.update(Embeddings(pair, pair), None, two)
