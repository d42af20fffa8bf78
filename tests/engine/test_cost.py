import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from avssl.engine import checkpoint_bytes, state_bytes, step_cost


def test_flops_of_a_linear_layer_are_three_products():
    """Forward, gradient of the weights; the input needs none. 2 * 8 * 5 * 3 operations each."""
    model = nn.Linear(5, 3, bias=False)
    cost = step_cost(model, lambda: model(torch.randn(8, 5)).sum())
    assert cost.flops == 2 * (2 * 8 * 5 * 3)
    x = torch.randn(8, 5, requires_grad=True)
    assert step_cost(model, lambda: model(x).sum()).flops == 3 * (2 * 8 * 5 * 3)
    assert model.weight.grad is None


def test_saved_memory_counts_each_activation_once_and_no_weights():
    model = nn.Sequential(nn.Linear(5, 64, bias=False), nn.ReLU(), nn.Linear(64, 3, bias=False))
    cost = step_cost(model, lambda: model(torch.randn(8, 5)).sum())
    # The input (8 x 5), and the ReLU's output (8 x 64), which the ReLU and the next layer both keep.
    assert cost.saved_bytes == 4 * (8 * 5 + 8 * 64)


def test_fake_tensors_cost_the_same():
    def cost():
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
        return step_cost(model, lambda: model(torch.zeros(2, 3, 8, 8)).sum())

    with FakeTensorMode():
        counted = cost()
    assert counted == cost()


@pytest.mark.parametrize(("optimizer", "copies"), [("adamw", 4), ("sgd", 3)])
def test_state_holds_weights_gradients_and_running_means(optimizer, copies):
    model = nn.Linear(10, 10, bias=False)
    assert state_bytes(model, optimizer) == 400 * copies
    assert state_bytes(model, optimizer, averaged=True) == 400 * (copies + 1)
    model.weight.requires_grad_(False)
    assert state_bytes(model, optimizer) == 400


def test_checkpoint_size_excludes_gradients():
    task = nn.ModuleDict({"model": nn.Linear(10, 10, bias=False), "objective": nn.Module()})
    task["objective"].register_buffer("memory", torch.zeros(50))
    assert checkpoint_bytes(task, "adamw") == 400 * 3 + 200
    assert checkpoint_bytes(task, "sgd", averaged=task["model"]) == 400 * 3 + 200
