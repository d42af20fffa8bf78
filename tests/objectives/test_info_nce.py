"""InfoNCE against a plain-Python reference, closed forms, invariances and two real ranks."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import InfoNCE, info_nce, max_info_nce

best_cell_info_nce = partial(max_info_nce, max_over="cells")

TEMPERATURE = 0.3


def _cosine(x: np.ndarray, y: np.ndarray) -> float:
    dot = sum(float(a) * float(b) for a, b in zip(x, y, strict=True))
    return dot / math.sqrt(sum(float(a) ** 2 for a in x) * sum(float(b) ** 2 for b in y))


def _loop_reference(cells: np.ndarray, audio: np.ndarray, temperature: float) -> float:
    """Loops over clips, cells and directions in float64, as the papers' sums are written.

    ``cells`` is (N, D, C); one cell a clip is the pooled loss.
    """
    num_clips = len(audio)
    score = [
        [max(_cosine(cells[i, :, c], audio[j]) for c in range(cells.shape[2])) for j in range(num_clips)]
        for i in range(num_clips)
    ]
    loss = 0.0
    for i in range(num_clips):
        positive = score[i][i] / temperature
        v2a = math.log(sum(math.exp(score[i][j] / temperature) for j in range(num_clips))) - positive
        a2v = math.log(sum(math.exp(score[j][i] / temperature) for j in range(num_clips))) - positive
        loss += (v2a + a2v) / 2
    return loss / num_clips


def _finite_differences(loss: Callable[[], float], x: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences of ``loss`` over every element of ``x``, which it reads."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        value = x[place]
        x[place] = value + step
        above = loss()
        x[place] = value - step
        gradient[place] = (above - loss()) / (2 * step)
        x[place] = value
    return gradient


def _pair(seed: int, num_clips: int = 4, num_features: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video, audio = torch.randn(2, num_clips, num_features, generator=generator)
    return video * 5, audio / 3


def _map_pair(seed: int, num_clips: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_clips, 3, 2, 2, 1, generator=generator), torch.randn(num_clips, 3, generator=generator)


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


@pytest.mark.parametrize("num_clips", [1, 2, 5])
def test_info_nce_matches_loop_reference(num_clips: int) -> None:
    video, audio = _pair(0, num_clips)
    expected = _loop_reference(video.double().numpy()[:, :, None], audio.double().numpy(), TEMPERATURE)
    loss = info_nce(video, audio, TEMPERATURE)
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("num_clips", [1, 2, 5])
def test_max_info_nce_matches_loop_reference(num_clips: int) -> None:
    video_map, audio = _map_pair(1, num_clips)
    expected = _loop_reference(video_map.flatten(2).double().numpy(), audio.double().numpy(), TEMPERATURE)
    assert best_cell_info_nce(video_map, audio, TEMPERATURE).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_info_nce_gradient_matches_finite_differences_of_the_reference() -> None:
    video, audio = (x.requires_grad_() for x in _pair(2))
    info_nce(video, audio, TEMPERATURE).backward()
    v, a = video.detach().double().numpy()[:, :, None].copy(), audio.detach().double().numpy().copy()
    expected_video = _finite_differences(lambda: _loop_reference(v, a, TEMPERATURE), v)[:, :, 0]
    expected_audio = _finite_differences(lambda: _loop_reference(v, a, TEMPERATURE), a)
    np.testing.assert_allclose(video.grad, expected_video, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(audio.grad, expected_audio, rtol=1e-4, atol=1e-6)


def test_max_info_nce_gradient_matches_finite_differences_of_the_reference() -> None:
    video_map, audio = (x.requires_grad_() for x in _map_pair(3))
    best_cell_info_nce(video_map, audio, TEMPERATURE).backward()
    v, a = video_map.detach().flatten(2).double().numpy().copy(), audio.detach().double().numpy().copy()
    expected_map = _finite_differences(lambda: _loop_reference(v, a, TEMPERATURE), v)
    expected_audio = _finite_differences(lambda: _loop_reference(v, a, TEMPERATURE), a)
    np.testing.assert_allclose(video_map.grad.flatten(2), expected_map, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(audio.grad, expected_audio, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.01, 0.07, 2.0])
@pytest.mark.parametrize("num_clips", [1, 2, 64])
def test_info_nce_is_log_n_when_embeddings_coincide(num_clips: int, temperature: float) -> None:
    same = torch.tensor([[3.0, -4.0]]).expand(num_clips, 2)
    assert info_nce(same, same, temperature).item() == pytest.approx(math.log(num_clips), abs=1e-6)
    same_map = same[:, :, None, None, None].expand(-1, -1, 2, 3, 3)
    assert best_cell_info_nce(same_map, same, temperature).item() == pytest.approx(math.log(num_clips), abs=1e-6)


def test_info_nce_of_orthogonal_pairs_has_a_closed_form() -> None:
    # Positives at cosine 1, the other 7 at 0: log(e^(1/T) + 7) - 1/T.
    expected = math.log(math.exp(1 / TEMPERATURE) + 7) - 1 / TEMPERATURE
    assert info_nce(torch.eye(8), torch.eye(8), TEMPERATURE).item() == pytest.approx(expected, rel=1e-5)


def test_max_info_nce_finds_the_one_cell_that_matches() -> None:
    # Clip i's sound is in cell i only; all other cells are orthogonal to every sound.
    video_map = torch.zeros(8, 9, 2, 2, 2)
    video_map[:, 8] = 1
    for i in range(8):
        video_map.flatten(2)[i, :, i] = torch.eye(9)[i]
    expected = math.log(math.exp(1 / TEMPERATURE) + 7) - 1 / TEMPERATURE
    video_map.requires_grad_()
    loss = best_cell_info_nce(video_map, torch.eye(9)[:8], TEMPERATURE)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_max_info_nce_of_one_cell_is_info_nce() -> None:
    video, audio = _pair(4, 7)
    one_cell = best_cell_info_nce(video[:, :, None, None, None], audio, TEMPERATURE)
    torch.testing.assert_close(one_cell, info_nce(video, audio, TEMPERATURE))


def test_max_info_nce_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    video_map, audio = _map_pair(5, 5)
    whole = best_cell_info_nce(video_map, audio, TEMPERATURE)
    monkeypatch.setattr("avssl.objectives.scores._MAX_CHUNK_ELEMENTS", 2 * 4 * 5)
    assert torch.equal(best_cell_info_nce(video_map, audio, TEMPERATURE), whole)
    monkeypatch.setattr("avssl.objectives.scores._MAX_CHUNK_ELEMENTS", 1)
    assert torch.equal(best_cell_info_nce(video_map, audio, TEMPERATURE), whole)


def test_max_info_nce_does_not_depend_on_memory_layout() -> None:
    video_map, audio = _map_pair(6)
    channels_last = video_map.to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(best_cell_info_nce(channels_last, audio, 0.1), best_cell_info_nce(video_map, audio, 0.1))


@pytest.mark.parametrize(("loss", "pair"), [(info_nce, _pair), (best_cell_info_nce, _map_pair)])
def test_losses_ignore_embedding_scale(loss: Callable[..., Tensor], pair: Callable[..., Any]) -> None:
    video, audio = pair(7)
    scale = torch.tensor([0.01, 1.0, 30.0, 1e4])
    scaled_video = video * scale.reshape(-1, *[1] * (video.ndim - 1))
    torch.testing.assert_close(loss(scaled_video, audio * scale.flip(0)[:, None], 0.1), loss(video, audio, 0.1))


@pytest.mark.parametrize(("loss", "pair"), [(info_nce, _pair), (best_cell_info_nce, _map_pair)])
def test_losses_ignore_the_order_of_clips(loss: Callable[..., Tensor], pair: Callable[..., Any]) -> None:
    video, audio = pair(8)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(loss(video[order], audio[order], 0.1), loss(video, audio, 0.1))
    assert not torch.allclose(loss(video[order], audio, 0.1), loss(video, audio, 0.1))


def test_info_nce_is_symmetric_in_the_modalities() -> None:
    video, audio = _pair(9)
    torch.testing.assert_close(info_nce(video, audio, 0.1), info_nce(audio, video, 0.1))


@pytest.mark.parametrize(("loss", "pair"), [(info_nce, _pair), (best_cell_info_nce, _map_pair)])
def test_losses_stay_in_float32_under_autocast(loss: Callable[..., Tensor], pair: Callable[..., Any]) -> None:
    video, audio = pair(10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(video, audio, 0.02)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(video, audio, 0.02))


@pytest.mark.parametrize(("loss", "pair"), [(info_nce, _pair), (best_cell_info_nce, _map_pair)])
def test_losses_take_bfloat16_embeddings(loss: Callable[..., Tensor], pair: Callable[..., Any]) -> None:
    video, audio = (x.bfloat16().requires_grad_() for x in pair(11))
    value = loss(video, audio, 0.1)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(video.detach().float(), audio.detach().float(), 0.1))
    value.backward()
    assert video.grad.dtype == torch.bfloat16
    assert video.grad.abs().sum() > 0


def test_max_info_nce_gradient_is_the_same_bits_every_time() -> None:
    generator = torch.Generator().manual_seed(0)
    video_map = torch.randn(16, 32, 4, 7, 7, generator=generator, requires_grad=True)
    audio = torch.randn(16, 32, generator=generator)
    gradients = [torch.autograd.grad(best_cell_info_nce(video_map, audio, 0.1), video_map)[0] for _ in range(5)]
    assert all(torch.equal(gradient, gradients[0]) for gradient in gradients[1:])


@pytest.mark.parametrize(
    ("video_shape", "audio_shape"),
    [((7, 4), (8, 4)), ((8, 4), (8, 5)), ((8,), (8,)), ((2, 4, 3), (2, 4, 3)), ((0, 4),) * 2],
)
def test_info_nce_rejects_mismatched_batches(video_shape: tuple[int, ...], audio_shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=rf"same clips in the same order.*{video_shape[0]}.* and audio \({audio_shape[0]}"
    ):
        info_nce(torch.ones(video_shape), torch.ones(audio_shape), 0.1)


@pytest.mark.parametrize(
    ("map_shape", "audio_shape"),
    [
        ((7, 4, 1, 2, 2), (8, 4)),
        ((8, 4, 1, 2, 2), (8, 5)),
        ((8, 4, 2, 2), (8, 4)),
        ((8, 4, 1, 2, 2), (8, 4, 1)),
        ((2, 3, 0, 1, 1), (2, 3)),
    ],
)
def test_max_info_nce_rejects_mismatched_batches(map_shape: tuple[int, ...], audio_shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=rf"same clips in the same order.*video_map \({map_shape[0]}, .* and audio"):
        best_cell_info_nce(torch.ones(map_shape), torch.ones(audio_shape), 0.1)


@pytest.mark.parametrize("temperature", [0.0, -0.07, math.nan])
def test_losses_reject_a_temperature_not_above_0(temperature: float) -> None:
    video, audio = _pair(12)
    with pytest.raises(ValueError, match=r"temperature \(.*\) must be above 0"):
        info_nce(video, audio, temperature)
    with pytest.raises(ValueError, match=r"temperature \(.*\) must be above 0"):
        best_cell_info_nce(video[:, :, None, None, None], audio, temperature)
    with pytest.raises(ValueError, match=r"temperature \(.*\) must be >= 1e-06"):
        InfoNCE(temperature=temperature, pooling="pooled")


def test_objective_pools_as_it_is_told() -> None:
    video_map, audio = _map_pair(13)
    online = Embeddings(video_map.mean((2, 3, 4)), audio, video_map=video_map)
    losses = {p: InfoNCE(0.1, p, max_over="cells")(online, None, _index(4)).total for p in ("pooled", "max", "both")}
    torch.testing.assert_close(losses["pooled"], info_nce(online.video, audio, 0.1))
    torch.testing.assert_close(losses["max"], best_cell_info_nce(video_map, audio, 0.1))
    torch.testing.assert_close(losses["both"], (losses["pooled"] + losses["max"]) / 2)
    assert [InfoNCE(pooling=p, max_over="cells").needs.maps for p in ("pooled", "max", "both")] == [False, True, True]


def test_objective_terms_of_a_batch_known_by_hand() -> None:
    # Cosines: rows are videos, columns sounds. v2a: rows 0 and 2 are right; a2v: column 2 alone is.
    cosines = torch.tensor([[0.5, 0.1, 0.0], [0.7, 0.6, 0.2], [0.1, 0.65, 0.7]])
    # A fourth direction, in which there is no sound, makes every video a unit vector.
    video = torch.cat([cosines, (1 - cosines.square().sum(1, keepdim=True)).sqrt()], dim=1)
    audio = torch.eye(4)[:3]
    result = InfoNCE(0.1, pooling="pooled")(Embeddings(video, audio), None, _index(3))
    assert result.total.item() == result.terms["loss"].item()
    assert result.terms["accuracy_v2a"].item() == pytest.approx(2 / 3)
    assert result.terms["accuracy_a2v"].item() == pytest.approx(1 / 3)
    assert result.terms["cosine_positive"].item() == pytest.approx((0.5 + 0.6 + 0.7) / 3)
    assert result.terms["cosine_negative"].item() == pytest.approx((0.1 + 0.0 + 0.7 + 0.2 + 0.1 + 0.65) / 6)


@pytest.mark.parametrize("pooling", ["pooled", "max", "both"])
def test_objective_terms_are_detached_scalars(pooling: Any) -> None:
    video_map, audio = _map_pair(14)
    online = Embeddings(video_map.mean((2, 3, 4)).requires_grad_(), audio, video_map=video_map.requires_grad_())
    result = InfoNCE(0.1, pooling, max_over="cells")(online, None, _index(4))
    assert result.total.requires_grad
    assert all(term.shape == () and not term.requires_grad for term in result.terms.values())
    names = {"loss", "accuracy_v2a", "accuracy_a2v", "cosine_positive", "cosine_negative"}
    assert set(result.terms) == names | ({"loss_pooled", "loss_max"} if pooling == "both" else set())


def test_objective_of_one_clip_is_0_and_finite() -> None:
    result = InfoNCE(pooling="pooled")(Embeddings(*_pair(15, num_clips=1)), None, _index(1))
    assert result.total.item() == 0
    assert result.terms["cosine_negative"].item() == 0


def test_objective_refuses_a_missing_map() -> None:
    with pytest.raises(ValueError, match=r'pooling="max" needs Embeddings\.video_map; call the model with needs_maps'):
        InfoNCE(pooling="max", max_over="cells")(Embeddings(*_pair(16)), None, _index(4))


def test_objective_refuses_two_views() -> None:
    with pytest.raises(ValueError, match="one view of each clip, got 4 embeddings of 2 clips"):
        InfoNCE(pooling="pooled")(Embeddings(*_pair(17)), None, _index(2))


def test_objective_refuses_an_unknown_pooling() -> None:
    with pytest.raises(ValueError, match=r'pooling \(\'mean\'\) must be one of "pooled", "max", "both"'):
        InfoNCE(pooling="mean", max_over="cells")  # type: ignore[arg-type]


def test_max_over_space_matches_loop_reference() -> None:
    video_map, audio = torch.randn(4, 5, 3, 2, 2), torch.randn(4, 5)
    scores = torch.zeros(4, 4)
    for i, j, t in itertools.product(range(4), range(4), range(3)):
        places = itertools.product(range(2), range(2))
        cells = [F.cosine_similarity(video_map[i, :, t, y, x], audio[j], dim=0) for y, x in places]
        scores[i, j] += max(cells) / 3
    own = torch.arange(4)
    expected = (F.cross_entropy(scores / 0.2, own) + F.cross_entropy(scores.T / 0.2, own)) / 2
    torch.testing.assert_close(max_info_nce(video_map, audio, 0.2, "space"), expected)
    one_frame = video_map[:, :, :1]
    torch.testing.assert_close(max_info_nce(one_frame, audio, 0.2, "space"), best_cell_info_nce(one_frame, audio, 0.2))


def test_max_over_space_trains_every_frame() -> None:
    video_map, audio = torch.randn(4, 5, 3, 2, 2, requires_grad=True), torch.randn(4, 5)
    max_info_nce(video_map, audio, 0.2, "space").backward()
    assert video_map.grad is not None
    assert (video_map.grad.abs().sum(dim=(1, 3, 4)) > 0).all()


def test_objective_refuses_an_unknown_max_over() -> None:
    with pytest.raises(ValueError, match=r'max_over \(\'time\'\) must be "cells" or "space"'):
        InfoNCE(max_over="time", pooling="pooled")  # type: ignore[arg-type]


def _online(seed: int, num_clips: int = 6, logit_scale: float | None = None) -> Embeddings:
    video, audio = _pair(seed, num_clips)
    scale = None if logit_scale is None else torch.tensor(logit_scale, requires_grad=True)
    return Embeddings(video.requires_grad_(), audio.requires_grad_(), logit_scale=scale)


@pytest.mark.parametrize("chunk_size", [1, 2, 4, 6, 100])
def test_chunked_function_equals_the_naive_one(chunk_size: int) -> None:
    gradients = []
    for chunk in (None, chunk_size):
        video, audio = (x.requires_grad_() for x in _pair(20, 6))
        loss = info_nce(video, audio, 0.1, chunk_size=chunk)
        assert loss.dtype == torch.float32
        gradients.append((loss.detach(), *torch.autograd.grad(2 * loss, (video, audio))))
    for got, expected in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_chunked_function_stays_in_float32_under_autocast() -> None:
    video, audio = _pair(21, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = info_nce(video, audio, 0.02, chunk_size=4)
    assert torch.equal(inside, info_nce(video, audio, 0.02, chunk_size=4))


def test_learned_temperature_equals_the_fixed_one_and_gets_its_gradient() -> None:
    online = _online(22, logit_scale=5.0)
    result = InfoNCE(0.5, learn_temperature=True, pooling="pooled")(online, None, _index(6))
    torch.testing.assert_close(result.total, info_nce(online.video, online.audio, 0.2))
    assert result.terms["temperature"].item() == pytest.approx(0.2)
    (gradient,) = torch.autograd.grad(result.total, online.logit_scale)
    above, below = (info_nce(online.video, online.audio, 1 / scale).item() for scale in (5.01, 4.99))
    assert gradient.item() == pytest.approx((above - below) / 0.02, rel=1e-2)
    assert InfoNCE(0.05, learn_temperature=True).needs.logit_scale == 20.0
    assert InfoNCE(0.05).needs.logit_scale is None


def test_learned_temperature_wants_a_model_that_learns_it() -> None:
    with pytest.raises(ValueError, match=r"needs Embeddings\.logit_scale: give the model logits=LogitScale"):
        InfoNCE(learn_temperature=True, pooling="pooled")(_online(23), None, _index(6))


def test_within_modal_adds_the_loss_between_two_views() -> None:
    online = _online(24, num_clips=8)
    objective = InfoNCE(0.1, within_modal=0.3, pooling="pooled")
    result = objective(online, None, _index(4))
    (v1, v2), (a1, a2) = online.video.chunk(2), online.audio.chunk(2)
    cross = (info_nce(v1, a1, 0.1) + info_nce(v2, a2, 0.1)) / 2
    within = (info_nce(v1, v2, 0.1) + info_nce(a1, a2, 0.1)) / 2
    torch.testing.assert_close(result.total, cross + 0.3 * within)
    torch.testing.assert_close(result.terms["loss_within"], within.detach())
    assert objective.needs.num_views == 2
    with pytest.raises(ValueError, match="takes 2 views of each clip, got 8 embeddings of 8 clips"):
        objective(online, None, _index(8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"chunk_size": 0}, r"chunk_size \(0\) must be >= 1"),
        ({"chunk_size": 4, "pooling": "max"}, r'chunk_size \(4\) needs pooling="pooled", not "max"'),
        ({"within_modal": -1.0}, r"within_modal \(-1.0\) must be >= 0"),
        ({"exclude_hardest": 1.0}, r"exclude_hardest \(1.0\) must be in \[0, 1\)"),
        ({"exclude_near_duplicates": 0.0}, r"exclude_near_duplicates \(0.0\) must be a cosine in"),
    ],
)
def test_objective_refuses_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InfoNCE(**{"pooling": "pooled"} | options)
