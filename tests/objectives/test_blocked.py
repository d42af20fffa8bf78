"""The blocked softmax on a larger batch: as near to float64 as the whole one, and never all pairs at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from avssl.objectives import InfoNCE, info_nce, sigmoid_loss


class _Largest(TorchDispatchMode):
    """Elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, tuple | list) else (result,):
            if isinstance(x, Tensor):
                self.num_elements = max(self.num_elements, x.numel())
        return result


def _pair(num_clips: int) -> tuple[Tensor, Tensor]:
    video, noise = torch.randn(2, num_clips, 16, generator=torch.Generator().manual_seed(0))
    return video.requires_grad_(), (video.detach() + noise).requires_grad_()


def test_error_is_that_of_float32() -> None:
    video, audio = _pair(700)

    def gradients(chunk_size: int | None) -> list[Tensor]:
        loss = info_nce(video, audio, 0.05, chunk_size=chunk_size)
        return [loss.detach(), *torch.autograd.grad(loss, (video, audio))]

    v, a = (x.detach().double().requires_grad_() for x in (video, audio))
    logits = torch.nn.functional.normalize(v, dim=1) @ torch.nn.functional.normalize(a, dim=1).T / 0.05
    exact = (2 * logits.diag() - logits.logsumexp(0) - logits.logsumexp(1)).mean() / -2
    expected = [exact.detach(), *torch.autograd.grad(exact, (v, a))]
    for whole, chunked, truth in zip(gradients(None), gradients(64), expected, strict=True):
        allowed = 2 * (whole - truth).abs().max() + 1e-6 * truth.abs().max()
        assert (chunked - truth).abs().max() <= allowed


def test_all_pairs_are_never_there_at_once() -> None:
    video, audio = _pair(512)
    for loss in (
        lambda: info_nce(video, audio, 0.1, chunk_size=32),
        lambda: sigmoid_loss(video, audio, 10.0, -10.0, chunk_size=32),
    ):
        with _Largest() as largest:
            loss().backward()
        assert largest.num_elements == 32 * 512
    with _Largest() as largest:
        info_nce(video, audio, 0.1).backward()
    assert largest.num_elements == 512 * 512


def test_without_gradient_the_value_is_the_same() -> None:
    video, audio = _pair(50)
    with torch.no_grad():
        value = info_nce(video, audio, 0.1, chunk_size=8)
    assert not value.requires_grad
    assert torch.equal(value, info_nce(video, audio, 0.1, chunk_size=8))
    assert "temperature=0.07" in repr(InfoNCE(chunk_size=8, pooling="pooled"))
