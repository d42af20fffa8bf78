"""BYOL against lightly's loss, plain formulas, closed forms and a training without its predictor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightly.loss.negative_cosine_similarity import NegativeCosineSimilarity
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import BYOL, byol_loss


def _embeddings(seed: int, num_clips: int = 6, size: int = 4) -> Embeddings:
    parts = torch.randn(4, num_clips, size, generator=torch.Generator().manual_seed(seed))
    return Embeddings(parts[0], parts[1], video_prediction=parts[2], audio_prediction=parts[3])


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def test_byol_loss_matches_lightly_and_squared_distances() -> None:
    prediction, target = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    expected = 2 + 2 * NegativeCosineSimilarity()(prediction, target)
    torch.testing.assert_close(byol_loss(prediction, target), expected, rtol=2e-4, atol=0)
    distances = [(x / x.norm() - y / y.norm()).square().sum() for x, y in zip(prediction, target, strict=True)]
    torch.testing.assert_close(byol_loss(prediction, target), torch.stack(distances).mean())


def test_byol_loss_has_closed_forms_and_ignores_scale() -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    assert byol_loss(x, 7 * x).item() == pytest.approx(0, abs=1e-6)
    assert byol_loss(x, -x / 3).item() == pytest.approx(4)
    assert byol_loss(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 5]])).item() == pytest.approx(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(byol_loss(x, x.flip(0)), byol_loss(x.flip(0), x))


@pytest.mark.parametrize("residual", [False, True])
def test_each_modality_predicts_the_target_of_the_other(residual: bool) -> None:
    online, target = _embeddings(2, 12), _embeddings(3, 12)
    video, audio = online.video_prediction, online.audio_prediction
    if residual:
        video, audio = video + online.video, audio + online.audio
    plain = BYOL(residual=residual)(online, target, _index(12))
    cross = (byol_loss(video, target.audio) + byol_loss(audio, target.video)) / 2
    torch.testing.assert_close(plain.total, cross)
    torch.testing.assert_close(plain.terms["cosine_positive"], 1 - cross / 2)

    (v1, v2), (a1, a2) = video.split(6), audio.split(6)
    (w1, w2), (b1, b2) = target.video.split(6), target.audio.split(6)
    within = (byol_loss(v1, w2) + byol_loss(v2, w1) + byol_loss(a1, b2) + byol_loss(a2, b1)) / 4
    both = BYOL(within_modal=0.5, residual=residual)(online, target, _index(6))
    torch.testing.assert_close(both.total, cross + 0.5 * within)
    torch.testing.assert_close(both.terms["loss_cross"], cross)


def test_targets_get_no_gradient_and_momentum_rises() -> None:
    online, target = _embeddings(4), _embeddings(5)
    for x in (online.video_prediction, online.audio_prediction, target.video, target.audio):
        x.requires_grad_()
    BYOL()(online, target, _index(6)).total.backward()
    assert online.video_prediction.grad.abs().sum() > 0
    assert target.video.grad is None
    assert target.audio.grad is None
    needs = BYOL(momentum=0.9).needs
    assert (needs.target_momentum, needs.final_momentum) == (0.9, 1.0)


class _WithoutPredictor(BYOL):
    def _views(self, embedding: Tensor, prediction: Tensor | None, target: Tensor, num_clips: int) -> Any:
        return super()._views(embedding, embedding + 0 * prediction, target, num_clips)


def test_the_predictor_keeps_embeddings_apart(small_training: Any) -> None:
    options: dict[str, Any] = {"predictor_hidden": 64, "momentum": 0.5, "final_momentum": 0.5, "residual": False}
    assert not [text for text in small_training.train_uneven(BYOL(**options)).findings if "collapsed" in text]
    collapsed = small_training.train_uneven(_WithoutPredictor(**options))
    assert any("collapsed to" in finding for finding in collapsed.findings)


def test_the_predictor_as_a_correction_keeps_one_space(small_training: Any) -> None:
    result = small_training.train_uneven(BYOL(predictor_hidden=64, momentum=0.9))
    assert not result.findings
    assert result.numbers["retrieval/R@10"] > 0.5


def test_byol_refuses_mismatched_input() -> None:
    online, target = _embeddings(6), _embeddings(7)
    with pytest.raises(ValueError, match=r"same clips in the same order.*\(6, 4\) and \(5, 4\)"):
        byol_loss(online.video, online.video[:5])
    with pytest.raises(ValueError, match="BYOL needs the embeddings of a momentum model"):
        BYOL()(online, None, _index(6))
    with pytest.raises(ValueError, match=r"needs Embeddings.video_prediction .* give the model objective_heads"):
        BYOL()(Embeddings(online.video, online.audio), target, _index(6))
    with pytest.raises(ValueError, match="BYOL takes one view of each clip, got 6 embeddings of 3 clips"):
        BYOL()(online, target, _index(3))
    with pytest.raises(ValueError, match=r"predictions \(6, 4\) and targets \(3, 4\)"):
        BYOL()(online, _embeddings(8, 3), _index(6))
    with pytest.raises(ValueError, match=r"momentum \(1.5\) must be in \[0, 1\]"):
        BYOL(momentum=1.5)
