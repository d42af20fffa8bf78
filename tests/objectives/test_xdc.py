"""XDC against loops in plain Python, closed forms, two real ranks and a training without its guard."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import normalized_mutual_info_score

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import XDC, MemoryRows, xdc
from avssl.objectives.k_means import nearest_centers

CASES = ("xdc", "xdc apart")


def _trained(tiny: Any, case: str = "xdc", **changes: Any) -> tuple[XDC, Embeddings, BatchIndex]:
    """An objective with clusters, and a batch."""
    objective = tiny.make_objective(case, **changes)
    model = tiny.TinyModel(objective.needs)
    tiny.train(model, objective, range(3))
    video, audio, index = tiny.clips(3)
    return objective, model(video, audio), index


@pytest.mark.parametrize("case", CASES)
def test_loss_matches_loop_reference(tiny: Any, case: str) -> None:
    objective, online, index = _trained(tiny, case)
    total = 0.0
    for own, other in (("video", 1), ("audio", 0)):
        labels = objective.labels.labels[other].tolist()
        losses, weights = [], []
        for n, row in enumerate(index.row.tolist()):
            logits = [score / 0.3 for score in getattr(online, f"{own}_scores")[n, 0].tolist()]
            weight = 0.0 if labels[row] < 0 else 1 / labels.count(labels[row]) if objective.balanced else 1.0
            losses.append(math.log(sum(map(math.exp, logits))) - logits[labels[row]])
            weights.append(weight)
        total += sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights) / 2
    assert objective(online, None, index).total.item() == pytest.approx(total, rel=1e-5)


def test_first_epoch_trains_nothing(tiny: Any) -> None:
    objective = tiny.make_objective("xdc")
    steps = tiny.train(tiny.TinyModel(objective.needs), objective, range(2))
    assert [step["total"].item() for step in steps] == pytest.approx([math.log(3)] * 2)
    assert all((gradient == 0).all() for step in steps for gradient in step["gradients"])
    assert objective.labels.seen.tolist() == [True] * 11 + [False] * 3
    assert not objective.labels.has_labels


def test_clusters_are_those_of_the_stored_embeddings(tiny: Any) -> None:
    objective, _, _ = _trained(tiny, momentum=0.0)
    bank, labels = objective.labels.bank, objective.labels.labels
    objective.find_clusters()  # from the last ones, over the embeddings of now
    for number, modality in enumerate(("video", "audio")):
        own, points = labels[number], getattr(bank, modality)
        seen = own >= 0
        means = torch.stack([points[own == k].mean(dim=0) for k in range(3)])
        assert torch.equal(nearest_centers(points[seen], means), own[seen])
    assert objective.used_clusters.item() == pytest.approx(
        sum(math.exp(-sum(c / n * math.log(c / n) for c in counts)) / 3 for n, counts in _sizes(labels)) / 2
    )


def _sizes(labels: torch.Tensor) -> list[tuple[int, list[int]]]:
    found = []
    for row in labels.tolist():
        counts = [row.count(k) for k in range(3) if k in row]
        found.append((sum(counts), counts))
    return found


def test_matching_numbers_audio_clusters_like_the_video_clusters_that_they_overlap() -> None:
    video = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    audio = torch.tensor([2, 2, 2, 0, 1, 1, 1, 1])
    overlap = torch.tensor([[int(((audio == a) & (video == v)).sum()) for v in range(3)] for a in range(3)])
    assert xdc._matching(overlap)[audio].tolist() == [0, 0, 0, 1, 2, 2, 2, 2]


def test_rare_clusters_count_as_much_as_large_ones() -> None:
    objective = XDC(MemoryRows.from_ids(list("abcdef")), 4, clusters=2)
    objective.labels.set_labels(0, torch.arange(6), torch.tensor([0, 0, 0, 0, 1, 1]))
    objective.labels.set_labels(1, torch.arange(5), torch.tensor([0, 1, 1, 1, 1]))
    objective._weigh()
    weights = objective.weights.gather(1, objective.labels.labels + 1)
    torch.testing.assert_close(weights[0], torch.tensor([0.25, 0.25, 0.25, 0.25, 0.5, 0.5]))
    torch.testing.assert_close(weights[1], torch.tensor([1, 0.25, 0.25, 0.25, 0.25, 0]))


def test_loss_ignores_the_order_of_the_batch(tiny: Any) -> None:
    objective, online, index = _trained(tiny)
    order = torch.tensor([4, 2, 0, 5, 1, 3])
    permuted = Embeddings(**{n: x if "prototypes" in n else x[order] for n, x in vars(online).items() if x is not None})
    other = BatchIndex(index.row[order], index.group[order], index.key[order])
    torch.testing.assert_close(objective(permuted, None, other).total, objective(online, None, index).total)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(assert_ranks_equal_one_process: Callable[[str], None], case: str) -> None:
    assert_ranks_equal_one_process(case)


@pytest.mark.parametrize("case", CASES)
def test_resume_is_exact(assert_resume_is_exact: Callable[[str], None], case: str) -> None:
    assert_resume_is_exact(case)


def test_state_in_another_order_keeps_its_labels(tiny: Any) -> None:
    saved, _, _ = _trained(tiny)
    rows, order = tiny.memory_rows(), torch.randperm(14, generator=torch.Generator().manual_seed(0))
    other = XDC(MemoryRows(rows.id_key[order], rows.group[order]), 5, clusters=3)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other.labels.labels, saved.labels.labels[:, order])
    assert torch.equal(other.labels.seen, saved.labels.seen[order])
    torch.testing.assert_close(other.weights, saved.weights)
    more = MemoryRows.from_ids(["new", *(f"clip{number}" for number in range(13))])
    with pytest.raises(ValueError, match="another corpus"):
        XDC(more, 5, clusters=3).load_state_dict(saved.state_dict())
    grown = XDC(more, 5, clusters=3, remap=True)
    grown.load_state_dict(saved.state_dict())
    assert grown.labels.labels[:, 0].tolist() == [-1, -1]
    assert torch.equal(grown.labels.labels[:, 1:], saved.labels.labels[:, :13])


def test_clusters_of_the_embeddings_keep_them_apart(small_training: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"clusters": 16, "temperature": 0.2, "epochs": 15, "lr": 1e-2}
    guarded = small_training.train("xdc", **options)
    assert not guarded.findings
    assert guarded.purity > 0.9
    assert guarded.numbers["retrieval/R@10"] > 5 * guarded.numbers["retrieval/chance_R@10"]
    labels = guarded.objective.labels.labels
    assert normalized_mutual_info_score(*labels.tolist()) > 0.6  # the modalities agree
    # Regions of space that stay where they are, instead of clusters that follow the embeddings.
    fixed = F.normalize(torch.randn(16, small_training.SIZE, generator=torch.Generator().manual_seed(0)), dim=1)
    monkeypatch.setattr(xdc, "k_means", lambda points, *_, **__: nearest_centers(points, fixed))
    collapsed = small_training.train("xdc", **{**options, "epochs": 40})
    assert any("collapsed" in finding for finding in collapsed.findings)


def test_xdc_refuses_what_cannot_be(tiny: Any) -> None:
    rows = MemoryRows.from_ids(list("abcd"))
    with pytest.raises(ValueError, match=r"clusters \(5\) must be at least 2 and at most the 4 rows"):
        XDC(rows, 4, clusters=5)
    with pytest.raises(ValueError, match=r"temperature \(0\.0\) must be"):
        XDC(rows, 4, clusters=2, temperature=0.0)
    objective = XDC(rows, 4, clusters=2)
    pair = torch.ones(4, 4)
    two = BatchIndex(*(torch.arange(2),) * 3)
    with pytest.raises(ValueError, match="XDC takes one view of each clip, got 4 embeddings of 2 clips"):
        objective(Embeddings(pair, pair), None, two)
    with pytest.raises(ValueError, match=r"XDC needs Embeddings.video_scores \(V\*B, 1, 2\), got none"):
        objective(Embeddings(pair[:2], pair[:2]), None, two)
    with pytest.raises(ValueError, match=r"clusters \(2\) must be at most the 0 rows whose clips could be read"):
        objective.on_epoch_start(1)
