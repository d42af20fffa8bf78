"""MarginNCE against loops, a closed form, InfoNCE at no margin, and mismatched input."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import InfoNCE, MarginNCE, info_nce, margin_nce


def _pair(seed: int, num_clips: int = 5) -> tuple[Tensor, Tensor]:
    video, audio = torch.randn(2, num_clips, 4, generator=torch.Generator().manual_seed(seed))
    return video, audio


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


@pytest.mark.parametrize("margin", [-0.2, 0.3])
def test_margin_nce_matches_loop_reference(margin: float) -> None:
    video, audio = _pair(0)
    scores = [[F.cosine_similarity(v, a, dim=0).item() for a in audio.double()] for v in video.double()]
    expected = 0.0
    for i in range(5):
        positive = math.exp((scores[i][i] - margin) / 0.2)
        v2a = sum(math.exp(scores[i][j] / 0.2) for j in range(5) if j != i)
        a2v = sum(math.exp(scores[j][i] / 0.2) for j in range(5) if j != i)
        expected -= sum(math.log(positive / (positive + others)) for others in (v2a, a2v)) / 10
    assert margin_nce(video, audio, 0.2, margin).item() == pytest.approx(expected, rel=1e-5)


def test_margin_nce_has_a_closed_form_when_embeddings_coincide() -> None:
    same = torch.ones(6, 3)
    expected = math.log(math.exp(0.2 / 0.1) + 5) - 0.2 / 0.1
    assert margin_nce(same, same, 0.1, -0.2).item() == pytest.approx(expected, rel=1e-5)


def test_margin_nce_ignores_scale_and_the_order_of_clips() -> None:
    video, audio = _pair(5)
    order = torch.tensor([3, 0, 4, 1, 2])
    expected = margin_nce(video, audio, 0.2, -0.3)
    torch.testing.assert_close(margin_nce(7 * video, audio / 9, 0.2, -0.3), expected)
    torch.testing.assert_close(margin_nce(video[order], audio[order], 0.2, -0.3), expected)
    torch.testing.assert_close(margin_nce(audio, video, 0.2, -0.3), expected)


def test_without_margin_it_is_info_nce_and_a_negative_one_is_less_strict() -> None:
    video, audio = _pair(1)
    torch.testing.assert_close(margin_nce(video, audio, 0.1, 0.0), info_nce(video, audio, 0.1))
    strict, plain, lax = (margin_nce(video, audio, 0.1, margin) for margin in (0.2, 0.0, -0.2))
    assert lax < plain < strict
    torch.testing.assert_close(margin_nce(video * 3, audio / 2, 0.1, 0.2), strict)


@pytest.mark.parametrize("pooling", ["pooled", "max", "both"])
def test_objective_pools_and_reports_as_info_nce(pooling: str) -> None:
    _, audio = _pair(2)
    video_map = torch.randn(5, 4, 2, 2, 2)
    online = Embeddings(video_map.mean((2, 3, 4)), audio, video_map)
    plain = InfoNCE(0.2, pooling, max_over="cells")(online, None, _index(5))
    result = MarginNCE(0.2, 0.0, pooling, max_over="cells")(online, None, _index(5))
    torch.testing.assert_close(result.total, plain.total)
    torch.testing.assert_close(result.terms, plain.terms)
    with_margin = MarginNCE(0.2, -0.5, pooling, max_over="cells")(online, None, _index(5))
    assert with_margin.total < result.total
    assert with_margin.terms["cosine_positive"] == result.terms["cosine_positive"]
    assert MarginNCE(pooling=pooling, max_over="cells").needs.maps == (pooling != "pooled")


def test_margin_nce_refuses_mismatched_input() -> None:
    video, audio = _pair(3)
    with pytest.raises(ValueError, match="same clips in the same order"):
        margin_nce(video[:4], audio, 0.1, 0.0)
    with pytest.raises(ValueError, match=r"margin \(3\) must be in \[-2, 2\]"):
        MarginNCE(margin=3, pooling="pooled")
    with pytest.raises(ValueError, match=r"temperature \(0\) must be >= 1e-06"):
        MarginNCE(temperature=0, pooling="pooled")
    with pytest.raises(ValueError, match="one view of each clip, got 5 embeddings of 4 clips"):
        MarginNCE(pooling="pooled")(Embeddings(video, audio), None, _index(4))
    with pytest.raises(ValueError, match=r'pooling="max" needs Embeddings\.video_map'):
        MarginNCE(pooling="max", max_over="cells")(Embeddings(video, audio), None, _index(5))
