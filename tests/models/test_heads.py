import copy
import math

import pytest
import torch
import torch.nn.functional as F

from avssl.models import HEADS, create_head
from avssl.models.heads import LogitScale, PooledBatchNorm


@pytest.mark.parametrize(("name", "count"), [("mlp", 590_976), ("linear", 65_664), ("mlp_bn", 592_000)])
def test_parameter_count_at_the_published_sizes(name: str, count: int):
    assert sum(p.numel() for p in create_head(name, 512).parameters()) == count


def test_mlp_matches_functional_reference():
    head = create_head("mlp", 6, 4, hidden=5)
    w1, b1, w2, b2, w3, b3 = head.parameters()
    x = torch.randn(7, 6)
    expected = F.linear(F.relu(F.linear(F.relu(F.linear(x, w1, b1)), w2, b2)), w3, b3)
    assert torch.equal(head(x), expected)
    assert (expected < 0).any()  # no ReLU after the last layer


def test_mlp_bn_matches_functional_reference_over_all_leading_dimensions():
    head = create_head("mlp_bn", 6, 4, hidden=5)
    w1, g1, c1, w2, g2, c2, w3, b3 = head.parameters()
    x = torch.randn(2, 3, 5, 6)

    def normalized_relu(y: torch.Tensor, scale: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        variance, mean = torch.var_mean(y, dim=(0, 1, 2), correction=0)
        return F.relu((y - mean) / (variance + 1e-5).sqrt() * scale + shift)

    y = normalized_relu(x @ w1.T, g1, c1)
    y = normalized_relu(y @ w2.T, g2, c2)
    torch.testing.assert_close(head(x), y @ w3.T + b3, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", tuple(HEADS))
def test_head_on_a_map_is_the_head_on_each_cell(name: str):
    head = create_head(name, 6, 4).eval()
    cells = torch.randn(2, 3, 5, 7, 6)
    projected = head(cells)
    assert projected.shape == (2, 3, 5, 7, 4)
    for index in [(0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 3, 2)]:
        torch.testing.assert_close(projected[index], head(cells[index]))


@pytest.mark.parametrize("name", ["mlp", "mlp_bn"])
@pytest.mark.parametrize("depth", [0, 1, 2, 4])
def test_a_head_has_as_many_layers_as_it_is_told(name: str, depth: int):
    head = create_head(name, 6, 6, hidden=5, depth=depth).eval()
    x = torch.randn(7, 6)
    layers = head.forward_layers(x)
    assert list(layers) == [*(f"head.{number}" for number in range(1, depth)), "head"]
    assert torch.equal(layers["head"], head(x))
    assert head.depth == depth
    if depth == 0:
        assert torch.equal(head(x), x)
        assert list(head.parameters()) == []
    for number in range(1, depth):
        first = head.first_layers(number)
        assert (first.in_features, first.out_features, first.depth) == (6, 5, number)
        assert torch.equal(first(x), layers[f"head.{number}"])
        assert layers[f"head.{number}"].min() >= 0  # behind the ReLU
        assert next(first.parameters()) is next(head.parameters())
    assert torch.equal(head.first_layers(depth)(x), head(x))
    with pytest.raises(ValueError, match=f"the head has {depth} layers"):
        head.first_layers(depth + 1)


def test_depth_counts_linear_layers_and_0_needs_equal_sizes():
    torch.manual_seed(0)
    one = create_head("mlp", 6, 4, depth=1)
    torch.manual_seed(0)
    assert torch.equal(create_head("linear", 6, 4)[0].weight, one[0].weight)
    with pytest.raises(ValueError, match=r"out_features \(4\) must be 6"):
        create_head("mlp_bn", 6, 4, depth=0)


@pytest.mark.parametrize("name", tuple(HEADS))
def test_head_keeps_sizes_and_its_input(name: str):
    head = create_head(name, 6, 4)
    assert (head.in_features, head.out_features) == (6, 4)
    x = torch.randn(8, 6)
    untouched = x.clone()
    head(x)
    assert torch.equal(x, untouched)
    assert head.eval()(torch.empty(0, 3, 6)).shape == (0, 3, 4)


def test_channels_first_map_is_refused():
    with pytest.raises(ValueError, match=r"last dimension, which must have 6 features, got \(2, 6, 3, 3\).*movedim"):
        create_head("mlp", 6)(torch.zeros(2, 6, 3, 3))


def test_cells_go_through_what_pooled_vectors_go_through():
    head = create_head("mlp_bn", 6, 4, hidden=8).train()
    pooled, cells = torch.randn(16, 6), torch.randn(16, 2, 3, 6)
    twin = copy.deepcopy(head)
    embedding, projected = head.with_cells(
        pooled, torch.cat([pooled[:, None, None].expand(-1, 2, 1, -1), cells], dim=2)
    )
    torch.testing.assert_close(embedding, twin(pooled))
    torch.testing.assert_close(projected[:, 0, 0], embedding)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(head.state_dict()[name], value, msg=name)  # cells do not move the statistics
    embedding, projected = head.eval().with_cells(pooled, cells)
    torch.testing.assert_close(embedding, head(pooled))
    torch.testing.assert_close(projected, head(cells))


def test_gradient_of_pooled_batch_norm_is_that_of_batch_norm():
    ours, reference = PooledBatchNorm(5).double(), torch.nn.BatchNorm1d(5).double()
    x, y = (torch.arange(35.0, dtype=torch.float64).sin().view(7, 5).requires_grad_() for _ in range(2))
    weight = torch.arange(35.0, dtype=torch.float64).cos().view(7, 5)
    (ours.with_cells(x, 7) * weight).sum().backward()
    (reference(y) * weight).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=1e-4, atol=1e-6)  # statistics are float32
    torch.testing.assert_close(ours.weight.grad, reference.weight.grad, rtol=1e-4, atol=1e-6)


def test_logit_scale_starts_where_it_is_told_and_never_passes_100():
    logits = LogitScale(20.0, -3.0)
    scale, bias = logits()
    assert (scale.item(), bias.item()) == pytest.approx((20.0, -3.0))
    assert scale.shape == bias.shape == ()
    assert LogitScale(1.0)()[1] is None
    optimizer = torch.optim.SGD(logits.parameters(), lr=1.0)
    for _ in range(3):  # pushed up, it stays at 100 ...
        optimizer.zero_grad()
        (-logits()[0]).backward()
        optimizer.step()
        assert logits.eval()()[0].item() == pytest.approx(100.0)
        logits.train()
    optimizer.zero_grad()
    logits()[0].mul(0.01).backward()  # ... and the next push down is felt
    optimizer.step()
    assert logits()[0].item() == pytest.approx(100 / math.e, rel=1e-3)


@pytest.mark.parametrize("scale", [0.0, -1.0, 101.0])
def test_logit_scale_refuses_what_it_would_clamp(scale):
    with pytest.raises(ValueError, match=r"logit_scale \(.*\) must be in \(0, 100\]"):
        LogitScale(scale)
