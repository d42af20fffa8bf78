import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avssl.models import CLASSIFIER_LOSSES, create_classifier_loss


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


TARGET = torch.tensor([0, 2, 1])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 3.0])])
def test_softmax_is_the_cross_entropy_of_torch(smoothing, weights):
    logits = normal(3, 3)
    expected = F.cross_entropy(logits, TARGET, weights, reduction="none", label_smoothing=smoothing)
    assert torch.equal(create_classifier_loss("softmax").per_clip(logits, TARGET, weights, smoothing), expected)


def test_label_smoothing_by_hand():
    logits = torch.tensor([[2.0, 0.0, 0.0]])
    log_p = [2 - math.log(math.exp(2) + 2), -math.log(math.exp(2) + 2), -math.log(math.exp(2) + 2)]
    expected = -(0.9 * log_p[0] + 0.1 * sum(log_p) / 3)
    found = create_classifier_loss("softmax").per_clip(logits, torch.tensor([0]), None, 0.1)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_logit_norm_has_logits_of_one_length():
    layer = create_classifier_loss("logit_norm", temperature=0.5).create_layer(4, 3)
    x = normal(5, 4)
    raw = x @ layer.weight.T + layer.bias
    torch.testing.assert_close(layer(x), raw / raw.norm(dim=1, keepdim=True) / 0.5)
    with torch.no_grad():  # logits (3, 4, 0) become (1.2, 1.6, 0)
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor([3.0, 4.0, 0.0]))
    torch.testing.assert_close(layer(x[:1])[0], torch.tensor([1.2, 1.6, 0.0]))
    assert layer(torch.zeros(1, 4)).isfinite().all()


def test_cosine_softmax_ignores_the_size_of_features_and_weights():
    layer = create_classifier_loss("cosine_softmax", temperature=0.1).create_layer(4, 3)
    x = normal(5, 4)
    assert layer.bias is None
    torch.testing.assert_close(layer(x), F.cosine_similarity(x[:, None], layer.weight[None], dim=2) / 0.1)
    before = layer(x)
    with torch.no_grad():
        layer.weight.mul_(7)
    torch.testing.assert_close(layer(3 * x), before)
    assert layer(layer.weight[1:2])[0, 1].item() == pytest.approx(10, rel=1e-5)


def test_sigmoid_is_the_sum_of_binary_losses():
    loss, logits = create_classifier_loss("sigmoid"), normal(3, 3)
    target = F.one_hot(TARGET, 3).float()
    expected = nn.BCEWithLogitsLoss(reduction="none")(logits, target).sum(dim=1)
    torch.testing.assert_close(loss.per_clip(logits, TARGET), expected)
    assert loss.per_clip(torch.zeros(1, 3), torch.tensor([0])).item() == pytest.approx(3 * math.log(2), rel=1e-6)
    smooth = nn.BCEWithLogitsLoss(reduction="none")(logits, 0.7 * target + 0.1).sum(dim=1)
    torch.testing.assert_close(loss.per_clip(logits, TARGET, label_smoothing=0.3), smooth)


def test_softmax_of_sigmoid_logits_is_their_probability_given_exactly_one_class():
    p = torch.tensor([0.9, 0.5, 0.2]).double()
    only = torch.stack([p[i] * torch.prod(1 - p[[j for j in range(3) if j != i]]) for i in range(3)])
    torch.testing.assert_close(torch.logit(p).softmax(dim=0), only / only.sum())


def test_squared_error_is_that_of_torch_and_weighs_the_target():
    logits = normal(3, 3)
    plain = create_classifier_loss("squared_error").per_clip(logits, TARGET)
    torch.testing.assert_close(plain, F.mse_loss(logits, F.one_hot(TARGET, 3).float(), reduction="none").mean(dim=1))
    # Kornblith et al.: 1 / 3 (9 (50 - 60)^2 + 2^2 + 1^2) = 905 / 3
    loss = create_classifier_loss("squared_error", target_size=60, target_weight=9)
    found = loss.per_clip(torch.tensor([[50.0, 2.0, -1.0]]), torch.tensor([0]))
    assert found.item() == pytest.approx(905 / 3, rel=1e-6)


@pytest.mark.parametrize("name", ["sigmoid", "squared_error"])
def test_class_weights_multiply_the_loss_of_a_clip(name):
    loss, logits, weights = create_classifier_loss(name), normal(3, 3), torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(
        loss.per_clip(logits, TARGET, weights), loss.per_clip(logits, TARGET) * torch.tensor([1.0, 3.0, 2.0])
    )


@pytest.mark.parametrize("name", CLASSIFIER_LOSSES)
def test_every_loss_learns_classes_that_can_be_told_apart(name):
    torch.manual_seed(0)
    loss = create_classifier_loss(name)
    layer = loss.create_layer(3, 3)
    x, target = torch.eye(3).repeat(4, 1) + 0.1 * normal(12, 3), torch.arange(3).repeat(4)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    first = loss.per_clip(layer(x), target).mean().item()
    for _ in range(60):
        value = loss.per_clip(layer(x), target).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    assert value.item() < 0.5 * first
    assert (layer(x).argmax(dim=1) == target).all()


def test_unknown_loss_lists_names():
    with pytest.raises(ValueError, match="softmax"):
        create_classifier_loss("hinge")
