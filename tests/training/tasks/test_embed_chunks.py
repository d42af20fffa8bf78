"""Embedding in chunks equals embedding all at once, on one rank and on two."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from avssl.models.chunking import in_chunks

SCRIPT = Path(__file__).with_name("chunk_ranks.py")
_spec = importlib.util.spec_from_file_location("chunk_ranks", SCRIPT)
script = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(script)


def assert_same_step(got, expected):
    torch.testing.assert_close(got["total"], expected["total"], rtol=1e-5, atol=1e-6)
    assert got["gradients"].keys() == expected["gradients"].keys()
    for name, gradient in expected["gradients"].items():
        torch.testing.assert_close(got["gradients"][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("pooling", ["pooled", "both"])
def test_value_and_gradient_equal_those_of_the_whole_batch(pooling):
    whole = script.step(script.create_task("eval", None, pooling), slice(None))
    assert len(whole["gradients"]) > 20
    for chunk_size in (1, 3, 10):
        assert_same_step(script.step(script.create_task("eval", chunk_size, pooling), slice(None)), whole)


def test_two_ranks_in_chunks_equal_one_process_without(torchrun, tmp_path):
    torchrun(SCRIPT, tmp_path)
    ranks = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in range(2)]
    whole = script.step(script.create_task("eval", None), slice(None))
    mean = (ranks[0]["total"] + ranks[1]["total"]) / 2
    for rank in ranks:
        assert_same_step({**rank, "total": mean}, whole)


@pytest.mark.parametrize("pooling", ["pooled", "both"])
def test_statistics_move_once_a_chunk_and_not_in_backward(pooling):
    chunked, by_hand = (script.create_task("train", size, pooling, negative_sounds=0) for size in (5, None))
    total = chunked(script.batch(slice(None))).total
    after_forward = {name: value.clone() for name, value in chunked.model.named_buffers()}
    total.backward()
    for rows in (slice(5), slice(5, None)):
        by_hand(script.batch(rows))
    expected = dict(by_hand.model.named_buffers())
    for name, value in chunked.model.named_buffers():
        assert torch.equal(value, after_forward[name]), name
        torch.testing.assert_close(value, expected[name], msg=name)
        if name.endswith("num_batches_tracked"):
            assert value == 2
    assert all(norm.momentum == 0.1 for norm in chunked.model.modules() if isinstance(norm, nn.BatchNorm3d))


def test_activations_of_one_chunk_are_alive_at_a_time():
    class Counting(nn.Module):
        """Counts the rows that are kept for backward."""

        def forward(self, x):
            return (x.exp().exp(),)

    kept = []
    x = torch.randn(12, 3, requires_grad=True)

    def pack(tensor):
        kept.append(tensor.shape[0])
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        (whole,) = Counting()(x)
        num_whole = sum(kept)
        kept.clear()
        model = Counting()
        (chunked,) = in_chunks(model, model, (x,), 4)
    assert torch.equal(chunked, whole)
    assert sum(kept) < num_whole


def test_dropout_draws_the_same_again_in_backward():
    torch.manual_seed(3)
    model = nn.Dropout(0.5)
    x = torch.ones(8, 16, requires_grad=True)
    (y,) = in_chunks(model, lambda rows: (model(rows) * rows,), (x,), 3)
    y.sum().backward()
    torch.testing.assert_close(x.grad, 2 * y.detach())  # d(m x²)/dx = 2 m x, and x is 1


def test_sizes_below_1_are_refused():
    with pytest.raises(ValueError, match=r"embed_chunk_size \(0\) must be at least 1"):
        script.create_task("eval", 0)
    with pytest.raises(ValueError, match=r"chunk_size \(0\) must be at least 1"):
        in_chunks(nn.Identity(), nn.Identity(), (torch.ones(2),), 0)
