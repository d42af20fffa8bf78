"""Frame-wise contrast against loops, closed forms and what must not change it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.objectives import FrameWise, create_objective


def _maps(seed: int = 0, num_clips: int = 3, num_steps: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video = torch.randn(num_clips, 4, num_steps, 2, 3, generator=generator)
    return video, torch.randn(num_clips, 4, num_steps, generator=generator)


def _loss(video: Tensor, audio: Tensor, **options: float | str) -> LossTerms:
    index = BatchIndex(*(torch.arange(len(video)) for _ in range(3)))
    online = Embeddings(video.mean((2, 3, 4)), audio.mean(2), video, audio)
    return create_objective("framewise", **options)(online, None, index)


@pytest.mark.parametrize("ignored_steps", [0, 1])
def test_loss_and_terms_match_loops_in_numpy(ignored_steps: int) -> None:
    video, audio = _maps()
    losses, hits = [], []
    for clip in range(3):
        v, a = video[clip].double().mean((2, 3)).T.numpy(), audio[clip].double().T.numpy()
        cosines = v @ a.T / np.linalg.norm(v, axis=1)[:, None] / np.linalg.norm(a, axis=1)
        for scores in (cosines, cosines.T):
            for t in range(5):
                others = [u for u in range(5) if u == t or abs(u - t) > ignored_steps]
                exps = np.exp(scores[t, others] / 0.2)
                losses.append(-math.log(np.exp(scores[t, t] / 0.2) / exps.sum()))
        hits += [cosines[t, t] >= max(cosines[t, u] for u in range(5) if abs(u - t) > ignored_steps) for t in range(5)]
    result = _loss(video, audio, temperature=0.2, ignored_steps=ignored_steps)
    assert result.total.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert result.terms["accuracy_v2a"].item() == pytest.approx(np.mean(hits))


@pytest.mark.parametrize("ignored_steps", [0, 1])
def test_moments_of_all_clips_match_loops_in_numpy(ignored_steps: int) -> None:
    video, audio = _maps()
    frames, sounds = (
        [x[clip, :, t] for clip in range(3) for t in range(5)] for x in (video.double().mean((3, 4)), audio.double())
    )
    near = [[s for s in range(15) if s // 5 == t // 5 and abs(s - t) <= 1] for t in range(15)]
    unit = [s / s.norm() for s in sounds]
    around = torch.stack([torch.stack([unit[s] for s in steps]).mean(0) for steps in near])
    cosines = torch.stack(frames).numpy() @ around.T.numpy()
    cosines /= np.linalg.norm(torch.stack(frames), axis=1)[:, None] * np.linalg.norm(around, axis=1)
    losses = []
    for scores in (cosines, cosines.T):
        for t in range(15):
            others = [s for s in range(15) if s == t or not (s // 5 == t // 5 and abs(s - t) <= ignored_steps)]
            losses.append(np.log(np.exp(scores[t, others] / 0.2).sum()) - scores[t, t] / 0.2)
    options = {"temperature": 0.2, "ignored_steps": ignored_steps, "negatives": "batch", "around_steps": 1}
    result = _loss(video, audio, **options)
    assert result.total.item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert result.terms["cosine_positive"].item() == pytest.approx(cosines.diagonal().mean(), abs=1e-6)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(_loss(video[order], audio[order], **options).total, result.total)
    same = torch.ones(2, 4, 5)
    assert _loss(same[..., None, None], same, negatives="batch").total.item() == pytest.approx(math.log(10))


def test_closed_forms_of_equal_and_of_orthogonal_moments() -> None:
    same = torch.ones(2, 4, 5)
    assert _loss(same[..., None, None], same).total.item() == pytest.approx(math.log(5))
    apart = torch.eye(4)[None].repeat(2, 1, 1)
    result = _loss(apart[..., None, None], apart, temperature=0.5)
    assert result.total.item() == pytest.approx(math.log(1 + 3 * math.exp(-2)))
    assert (result.terms["accuracy_v2a"], result.terms["cosine_positive"], result.terms["cosine_negative"]) == (1, 1, 0)


def test_neither_order_in_time_nor_scale_nor_other_clips_matter() -> None:
    video, audio = _maps()
    expected = _loss(video, audio).total
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(_loss(video[:, :, order], audio[:, :, order]).total, expected)
    torch.testing.assert_close(_loss(video * 3, audio / 7).total, expected)
    single = [_loss(video[i : i + 1], audio[i : i + 1]).total for i in range(3)]
    torch.testing.assert_close(torch.stack(single).mean(), expected)


def test_only_what_differs_in_time_gets_a_gradient() -> None:
    video, audio = (x.requires_grad_() for x in _maps())
    _loss(video, audio).total.backward()
    assert min(video.grad.abs().max(), audio.grad.abs().max()) > 1e-3
    still = torch.ones(3, 4, 5, 1, 1, requires_grad=True)
    _loss(still, audio.detach()[:, :, :1].expand(-1, -1, 5)).total.backward()
    assert still.grad.abs().max() < 1e-6


def test_wrong_numbers_of_steps_are_errors_that_say_what_to_set() -> None:
    video, audio = _maps()
    with pytest.raises(
        ValueError, match=r"video map has 5 steps in time and the audio map 4\. Set sampling\.num_frames"
    ):
        _loss(video, audio[:, :, :4])
    with pytest.raises(ValueError, match=r"ignored_steps=4\) needs clips of at least 6 steps in time, got 5"):
        _loss(video, audio, ignored_steps=4)
    with pytest.raises(ValueError, match=r"negatives \('file'\) must be \"clip\" or \"batch\""):
        _loss(video, audio, negatives="file")
    index = BatchIndex(*(torch.arange(3) for _ in range(3)))
    with pytest.raises(ValueError, match=r"needs Embeddings\.video_map and audio_map"):
        FrameWise()(Embeddings(video.mean((2, 3, 4)), audio.mean(2)), None, index)
