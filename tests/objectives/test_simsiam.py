"""SimSiam against lightly's loss, closed forms and trainings without its guards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightly.loss.negative_cosine_similarity import NegativeCosineSimilarity
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import SimSiam
from avssl.objectives.pairs import Predicted


def _embeddings(seed: int, num_clips: int = 6, size: int = 4) -> Embeddings:
    parts = torch.randn(4, num_clips, size, generator=torch.Generator().manual_seed(seed))
    return Embeddings(parts[0], parts[1], video_prediction=parts[2], audio_prediction=parts[3])


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


@pytest.mark.parametrize("residual", [False, True])
def test_simsiam_matches_lightly(residual: bool) -> None:
    online, distance = _embeddings(0, 12), NegativeCosineSimilarity()
    video, audio = online.video_prediction, online.audio_prediction
    if residual:
        video, audio = video + online.video, audio + online.audio
    cross = (distance(video, online.audio) + distance(audio, online.video)) / 2
    plain = SimSiam(residual=residual)(online, None, _index(12))
    torch.testing.assert_close(plain.total, cross, rtol=2e-4, atol=0)
    torch.testing.assert_close(plain.terms["cosine_positive"], -cross)

    (p1, p2), (q1, q2) = video.split(6), audio.split(6)
    (v1, v2), (a1, a2) = online.video.split(6), online.audio.split(6)
    within = (distance(p1, v2) + distance(p2, v1) + distance(q1, a2) + distance(q2, a1)) / 4
    both = SimSiam(within_modal=0.5, residual=residual)(online, None, _index(6))
    torch.testing.assert_close(both.total, cross + 0.5 * within)


def test_simsiam_has_closed_forms_and_ignores_scale() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    for scale, expected in ((3.0, -1.0), (-0.5, 1.0)):
        online = Embeddings(x, x, video_prediction=scale * x, audio_prediction=scale * x)
        loss = SimSiam(residual=False)(online, None, _index(5)).total
        assert loss.item() == pytest.approx(expected)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(SimSiam(residual=False)(online, None, _index(5)).total, loss)


def test_gradient_stops_at_the_targets() -> None:
    online = _embeddings(2)
    for x in (online.video, online.audio, online.video_prediction, online.audio_prediction):
        x.requires_grad_()
    SimSiam(residual=False)(online, None, _index(6)).total.backward()
    assert online.video_prediction.grad.abs().sum() > 0
    assert online.video.grad is None
    assert online.audio.grad is None


class _WithoutPredictor(SimSiam):
    def _views(self, embedding: Tensor, prediction: Tensor | None, target: Tensor, num_clips: int) -> Any:
        return super()._views(embedding, embedding + 0 * prediction, target, num_clips)


class _WithoutStop(SimSiam):
    def _views(self, embedding: Tensor, prediction: Tensor | None, target: Tensor, num_clips: int) -> Any:
        return [Predicted(*view) for view in zip(prediction.split(num_clips), target.split(num_clips), strict=True)]


@pytest.mark.parametrize("unguarded", [_WithoutPredictor, _WithoutStop])
def test_each_guard_keeps_embeddings_apart(small_training: Any, unguarded: type[SimSiam]) -> None:
    collapsed = small_training.train_uneven(unguarded(residual=False))
    assert any("collapsed to" in finding for finding in collapsed.findings)


def test_both_guards_are_enough(small_training: Any) -> None:
    for residual in (False, True):
        guarded = small_training.train_uneven(SimSiam(residual=residual))
        assert not [text for text in guarded.findings if "collapsed" in text]
    assert guarded.numbers["retrieval/R@10"] > 0.5  # with the embedding added, both modalities share a space


def test_simsiam_refuses_mismatched_input() -> None:
    online = _embeddings(6)
    with pytest.raises(ValueError, match=r"needs Embeddings.video_prediction .* give the model objective_heads"):
        SimSiam()(Embeddings(online.video, online.audio), None, _index(6))
    with pytest.raises(ValueError, match="SimSiam takes 2 views of each clip, got 6 embeddings of 6 clips"):
        SimSiam(within_modal=1.0)(online, None, _index(6))
    with pytest.raises(ValueError, match=r"predictor_hidden \(0\) must be >= 1"):
        SimSiam(predictor_hidden=0)
