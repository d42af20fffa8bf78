"""The sigmoid loss against loops, closed forms, finite differences and its own blocks."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import SigLIP, sigmoid_loss


def _pair(seed: int, num_clips: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video, audio = torch.randn(2, num_clips, 4, generator=generator)
    return video * 5, audio / 3


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def _dense(video: Tensor, audio: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Autograd through all pairs at once, in the dtype of the arguments."""
    logits = scale * F.normalize(video, dim=1) @ F.normalize(audio, dim=1).T + bias
    signs = 2 * torch.eye(len(video), dtype=logits.dtype) - 1
    return -F.logsigmoid(signs * logits).sum() / len(video)


@pytest.mark.parametrize("num_clips", [1, 2, 5])
def test_siglip_matches_loop_reference(num_clips: int) -> None:
    video, audio = _pair(0, num_clips)
    expected = 0.0
    for i in range(num_clips):
        for j in range(num_clips):
            z = 4 * F.cosine_similarity(video[i].double(), audio[j].double(), dim=0).item() - 2
            expected += math.log1p(math.exp(-z if i == j else z)) / num_clips
    assert sigmoid_loss(video, audio, 4.0, -2.0).item() == pytest.approx(expected, rel=1e-5)


def test_siglip_has_a_closed_form_when_embeddings_coincide() -> None:
    same = torch.tensor([[3.0, -4.0]]).expand(8, 2)
    expected = math.log1p(math.exp(-3)) + 7 * math.log1p(math.exp(3))  # every logit is 5 - 2
    assert sigmoid_loss(same, same, 5.0, -2.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 5, 9])
def test_siglip_gradient_equals_autograd_through_all_pairs(chunk_size: int | None) -> None:
    inputs = [*_pair(1), torch.tensor(6.0), torch.tensor(-1.0)]
    exact = [x.double().requires_grad_() for x in inputs]
    expected = torch.autograd.grad(3 * _dense(*exact), exact)
    inputs = [x.requires_grad_() for x in inputs]
    loss = sigmoid_loss(*inputs, chunk_size=chunk_size)
    torch.testing.assert_close(loss.double(), _dense(*exact), rtol=1e-5, atol=1e-6)
    for got, want in zip(torch.autograd.grad(3 * loss, inputs), expected, strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)


def test_siglip_keeps_small_losses_of_sure_pairs() -> None:
    # softplus(12) - 12 would keep one digit of it in float32.
    assert sigmoid_loss(torch.ones(1, 3), torch.ones(1, 3), 12.0, 0.0).item() == pytest.approx(math.exp(-12), rel=1e-4)


def test_siglip_ignores_scale_and_order() -> None:
    video, audio = _pair(2)
    order = torch.tensor([3, 0, 4, 1, 2])
    loss = sigmoid_loss(video, audio, 10.0, -10.0)
    torch.testing.assert_close(sigmoid_loss(video * 7, audio / 9, 10.0, -10.0), loss)
    torch.testing.assert_close(sigmoid_loss(video[order], audio[order], 10.0, -10.0), loss)
    torch.testing.assert_close(sigmoid_loss(audio, video, 10.0, -10.0), loss)


def test_siglip_stays_in_float32_under_autocast() -> None:
    video, audio = _pair(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = sigmoid_loss(video, audio, 10.0, -10.0)
    assert torch.equal(inside, sigmoid_loss(video, audio, 10.0, -10.0))


def test_objective_uses_what_the_model_learns() -> None:
    video, audio = _pair(4)
    online = Embeddings(video, audio, logit_scale=torch.tensor(4.0), logit_bias=torch.tensor(-2.0))
    result = SigLIP()(online, None, _index(5))
    torch.testing.assert_close(result.total, sigmoid_loss(video, audio, 4.0, -2.0))
    scores = F.normalize(video, dim=1) @ F.normalize(audio, dim=1).T
    assert result.terms["accuracy_v2a"].item() == pytest.approx(
        (scores.argmax(dim=1) == torch.arange(5)).float().mean()
    )
    assert result.terms["cosine_positive"].item() == pytest.approx(scores.diag().mean().item(), rel=1e-4)
    negative = (scores.sum() - scores.trace()) / 20
    assert result.terms["cosine_negative"].item() == pytest.approx(negative.item(), rel=1e-4)
    assert result.terms["temperature"].item() == pytest.approx(0.25)
    assert all(term.shape == () and not term.requires_grad for term in result.terms.values())
    assert (SigLIP().needs.logit_scale, SigLIP().needs.logit_bias) == (10.0, -10.0)


def test_siglip_refuses_mismatched_input() -> None:
    video, audio = _pair(5)
    with pytest.raises(ValueError, match="same clips in the same order"):
        sigmoid_loss(video[:4], audio, 10.0, -10.0)
    with pytest.raises(ValueError, match=r"chunk_size \(0\) must be >= 1"):
        SigLIP(chunk_size=0)
    with pytest.raises(ValueError, match=r"give the model logits=LogitScale\(10, -10\)"):
        SigLIP()(Embeddings(video, audio), None, _index(5))
    with pytest.raises(ValueError, match="one view of each clip, got 5 embeddings of 4 clips"):
        SigLIP()(Embeddings(video, audio), None, _index(4))
