import math

import pytest
import torch
from torch import nn

from avssl.engine import RateGroup, WarmupCosine, WarmupSteps, create_optimizer
from avssl.engine.optim import set_lr


def model():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_optimizer_decays_only_kernels(name):
    module = model()
    optimizer = create_optimizer(module, name, lr=0.1, weight_decay=0.3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {n: decay[id(p)] for n, p in module.named_parameters()} == {
        "0.weight": 0.3,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "3.weight": 0.3,
        "3.bias": 0.0,
    }


def test_optimizer_leaves_frozen_parameters_out():
    module = model()
    module[0].requires_grad_(False)
    held = sum(
        len(group["params"]) for group in create_optimizer(module, "adamw", lr=0.1, weight_decay=0.0).param_groups
    )
    assert held == 4
    with pytest.raises(ValueError, match="nothing to optimize"):
        create_optimizer(module.requires_grad_(False), "adamw", lr=0.1, weight_decay=0.0)


def test_optimizer_names_the_choices():
    with pytest.raises(ValueError, match="'lion'; there are adamw, adam, sgd"):
        create_optimizer(model(), "lion", lr=0.1, weight_decay=0.0)


def test_adam_adds_decay_to_the_gradient_and_adamw_does_not():
    def moved(name):
        weight = nn.Parameter(torch.full((1, 1), 2.0))
        optimizer = create_optimizer([weight], name, lr=0.1, weight_decay=0.5)
        weight.grad = torch.zeros(1, 1)
        optimizer.step()
        return weight.item()

    assert moved("adamw") == pytest.approx(2.0 * (1 - 0.1 * 0.5))
    assert moved("adam") == pytest.approx(2.0 - 0.1)  # the first Adam step is lr * sign(gradient)


def test_warmup_cosine_closed_form():
    schedule = WarmupCosine(peak=2.0, total_steps=110, warmup_steps=10, final=0.5)
    assert [schedule(s) for s in (0, 4, 9)] == pytest.approx([0.2, 1.0, 2.0])
    assert schedule(10) == 2.0
    assert schedule(60) == pytest.approx(1.25)
    assert schedule(35) == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 4)) / 2)
    assert schedule(110) == 0.5
    assert schedule(1000) == 0.5
    rates = [schedule(s) for s in range(110)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_warmup_cosine_may_be_all_warmup_or_constant():
    assert [WarmupCosine(1.0, total_steps=2, warmup_steps=2)(s) for s in range(3)] == [0.5, 1.0, 1.0]
    assert {WarmupCosine(0.3, total_steps=9, final=0.3)(s) for s in range(9)} == {0.3}


@pytest.mark.parametrize("options", [{"total_steps": 0}, {"total_steps": 5, "warmup_steps": 6}])
def test_warmup_cosine_out_of_range_raises(options):
    with pytest.raises(ValueError, match="warmup_steps"):
        WarmupCosine(1.0, **options)


def test_set_lr_reaches_every_group():
    optimizer = create_optimizer(model(), "adamw", lr=0.1, weight_decay=0.0)
    set_lr(optimizer, 0.7)
    assert [group["lr"] for group in optimizer.param_groups] == [0.7, 0.7]


def test_rate_groups_scale_the_rate_from_their_first_step():
    module = model()
    groups = [RateGroup(list(module[0].parameters()), 0.5, from_step=3), RateGroup(list(module[3].parameters()), 2.0)]
    optimizer = create_optimizer(groups, "sgd", lr=0.1, weight_decay=0.3)

    def rates(step):
        set_lr(optimizer, 0.4, step)
        found = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        return [found[id(p)] for p in (module[0].weight, module[0].bias, module[3].weight, module[3].bias)]

    assert rates(2) == pytest.approx([0.0, 0.0, 0.8, 0.8])
    assert rates(3) == pytest.approx([0.2, 0.2, 0.8, 0.8])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0, 0.3, 0.0]
    with pytest.raises(ValueError, match="nothing to optimize"):
        create_optimizer([RateGroup([])], "adamw", lr=0.1, weight_decay=0.0)


def test_rate_groups_are_part_of_the_optimizers_state():
    optimizer = create_optimizer(
        [RateGroup(list(model().parameters()), 0.5, from_step=3)], "adamw", lr=0.1, weight_decay=0.0
    )
    kept = [(group["lr_scale"], group["from_step"]) for group in optimizer.state_dict()["param_groups"]]
    assert kept == [(0.5, 3), (0.5, 3)]


def test_parameters_do_not_change_before_their_first_step():
    weight, head = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = create_optimizer(
        [RateGroup([weight], from_step=2), RateGroup([head])], "adam", lr=0.1, weight_decay=0.0
    )
    for step in range(3):
        weight.grad, head.grad = torch.ones(2, 2), torch.ones(2, 2)
        set_lr(optimizer, 0.1, step)
        optimizer.step()
        assert torch.equal(weight, torch.ones(2, 2)) == (step < 2)
        assert head[0, 0].item() == pytest.approx(1 - 0.1 * (step + 1))


def test_warmup_steps_closed_form():
    schedule = WarmupSteps(2.0, milestones=(6, 10, 14), factor=0.5, warmup_steps=4)
    assert [schedule(s) for s in range(5)] == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0])
    assert [schedule(s) for s in (5, 6, 9, 10, 13, 14, 99)] == pytest.approx([2.0, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25])
    assert {WarmupSteps(0.3, (), 0.5)(s) for s in range(9)} == {0.3}


@pytest.mark.parametrize(
    ("options", "message"),
    [({"milestones": (3, 2)}, "ascending"), ({"factor": 0.0}, "factor"), ({"warmup_steps": -1}, "warmup_steps")],
)
def test_warmup_steps_out_of_range_raises(options, message):
    with pytest.raises(ValueError, match=message):
        WarmupSteps(**{"peak": 1.0, "milestones": (), "factor": 0.5} | options)
