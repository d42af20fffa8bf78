"""Barlow Twins against plain loops, lightly's loss, closed forms and a training without its guard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightly.loss.barlow_twins_loss import BarlowTwinsLoss
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import BarlowTwins, barlow_twins


def _pair(seed: int, num_clips: int = 6, size: int = 4) -> tuple[Tensor, Tensor]:
    video, audio = torch.randn(2, num_clips, size, generator=torch.Generator().manual_seed(seed))
    return video, audio + video / 2


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def test_barlow_twins_matches_loop_reference() -> None:
    video, audio = (x.double().numpy() for x in _pair(0))
    expected = 0.0
    for i in range(4):
        for j in range(4):
            first, second = video[:, i], audio[:, j]
            scale = np.sqrt((first.var() + 1e-5) * (second.var() + 1e-5))
            correlation = ((first - first.mean()) * (second - second.mean())).mean() / scale
            expected += (1 - correlation) ** 2 if i == j else 0.02 * correlation**2
    assert barlow_twins(*_pair(0), off_diagonal=0.02).item() == pytest.approx(expected, rel=1e-5)


def test_barlow_twins_matches_lightly() -> None:
    video, audio = _pair(1, num_clips=16, size=8)
    expected = BarlowTwinsLoss(lambda_param=0.005)(video, audio)
    torch.testing.assert_close(barlow_twins(video, audio, 0.005), expected, rtol=2e-4, atol=0)


def test_barlow_twins_has_closed_forms() -> None:
    # Two dimensions that are uncorrelated: equal modalities are perfect, exchanged dimensions the opposite.
    video = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]) * 100
    assert barlow_twins(video, video, 0.1).item() == pytest.approx(0, abs=1e-8)
    assert barlow_twins(video, video.flip(1), 0.1).item() == pytest.approx(2 + 0.1 * 2, rel=1e-6)
    assert barlow_twins(video, torch.ones(4, 2), 0.1).item() == pytest.approx(2)  # a point correlates with nothing


def test_barlow_twins_ignores_order_scale_and_offset() -> None:
    video, audio = _pair(2)
    loss = barlow_twins(video, audio, 0.02)
    torch.testing.assert_close(barlow_twins(audio, video, 0.02), loss)
    torch.testing.assert_close(barlow_twins(video * 1e3 + 5, audio * 1e3 - 7, 0.02), loss, rtol=1e-3, atol=1e-4)
    order, dimensions = torch.randperm(6), torch.randperm(4)
    torch.testing.assert_close(barlow_twins(video[order], audio[order], 0.02), loss)
    torch.testing.assert_close(barlow_twins(video[:, dimensions], audio[:, dimensions], 0.02), loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(barlow_twins(video, audio, 0.02), loss)


def test_within_modal_adds_the_loss_of_two_views() -> None:
    (v1, a1), (v2, a2) = _pair(3), _pair(4)
    online = Embeddings(torch.cat([v1, v2]), torch.cat([a1, a2]))
    result = BarlowTwins(0.02, within_modal=0.5)(online, None, _index(6))
    cross = (barlow_twins(v1, a1, 0.02) + barlow_twins(v2, a2, 0.02)) / 2
    within = (barlow_twins(v1, v2, 0.02) + barlow_twins(a1, a2, 0.02)) / 2
    torch.testing.assert_close(result.total, cross + 0.5 * within)
    torch.testing.assert_close(result.terms["loss_within"], within)
    one = BarlowTwins(0.02)(Embeddings(v1, a1), None, _index(6))
    torch.testing.assert_close(one.terms["loss_diagonal"] + 0.02 * one.terms["loss_off_diagonal"], one.total)


def test_decorrelation_keeps_directions_apart(small_training: Any) -> None:
    options: dict[str, Any] = {"epochs": 60, "lr": 0.05, "weight_decay": 0.01, "size": 128, "weakest": 0.003}
    guarded = small_training.train_uneven(BarlowTwins(0.01), **options)
    assert not guarded.findings
    assert guarded.numbers["retrieval/R@10"] > 0.5
    collapsed = small_training.train_uneven(BarlowTwins(0.0), **options)
    assert any("collapsed to about" in finding for finding in collapsed.findings)


def test_barlow_twins_refuses_mismatched_input() -> None:
    video, audio = _pair(5)
    with pytest.raises(ValueError, match=r"same clips in the same order.*\(6, 4\) and audio \(5, 4\)"):
        barlow_twins(video, audio[:5], 0.02)
    with pytest.raises(ValueError, match="at least two clips over all ranks, got one"):
        barlow_twins(video[:1], audio[:1], 0.02)
    with pytest.raises(ValueError, match="BarlowTwins takes one view of each clip, got 6 embeddings of 3 clips"):
        BarlowTwins()(Embeddings(video, audio), None, _index(3))
    with pytest.raises(ValueError, match=r"off_diagonal \(-1"):
        BarlowTwins(off_diagonal=-1.0)
