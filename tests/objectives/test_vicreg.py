"""VICReg against plain loops, lightly's loss, closed forms and trainings without its guards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss.vicreg_loss import VICRegLoss
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import VICReg, vicreg

WEIGHTS = (25.0, 20.0, 1.5)


def _pair(seed: int, num_clips: int = 6, size: int = 4) -> tuple[Tensor, Tensor]:
    video, audio = torch.randn(2, num_clips, size, generator=torch.Generator().manual_seed(seed))
    return video * 0.8, audio + video / 2


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def test_vicreg_matches_numpy_reference() -> None:
    both = [x.double().numpy() for x in _pair(0)]
    expected = WEIGHTS[0] * np.mean((both[0] - both[1]) ** 2)
    for x in both:
        matrix = np.cov(x, rowvar=False)
        expected += WEIGHTS[1] * np.maximum(0, 1 - np.sqrt(np.diag(matrix) + 1e-4)).mean() / 2
        expected += WEIGHTS[2] * (matrix[~np.eye(4, dtype=bool)] ** 2).sum() / 4
    assert vicreg(*_pair(0), *WEIGHTS).item() == pytest.approx(expected, rel=1e-5)


def test_vicreg_matches_lightly() -> None:
    video, audio = _pair(1, num_clips=16, size=8)
    expected = VICRegLoss(*WEIGHTS)(video, audio)
    torch.testing.assert_close(vicreg(video, audio, *WEIGHTS), expected, rtol=2e-4, atol=0)


def test_vicreg_has_closed_forms() -> None:
    spread = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 2
    assert vicreg(spread, spread, 1.0, 1.0, 1.0).item() == pytest.approx(0, abs=1e-8)
    point = torch.ones(4, 2)
    assert vicreg(point, point, 1.0, 1.0, 1.0).item() == pytest.approx(0.99)  # sqrt(1e-4) below a deviation of 1
    assert vicreg(point, point + 3, 1.0, 0.0, 0.0).item() == pytest.approx(9)
    repeated = spread[:, :1].expand(-1, 2)  # variance 16/3, covariance the same
    assert vicreg(repeated, repeated, 0.0, 0.0, 1.0).item() == pytest.approx(2 * 2 * (16 / 3) ** 2 / 2, rel=1e-6)


def test_vicreg_ignores_order_and_offset_and_has_a_gradient_at_a_point() -> None:
    video, audio = _pair(2)
    loss = vicreg(video, audio, *WEIGHTS)
    torch.testing.assert_close(vicreg(audio, video, *WEIGHTS), loss)
    torch.testing.assert_close(vicreg(video + 3, audio + 3, *WEIGHTS), loss)
    order = torch.randperm(6)
    torch.testing.assert_close(vicreg(video[order], audio[order], *WEIGHTS), loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(vicreg(video, audio, *WEIGHTS), loss)
    point = torch.zeros(4, 2, requires_grad=True)
    vicreg(point, torch.zeros(4, 2), *WEIGHTS).backward()
    assert point.grad.isfinite().all()


def test_within_modal_adds_the_loss_of_two_views() -> None:
    (v1, a1), (v2, a2) = _pair(3), _pair(4)
    online = Embeddings(torch.cat([v1, v2]), torch.cat([a1, a2]))
    result = VICReg(*WEIGHTS, within_modal=0.5)(online, None, _index(6))
    cross = (vicreg(v1, a1, *WEIGHTS) + vicreg(v2, a2, *WEIGHTS)) / 2
    within = (vicreg(v1, v2, *WEIGHTS) + vicreg(a1, a2, *WEIGHTS)) / 2
    torch.testing.assert_close(result.total, cross + 0.5 * within)
    torch.testing.assert_close(result.terms["loss_cross"], cross)
    one = VICReg(*WEIGHTS)(Embeddings(v1, a1), None, _index(6))
    names = ("loss_invariance", "loss_variance", "loss_covariance")
    torch.testing.assert_close(sum(w * one.terms[n] for w, n in zip(WEIGHTS, names, strict=True)), one.total)


@pytest.mark.parametrize(("guard", "finding"), [("variance", "collapsed to"), ("covariance", "collapsed to about")])
def test_each_guard_keeps_embeddings_apart(small_training: Any, guard: str, finding: str) -> None:
    collapsed = small_training.train_uneven(VICReg(**{guard: 0.0}))
    assert any(finding in text for text in collapsed.findings)


def test_both_guards_are_enough(small_training: Any) -> None:
    guarded = small_training.train_uneven(VICReg())
    assert not guarded.findings
    assert guarded.numbers["retrieval/R@10"] > 0.5


def test_vicreg_refuses_mismatched_input() -> None:
    video, audio = _pair(5)
    with pytest.raises(ValueError, match=r"same clips in the same order.*\(6, 4\) and audio \(5, 4\)"):
        vicreg(video, audio[:5], *WEIGHTS)
    with pytest.raises(ValueError, match="at least two clips over all ranks, got one"):
        vicreg(video[:1], audio[:1], *WEIGHTS)
    with pytest.raises(ValueError, match="VICReg takes 2 views of each clip, got 6 embeddings of 6 clips"):
        VICReg(within_modal=1.0)(Embeddings(video, audio), None, _index(6))
    with pytest.raises(ValueError, match=r"variance \(-1"):
        VICReg(variance=-1.0)
