"""Silence and noise as columns that no picture may score: loops, closed forms, invariances, what terms count."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.config import ConfigError, config_from_dict
from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import InfoNCE, MarginNCE, Objective, info_nce, max_info_nce
from avssl.training.build import check_options

N, M, D, T = 5, 4, 6, 0.3
EXCLUDE = {"exclude_same_file": True, "exclude_near_duplicates": 0.4, "exclude_hardest": 0.3}


def _index(num_clips: int = N) -> BatchIndex:
    rows = torch.arange(num_clips)
    return BatchIndex(rows, rows // 2, rows)


def _embeddings(seed: int = 0) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randn(N, D, 2, 2, 3, generator=generator)
    return Embeddings(
        cells.mean((2, 3, 4)).requires_grad_(),
        torch.randn(N, D, generator=generator).requires_grad_(),
        cells.requires_grad_(),
        negative_audio=torch.randn(M, D, generator=generator).requires_grad_(),
    )


def _pooled_score(online: Embeddings, clip: int, sound: Tensor) -> Tensor:
    return F.cosine_similarity(online.video[clip], sound, dim=0)


def _best_score(online: Embeddings, clip: int, sound: Tensor) -> Tensor:
    """The best cell of every frame, averaged over frames."""
    frames = online.video_map[clip].unbind(1)
    best = [torch.stack([F.cosine_similarity(c, sound, dim=0) for c in f.flatten(1).T]).max() for f in frames]
    return torch.stack(best).mean()


def _loop_loss(online: Embeddings, score: Any, excluded_v2a: list[set[int]], excluded_a2v: list[set[int]]) -> Tensor:
    loss = torch.zeros(())
    for i in range(N):
        sounds = [online.audio[j] for j in range(N) if j not in excluded_v2a[i]] + list(online.negative_audio)
        v2a = torch.stack([score(online, i, sound) for sound in sounds]) / T
        pictures = [j for j in range(N) if j not in excluded_a2v[i]]
        a2v = torch.stack([score(online, j, online.audio[i]) for j in pictures]) / T
        own = score(online, i, online.audio[i]) / T
        loss = loss + (v2a.logsumexp(0) + a2v.logsumexp(0)) / 2 - own
    return loss / N


def _gradients(loss: Tensor, online: Embeddings) -> tuple[Tensor, ...]:
    inputs = (online.video, online.audio, online.video_map, online.negative_audio)
    return torch.autograd.grad(loss, inputs, allow_unused=True)


@pytest.mark.parametrize("pooling", ["pooled", "max", "both"])
def test_loss_and_gradient_match_loops(pooling: Any) -> None:
    online = _embeddings()
    result = InfoNCE(T, pooling, "space", negative_sounds=M)(online, None, _index())
    nothing: list[set[int]] = [set() for _ in range(N)]
    losses = {
        "pooled": _loop_loss(online, _pooled_score, nothing, nothing),
        "max": _loop_loss(online, _best_score, nothing, nothing),
    }
    expected = losses.get(pooling, (losses["pooled"] + losses["max"]) / 2)
    torch.testing.assert_close(result.total, expected)
    for got, wanted in zip(_gradients(result.total, online), _gradients(expected, online), strict=True):
        assert (got is None) == (wanted is None)
        if got is not None and wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


def test_exclusions_leave_out_clips_and_never_silence() -> None:
    online = _embeddings(1)
    # Of 4 negatives one is the hardest; the other clip of the same file is out too.
    cosines = F.cosine_similarity(online.video[:, None], online.audio[None], dim=2).detach()
    excluded = []
    for scores in (cosines, cosines.T):
        rows = []
        for i in range(N):
            out = {j for j in range(N) if j != i and j // 2 == i // 2}
            left = max((j for j in range(N) if j != i and j not in out), key=lambda j: float(scores[i, j]))
            rows.append(out | {left})
        excluded.append(rows)
    expected = _loop_loss(online, _pooled_score, *excluded)
    for chunk_size in (None, 2):
        objective = InfoNCE(
            T, exclude_same_file=True, exclude_hardest=0.3, chunk_size=chunk_size, negative_sounds=M, pooling="pooled"
        )
        result = objective(online, None, _index())
        torch.testing.assert_close(result.total, expected)
        share = sum(len(row) for side in excluded for row in side) / (2 * N * (N - 1))
        assert result.terms["excluded_share"].item() == pytest.approx(share)


@pytest.mark.parametrize("options", [{}, EXCLUDE])
@pytest.mark.parametrize("chunk_size", [1, 3, 8])
def test_chunks_equal_the_whole(options: dict[str, Any], chunk_size: int) -> None:
    online = _embeddings(2)
    whole = InfoNCE(T, "pooled", negative_sounds=M, **options)(online, None, _index())
    chunked = InfoNCE(T, "pooled", negative_sounds=M, chunk_size=chunk_size, **options)(online, None, _index())
    torch.testing.assert_close(chunked.total, whole.total)
    assert chunked.terms.keys() == whole.terms.keys()
    for name, value in whole.terms.items():
        torch.testing.assert_close(chunked.terms[name], value, msg=name)
    for got, wanted in zip(_gradients(chunked.total, online), _gradients(whole.total, online), strict=True):
        if wanted is not None:
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_closed_forms(chunk_size: int | None) -> None:
    objective = InfoNCE(T, chunk_size=chunk_size, negative_sounds=M, pooling="pooled")
    # Everything coincides: a video sees N + M equal columns, a sound N.
    same = torch.tensor([[3.0, -4.0]])
    online = Embeddings(same.expand(N, 2), same.expand(N, 2), negative_audio=same.expand(M, 2))
    total = objective(online, None, _index()).total.item()
    assert total == pytest.approx((math.log(N + M) + math.log(N)) / 2, abs=1e-6)
    # Every pair orthogonal but the clip's own.
    eye = torch.eye(N + M)
    online = Embeddings(eye[:N], eye[:N], negative_audio=eye[N:])
    total = objective(online, None, _index()).total.item()
    top = math.exp(1 / T)
    expected = (math.log(top + N - 1 + M) + math.log(top + N - 1)) / 2 - 1 / T
    assert total == pytest.approx(expected, rel=1e-5)


def test_best_cells_have_a_closed_form_too() -> None:
    eye = torch.eye(N + M)
    video_map = torch.zeros(N, N + M, 1, 2, 2)
    video_map[:, :, 0, 0, 0] = eye[:N]
    video_map[:, N, 0, 1, 1] = -1  # worse than orthogonal, and so never the best
    video_map[:, N : N + 2, 0, 0, 1] = 1  # sounds like two of the negatives
    online = Embeddings(eye[:N], eye[:N], video_map, negative_audio=eye[N:])
    result = InfoNCE(T, "max", negative_sounds=M, max_over="cells")(online, None, _index())
    top, half = math.exp(1 / T), math.exp(0.5**0.5 / T)
    v2a = math.log(top + N - 1 + 2 * half + M - 2)
    assert result.total.item() == pytest.approx((v2a + math.log(top + N - 1)) / 2 - 1 / T, rel=1e-5)
    assert result.terms["cosine_silence"].item() == pytest.approx(2 * 0.5**0.5 / M, rel=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_accuracy_is_of_clips_alone(chunk_size: int | None) -> None:
    # Silence fits every video better than its own audio, and yet is no candidate.
    video = torch.tensor([[0.8, 0.0, 0.6], [0.0, 0.8, 0.6]])
    online = Embeddings(video, torch.eye(3)[:2], negative_audio=video[:1].expand(2, 3))
    terms = InfoNCE(T, chunk_size=chunk_size, negative_sounds=2, pooling="pooled")(online, None, _index(2)).terms
    found = {name: terms[name].item() for name in terms if name != "loss"}
    assert found == pytest.approx(
        {
            "accuracy_v2a": 1.0,
            "accuracy_a2v": 1.0,
            "cosine_positive": 0.8,
            "cosine_negative": 0.0,
            "cosine_silence": (1 + 0.36) / 2,
        }
    )


@pytest.mark.parametrize("pooling", ["pooled", "max", "both"])
def test_order_and_scale_of_negatives_do_not_matter(pooling: Any) -> None:
    online = _embeddings(3)
    objective = InfoNCE(T, pooling, negative_sounds=M, max_over="cells")
    total = objective(online, None, _index()).total
    changed = online.negative_audio[[2, 0, 3, 1]] * torch.tensor([[0.01], [5.0], [300.0], [1.0]])
    moved = Embeddings(online.video, online.audio, online.video_map, negative_audio=changed)
    torch.testing.assert_close(objective(moved, None, _index()).total, total)


@pytest.mark.parametrize("pooling", ["pooled", "max", "both"])
def test_without_them_the_loss_is_the_same_bits(pooling: Any) -> None:
    online = _embeddings(4)
    plain = Embeddings(online.video, online.audio, online.video_map)
    result = InfoNCE(T, pooling, max_over="cells")(plain, None, _index())
    assert "cosine_silence" not in result.terms
    pooled, best = info_nce(online.video, online.audio, T), max_info_nce(online.video_map, online.audio, T, "cells")
    assert torch.equal(result.total, {"pooled": pooled, "max": best, "both": (pooled + best) / 2}[pooling])
    # Embeddings of negatives that nobody asked for change nothing.
    assert torch.equal(InfoNCE(T, pooling, max_over="cells")(online, None, _index()).total, result.total)


@pytest.mark.parametrize("options", [{}, {"chunk_size": 2}, {"pooling": "max"}, {"pooling": "both", **EXCLUDE}])
def test_a_zero_embedding_scores_0_and_breaks_nothing(options: dict[str, Any]) -> None:
    online = _embeddings(5)
    with torch.no_grad():
        online.negative_audio[1] = 0
    result = InfoNCE(T, negative_sounds=M, **({"pooling": "pooled", "max_over": "cells"} | options))(
        online, None, _index()
    )
    assert all(term.isfinite() for term in result.terms.values())
    assert all(gradient is None or gradient.isfinite().all() for gradient in _gradients(result.total, online))


def test_a_step_against_them_lowers_their_score() -> None:
    online = _embeddings(6)
    objective = InfoNCE(T, "max", negative_sounds=M, max_over="cells")
    before = objective(online, None, _index())
    (gradient,) = torch.autograd.grad(before.total, online.video_map)
    moved = Embeddings(online.video, online.audio, online.video_map - gradient, negative_audio=online.negative_audio)
    after = objective(moved, None, _index())
    assert after.terms["cosine_silence"] < before.terms["cosine_silence"]
    assert after.terms["cosine_positive"] > before.terms["cosine_positive"]


def test_two_views_share_them() -> None:
    first, second = _embeddings(7), _embeddings(8)
    both = Embeddings(
        torch.cat([first.video, second.video]),
        torch.cat([first.audio, second.audio]),
        negative_audio=first.negative_audio,
    )
    result = InfoNCE(T, within_modal=0.5, negative_sounds=M, pooling="pooled")(both, None, _index())
    one = InfoNCE(T, negative_sounds=M, pooling="pooled")
    crosses = [
        one(Embeddings(view.video, view.audio, negative_audio=first.negative_audio), None, _index()).total
        for view in (first, second)
    ]
    within = [info_nce(getattr(first, side), getattr(second, side), T) for side in ("video", "audio")]
    torch.testing.assert_close(result.total, sum(crosses) / 2 + 0.5 * sum(within) / 2)


@pytest.mark.parametrize("pooling", ["pooled", "both"])
def test_margin_nce_takes_them_and_no_margin_of_them(pooling: Any) -> None:
    online = _embeddings(9)
    without_margin = MarginNCE(T, 0.0, pooling, negative_sounds=M, max_over="cells")(online, None, _index())
    expected = InfoNCE(T, pooling, negative_sounds=M, max_over="cells")(online, None, _index())
    torch.testing.assert_close(without_margin.total, expected.total)
    assert without_margin.terms.keys() == expected.terms.keys()
    eye = torch.eye(N + M)
    online = Embeddings(eye[:N], eye[:N], negative_audio=eye[N:])
    total = MarginNCE(T, -0.2, negative_sounds=M, pooling="pooled")(online, None, _index()).total.item()
    top = math.exp(1.2 / T)
    assert total == pytest.approx((math.log(top + N - 1 + M) + math.log(top + N - 1)) / 2 - 1.2 / T, rel=1e-5)


@pytest.mark.parametrize(
    "objective", [InfoNCE(negative_sounds=M, pooling="pooled"), MarginNCE(negative_sounds=M, pooling="pooled")]
)
def test_missing_sounds_are_refused(objective: Objective) -> None:
    online = _embeddings(10)
    advice = r"got {}: give the transform negative_sounds=objective\.needs\.negative_sounds"
    with pytest.raises(ValueError, match=rf"\(negative_sounds=4\) needs as many rows.*{advice.format('none')}"):
        objective(Embeddings(online.video, online.audio), None, _index())
    with pytest.raises(ValueError, match=advice.format(3)):
        objective(Embeddings(online.video, online.audio, negative_audio=online.negative_audio[:3]), None, _index())


@pytest.mark.parametrize("count", [-2, 3])
@pytest.mark.parametrize("name", ["info_nce", "margin_nce"])
def test_odd_and_negative_numbers_are_refused(name: str, count: int) -> None:
    right = ">= 0" if count < 0 else "even and >= 0: half are silence, half noise"
    message = rf"negative_sounds \({count}\) must be {right}"
    with pytest.raises(ValueError, match=message):
        {"info_nce": InfoNCE, "margin_nce": MarginNCE}[name](negative_sounds=count)
    with pytest.raises(ConfigError, match=message):
        check_options(config_from_dict({"objective": {"name": name, "negative_sounds": count}}))
