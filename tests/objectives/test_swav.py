"""Swapped prediction against plain loops, the released formula, closed forms and a training without its guard."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss.swav_loss import SwaVLoss
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.models import ObjectiveHeads
from avssl.objectives import SwAV, sinkhorn, swapped_prediction


def _scores(seed: int, num_clips: int = 6, prototypes: int = 4) -> tuple[Tensor, Tensor]:
    """Cosines of two modalities."""
    video, audio = torch.rand(2, num_clips, prototypes, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return video, audio


def _online(seed: int, num_clips: int = 6, prototypes: int = 4, views: int = 1) -> Embeddings:
    torch.manual_seed(seed)
    heads = ObjectiveHeads(5, prototypes=prototypes)
    video, audio = torch.randn(2, views * num_clips, 5)
    return Embeddings(video, audio, **heads(video, audio))


def _index(num_clips: int = 6) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def _sinkhorn_reference(scores: np.ndarray, epsilon: float, iterations: int) -> np.ndarray:
    """The paper's algorithm without logarithms."""
    share = np.exp(scores.astype(np.float64) / epsilon)
    for _ in range(iterations):
        share /= share.sum(axis=0) * share.shape[1]
        share /= share.sum(axis=1, keepdims=True) * share.shape[0]
    return share / share.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("epsilon", "iterations"), [(0.05, 3), (0.2, 1), (0.5, 0), (1.0, 20)])
def test_sinkhorn_matches_plain_reference(epsilon: float, iterations: int) -> None:
    scores = _scores(0)[0]
    expected = _sinkhorn_reference(scores.numpy(), epsilon, iterations)
    np.testing.assert_allclose(sinkhorn(scores, epsilon, iterations).numpy(), expected, rtol=2e-5, atol=1e-7)


def test_sinkhorn_divides_equally_and_survives_a_small_epsilon() -> None:
    scores = _scores(1, num_clips=40)[0] + torch.tensor([1.0, 0, 0, 0])
    shares = sinkhorn(scores, 0.05, 200)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(40))
    torch.testing.assert_close(shares.sum(dim=0), torch.full((4,), 10.0), rtol=1e-3, atol=0)
    assert sinkhorn(scores, 0.05, 0).sum(dim=0)[0] > 20  # without iterations the first prototype takes most
    assert sinkhorn(scores, 1e-4, 3).isfinite().all()
    assert sinkhorn(scores.double(), 0.05, 3).dtype == torch.float64


def test_sinkhorn_divides_queued_clips_too() -> None:
    scores, queued = _scores(2)
    together = sinkhorn(torch.cat([scores, queued]), 0.1, 3)
    torch.testing.assert_close(sinkhorn(scores, 0.1, 3, queued=queued), together[:6])


def test_swapped_prediction_matches_loop_reference() -> None:
    video, audio = _scores(3)
    q_video, q_audio = (_sinkhorn_reference(x.numpy(), 0.05, 3) for x in (video, audio))
    expected = 0.0
    for scores, target in ((video, q_audio), (audio, q_video)):
        for n in range(6):
            logits = [score / 0.1 for score in scores[n].tolist()]
            log_total = math.log(sum(map(math.exp, logits)))
            expected -= sum(target[n, k] * (logits[k] - log_total) for k in range(4)) / 12
    assert swapped_prediction(video, audio, 0.1, 0.05, 3).item() == pytest.approx(expected, rel=1e-5)


def test_swapped_prediction_equals_the_loss_of_lightly() -> None:
    for seed in range(3):
        video, audio = _scores(seed, num_clips=16, prototypes=7)
        theirs = SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)([video, audio], [])
        assert swapped_prediction(video, audio, 0.1, 0.05, 3).item() == pytest.approx(theirs.item(), rel=2e-4)


def test_swapped_prediction_has_closed_forms() -> None:
    same = torch.full((6, 4), 0.3)
    assert swapped_prediction(same, same, 0.1, 0.05, 3).item() == pytest.approx(math.log(4), rel=1e-5)
    # As many clips as prototypes, each at its own: the division is certain, and the softmax knows its odds.
    own = torch.eye(4)
    expected = math.log(1 + 3 * math.exp(-1 / 0.5))
    assert swapped_prediction(own, own, 0.5, 0.01, 3).item() == pytest.approx(expected, rel=1e-5)


def test_swapped_prediction_ignores_order_and_offsets() -> None:
    video, audio = _scores(4)
    loss = swapped_prediction(video, audio, 0.1, 0.05, 3)
    clips, prototypes = torch.tensor([3, 0, 5, 1, 2, 4]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(swapped_prediction(audio, video, 0.1, 0.05, 3), loss)
    torch.testing.assert_close(swapped_prediction(video[clips], audio[clips], 0.1, 0.05, 3), loss)
    torch.testing.assert_close(swapped_prediction(video[:, prototypes], audio[:, prototypes], 0.1, 0.05, 3), loss)
    torch.testing.assert_close(swapped_prediction(video + 0.7, audio, 0.1, 0.05, 3), loss)


def test_gradient_is_that_of_a_cross_entropy_with_fixed_targets() -> None:
    video, audio = (x.requires_grad_() for x in _scores(5))
    swapped_prediction(video, audio, 0.1, 0.05, 3).backward()
    with torch.no_grad():
        expected = (torch.softmax(video / 0.1, dim=1) - sinkhorn(audio, 0.05, 3)) / 0.1 / len(video) / 2
    torch.testing.assert_close(video.grad, expected, rtol=1e-4, atol=1e-6)
    assert audio.grad is not None


def test_objective_swaps_modalities_and_views() -> None:
    options: dict[str, Any] = {"prototypes": 4, "shared_prototypes": False}
    online = _online(6)
    video, audio = online.video_scores[:, 0], online.audio_scores[:, 0]
    result = SwAV(5, **options)(online, None, _index())
    torch.testing.assert_close(result.total, swapped_prediction(video, audio, 0.1, 0.05, 3))
    assert result.terms["agreement"].item() == pytest.approx(
        (video.argmax(dim=1) == audio.argmax(dim=1)).float().mean().item()
    )
    shares = torch.stack([torch.bincount(x.argmax(dim=1), minlength=4) / 6 for x in (video, audio)])
    perplexity = math.fsum(math.exp(-sum(p * math.log(p) for p in row if p)) for row in shares.tolist()) / 2
    assert result.terms["used_prototypes"].item() == pytest.approx(perplexity / 4)

    two = _online(7, views=2)
    parts = {name: getattr(two, f"{name}_scores")[:, 0].split(6) for name in ("video", "audio")}
    cross = sum(swapped_prediction(v, a, 0.1, 0.05, 3) for v, a in zip(*parts.values(), strict=True)) / 2
    within = sum(swapped_prediction(*views, 0.1, 0.05, 3) for views in parts.values()) / 2
    both = SwAV(5, **options, within_modal=0.5)(two, None, _index())
    torch.testing.assert_close(both.total, cross + 0.5 * within)
    torch.testing.assert_close(both.terms["loss_within"], within.detach())


def test_local_views_predict_the_division_of_the_other_full_view() -> None:
    options: dict[str, Any] = {"prototypes": 4, "local_views": 2}
    full, local = _online(6), _online(7, views=2)
    online = replace(full, local=local)
    scores = {name: getattr(full, f"{name}_scores")[:, 0] for name in ("video", "audio")}
    division = {name: sinkhorn(x, 0.05, 3) for name, x in scores.items()}

    def predicted(x: Tensor, name: str) -> Tensor:
        return -(division[name] * (x / 0.1).log_softmax(dim=1)).sum(dim=1).mean()

    crops = {name: getattr(local, f"{name}_scores")[:, 0].split(6) for name in ("video", "audio")}
    swapped = [(predicted(v, "audio") + predicted(a, "video")) / 2 for v, a in zip(*crops.values(), strict=True)]
    cross = (swapped_prediction(*scores.values(), 0.1, 0.05, 3) + sum(swapped)) / 3
    torch.testing.assert_close(SwAV(5, **options)(online, None, _index()).total, cross)

    two = _online(8, views=2)
    plain = SwAV(5, prototypes=4, within_modal=1.0)(two, None, _index()).terms["loss_within"]
    division = {name: sinkhorn(getattr(two, f"{name}_scores")[:6, 0], 0.05, 3) for name in ("video", "audio")}
    own = sum(predicted(view, name) for name, views in crops.items() for view in views)
    terms = SwAV(5, **options, within_modal=1.0)(replace(two, local=local), None, _index()).terms
    torch.testing.assert_close(terms["loss_within"], (2 * plain + own.detach()) / 6)
    with pytest.raises(ValueError, match=r"SwAV\(local_views=2\) needs as many local views .* got 0"):
        SwAV(5, **options)(full, None, _index())
    with pytest.raises(ValueError, match=r"SwAV\(local_views=0\) needs as many local views .* got 2"):
        SwAV(5, prototypes=4)(online, None, _index())


def test_queue_takes_part_when_it_is_full_and_its_epoch_has_come() -> None:
    objective = SwAV(5, prototypes=4, queue_size=12, queue_from_epoch=1)
    plain = SwAV(5, prototypes=4)
    online, first, second = _online(8), _online(9), _online(10)

    def loss() -> Tensor:
        return objective(online, None, _index()).total

    for embeddings in (first, second):
        torch.testing.assert_close(loss(), plain(online, None, _index()).total)
        objective.on_epoch_start(0 if embeddings is first else 1)
        objective.update(embeddings.detach(), None, _index())
    targets = []
    for name in ("video", "audio"):
        unit = torch.nn.functional.normalize(torch.cat([getattr(x, name) for x in (first, second)]), dim=1)
        queued = (unit @ getattr(online, f"{name}_prototypes")[0].T).detach()
        targets.append(sinkhorn(getattr(online, f"{name}_scores")[:, 0], 0.05, 3, queued=queued))
    expected = sum(
        -(target * (getattr(online, f"{name}_scores")[:, 0] / 0.1).log_softmax(dim=1)).sum(dim=1).mean() / 2
        for name, target in zip(("audio", "video"), targets, strict=True)
    )
    torch.testing.assert_close(loss(), expected)
    other = SwAV(5, prototypes=4, queue_size=12)
    other.load_state_dict(objective.state_dict())
    assert torch.equal(other(online, None, _index()).total, loss())
    with pytest.raises(ValueError, match=r"queue_size \(4\) must be 0 or at least the 6 clips of a step"):
        SwAV(5, prototypes=4, queue_size=4).update(first.detach(), None, _index())


def test_equal_division_keeps_embeddings_apart(small_training: Any) -> None:
    options: dict[str, Any] = {"prototypes": 16, "temperature": 0.4, "epochs": 20, "lr": 1e-2}
    guarded = small_training.train("swav", **options)
    assert not guarded.findings
    assert guarded.purity > 0.9
    assert guarded.numbers["retrieval/R@10"] > 5 * guarded.numbers["retrieval/chance_R@10"]
    collapsed = small_training.train("swav", iterations=0, **options)
    assert collapsed.losses[-1] < 0.2  # the loss is fine
    assert any("collapsed" in finding for finding in collapsed.findings)


def test_swav_refuses_mismatched_input() -> None:
    video, audio = _scores(11)
    with pytest.raises(ValueError, match=r"same clips in the same order, got \(5, 4\) and \(6, 4\)"):
        swapped_prediction(video[:5], audio, 0.1, 0.05, 3)
    with pytest.raises(ValueError, match=r"scores must be \(N, K\) with N, K > 0, got \(0, 4\)"):
        sinkhorn(video[:0], 0.05, 3)
    with pytest.raises(ValueError, match=r"queued must be \(Q, 4\) as scores, got \(6, 3\)"):
        sinkhorn(video, 0.05, 3, queued=audio[:, :3])
    with pytest.raises(ValueError, match=r"epsilon \(0\.0\) must be"):
        sinkhorn(video, 0.0, 3)
    with pytest.raises(ValueError, match=r"prototypes \(1\) must be at least 2"):
        SwAV(5, prototypes=1)
    with pytest.raises(ValueError, match=r"SwAV takes one view of each clip, got 6 embeddings of 3 clips"):
        SwAV(5, prototypes=4)(_online(0), None, _index(3))
    with pytest.raises(ValueError, match=r"needs Embeddings.video_scores \(V\*B, 1, 8\), got \(6, 1, 4\)"):
        SwAV(5, prototypes=8)(_online(0), None, _index())
    with pytest.raises(ValueError, match=r"needs Embeddings.video_scores .* got none"):
        SwAV(5, prototypes=8)(Embeddings(torch.ones(6, 5), torch.ones(6, 5)), None, _index())
