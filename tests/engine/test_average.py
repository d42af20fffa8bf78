import pytest
import torch
from torch import nn

from avssl.engine import WeightAverage


def one_weight(value=0.0):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def move(model, average, values):
    for value in values:
        nn.init.constant_(model.weight, value)
        average.update()


def test_average_follows_the_formula():
    model = one_weight(8.0)
    average = WeightAverage(model, 0.5)
    move(model, average, [1.0, 2.0, 3.0])
    expected = 8.0
    for step, value in enumerate([1.0, 2.0, 3.0], start=1):
        decay = min(0.5, step / (step + 9))
        expected = decay * expected + (1 - decay) * value
    with average.applied():
        assert model.weight.item() == pytest.approx(expected)


def test_initial_weights_are_forgotten_even_at_a_high_decay():
    model = one_weight(1000.0)
    average = WeightAverage(model, 0.9999)
    move(model, average, [1.0] * 50)
    with average.applied():
        assert model.weight.item() == pytest.approx(1, abs=1e-3)


def test_applied_restores_the_weights_bit_for_bit_even_after_an_error():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = WeightAverage(model, 0.9)
    model(torch.randn(8, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    averaged = {name: value.clone() for name, value in average.state_dict()["average"].items()}

    def look():
        with average.applied():
            assert torch.equal(model[1].running_mean, torch.zeros(4))  # as it was when the average began
            raise KeyError

    with pytest.raises(KeyError):
        look()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(torch.equal(value, averaged[name]) for name, value in average.state_dict()["average"].items())
    assert int(model[1].num_batches_tracked) == 1


def test_average_survives_a_round_trip_and_is_copied_to_the_model():
    model = one_weight()
    average = WeightAverage(model, 0.9)
    move(model, average, [1.0, 2.0])
    other = one_weight()
    again = WeightAverage(other, 0.9)
    again.load_state_dict(average.state_dict())
    move(model, average, [5.0])
    nn.init.constant_(other.weight, 5.0)
    again.update()
    average.copy_to_model()
    again.copy_to_model()
    assert model.weight.item() == other.weight.item() != 5


def test_decay_out_of_range_raises():
    with pytest.raises(ValueError, match=r"decay \(1\.0\) must be in \[0, 1\)"):
        WeightAverage(one_weight(), 1.0)
