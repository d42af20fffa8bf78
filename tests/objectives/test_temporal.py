"""Negatives in time against NumPy loops, closed forms and invariances; two ranks are in test_two_ranks.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import DenseAV, InfoNCE, create_objective

B, K, D, S, T = 4, 3, 6, 5, 0.3


def index(count=B):
    rows = torch.arange(count)
    return BatchIndex(rows, rows, rows)


def embeddings(views=1, seed=0):
    draw = torch.Generator().manual_seed(seed)
    rows = views * B
    cells = torch.randn(rows, D, 2, 2, 3, generator=draw, dtype=torch.float64)
    others = torch.randn(rows, K, D, S, generator=draw, dtype=torch.float64)
    audio = torch.randn(rows, D, S, generator=draw, dtype=torch.float64)
    return Embeddings(
        cells.mean((2, 3, 4)), audio.mean(2), cells, audio, other_audio=others.mean(3), other_audio_map=others
    )


def cosine(x, y):
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


def pooled(online, row, sound):
    return cosine(online.video[row].numpy(), sound.mean(1).numpy())


def best_cell(online, row, sound):
    """The best cell of every frame with the whole audio, averaged over frames."""
    heard = sound.mean(1).numpy()
    frames = online.video_map[row].flatten(2).numpy()  # (D, T, C)
    return np.mean([max(cosine(frames[:, t, c], heard) for c in range(frames.shape[2])) for t in range(2)])


def dense(online, row, sound):
    """The best cell of the frame of every audio step: steps 0 to 4 of 2 frames are at 0.1, 0.3, 0.5, 0.7, 0.9."""
    frames, heard = online.video_map[row].flatten(2).numpy(), sound.numpy()
    at = [min(int((s + 0.5) / S * 2), 1) for s in range(S)]
    return np.mean([max(cosine(frames[:, at[s], c], heard[:, s]) for c in range(frames.shape[2])) for s in range(S)])


def reference(online, score):
    """Both directions over all windows; a row of the first has its own clip at other times as well."""
    rows, loss = len(online.video), 0.0
    for i in range(rows):
        own = score(online, i, online.audio_map[i]) / T
        v2a = [score(online, i, online.audio_map[j]) / T for j in range(rows)]
        v2a += [score(online, i, other) / T for other in online.other_audio_map[i]]
        a2v = [score(online, j, online.audio_map[i]) / T for j in range(rows)]
        loss += (math.log(sum(map(math.exp, v2a))) + math.log(sum(map(math.exp, a2v)))) / 2 - own
    return loss / rows


CASES = {
    "pooled": (InfoNCE, {"pooling": "pooled"}, pooled),
    "max": (InfoNCE, {"pooling": "max"}, best_cell),
    "dense_av": (
        DenseAV,
        {"num_heads": 1, "learn_temperature": False, "nonnegative_weight": 0, "smooth_weight": 0},
        dense,
    ),
}


@pytest.mark.parametrize("views", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_the_loss_matches_a_loop(name, views):
    cls, options, score = CASES[name]
    online = embeddings(views)
    result = cls(temperature=T, temporal_negatives=K, temporal_views=views, **options)(online, None, index())
    assert float(result.total) == pytest.approx(reference(online, score), rel=1e-5)
    above = [
        score(online, i, online.audio_map[i]) > max(score(online, i, other) for other in online.other_audio_map[i])
        for i in range(len(online.video))
    ]
    assert float(result.terms["accuracy_temporal"]) == pytest.approx(np.mean(above))


@pytest.mark.parametrize("cls", [InfoNCE, DenseAV])
def test_the_loss_is_the_logarithm_of_the_candidates_where_all_coincide(cls):
    options = {"learn_temperature": False} if cls is DenseAV else {}
    one = torch.ones(2 * B, D)
    online = Embeddings(
        one,
        one,
        one[:, :, None, None, None],
        one[:, :, None],
        other_audio=torch.ones(2 * B, K, D),
        other_audio_map=torch.ones(2 * B, K, D, 1),
    )
    result = cls(temporal_negatives=K, temporal_views=2, **options)(online, None, index())
    assert float(result.terms.get("loss_pairs", result.total)) == pytest.approx(
        (math.log(2 * B + K) + math.log(2 * B)) / 2
    )


@pytest.mark.parametrize("name", CASES)
def test_scale_and_order_of_the_negatives_do_not_matter_and_other_rows_do_not_see_them(name):
    cls, options, _ = CASES[name]
    objective = cls(temperature=T, temporal_negatives=K, **options)
    online = embeddings()
    moved = embeddings()
    object.__setattr__(moved, "other_audio", moved.other_audio.flip(1) * 3)
    object.__setattr__(moved, "other_audio_map", moved.other_audio_map.flip(1) * 3)
    expected = objective(online, None, index()).total
    torch.testing.assert_close(objective(moved, None, index()).total, expected)
    # The gradient of a negative in time reaches the video of its own row and no other.
    video_map = online.video_map.clone().requires_grad_()
    video = video_map.mean((2, 3, 4))
    one = Embeddings(video, online.audio, video_map, online.audio_map, other_audio=online.other_audio.clone())
    others = online.other_audio_map.clone()
    object.__setattr__(one, "other_audio_map", others)
    before = torch.autograd.grad(objective(one, None, index()).total, video_map)[0]
    one.other_audio[0], others[0] = -one.other_audio[0], -others[0]
    video = video_map.mean((2, 3, 4))
    object.__setattr__(one, "video", video)
    after = torch.autograd.grad(objective(one, None, index()).total, video_map)[0]
    changed = (before - after).abs().flatten(1).amax(dim=1) > 1e-6
    assert changed.tolist() == [True, False, False, False]


def test_without_the_options_there_is_nothing_new():
    online = embeddings()
    plain = InfoNCE(temperature=T)(Embeddings(online.video, online.audio, online.video_map), None, index())
    assert InfoNCE().needs.windows is None
    assert "accuracy_temporal" not in plain.terms
    assert float(plain.total) == float(InfoNCE(temperature=T)(online, None, index()).total)


def test_what_does_not_go_together_is_an_error():
    with pytest.raises(ValueError, match=r"temporal_negatives \(2\) are columns of one row each, which chunk_size"):
        InfoNCE(pooling="pooled", chunk_size=2, temporal_negatives=2)
    with pytest.raises(ValueError, match=r"temporal_views \(2\) makes windows of a file negatives of each other"):
        InfoNCE(temporal_views=2, exclude_same_file=True)
    with pytest.raises(ValueError, match="must be 1 or 2 with within_modal"):
        InfoNCE(temporal_views=3, within_modal=1.0)
    with pytest.raises(ValueError, match=r"temporal_near_seconds \(0\.5, 0\.2\) must be ascending"):
        create_objective("dense_av", temporal_negatives=1, temporal_near_seconds=(0.5, 0.2))
    with pytest.raises(ValueError, match=r"needs as many columns of Embeddings\.other_audio, got none"):
        InfoNCE(pooling="pooled", temporal_negatives=1)(Embeddings(torch.ones(4, 2), torch.ones(4, 2)), None, index())
