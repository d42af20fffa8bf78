import numpy as np
import pytest
import torch

from avssl.transforms import Standardize, estimate_statistics


def make_batches() -> list[torch.Tensor]:
    """Batches of different sizes and lengths, with a mean far from 0 and a small spread."""
    generator = torch.Generator().manual_seed(5)
    shapes = [(3, 1, 20, 7), (1, 1, 4, 7), (8, 1, 31, 7)]
    scale = torch.linspace(0.01, 20, 7)
    return [torch.randn(shape, generator=generator) * scale - 60 + scale for shape in shapes]


def test_statistics_match_numpy() -> None:
    mean, std = estimate_statistics(iter(make_batches()))
    values = np.concatenate([b.double().numpy().reshape(-1, 7) for b in make_batches()])
    np.testing.assert_allclose(mean.numpy(), values.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(std.numpy(), values.std(axis=0), rtol=1e-6)
    assert mean.dtype == std.dtype == torch.float32


def test_standardize_follows_the_formula() -> None:
    standardize = Standardize(2)
    standardize.set_statistics(torch.tensor([-30.0, 5.0]), torch.tensor([20.0, 0.0]))
    output = standardize(torch.tensor([[[[-10.0, 5.0], [-30.0, 5.00001]]]]))
    expected = [[20 / (20 + 1e-5), 0.0], [0.0, 1.0]]
    torch.testing.assert_close(output, torch.tensor([[expected]]), atol=0.05, rtol=0)


def test_standardized_training_data_has_zero_mean_and_unit_variance() -> None:
    standardize = Standardize(7)
    standardize.set_statistics(*estimate_statistics(make_batches()))
    output = torch.cat([standardize(b).flatten(0, 2) for b in make_batches()])
    torch.testing.assert_close(output.mean(dim=0), torch.zeros(7), atol=1e-3, rtol=0)
    torch.testing.assert_close(output.std(dim=0, correction=0), torch.ones(7), atol=2e-3, rtol=0)


def test_forgotten_statistics_are_nan_and_refused() -> None:
    standardize = Standardize(7)
    assert torch.isnan(standardize.mean).all()
    assert torch.isnan(standardize.std).all()
    assert not standardize.is_ready
    with pytest.raises(RuntimeError, match="never estimated"):
        standardize(make_batches()[0])


def test_statistics_travel_with_the_weights() -> None:
    trained, fresh = Standardize(7), Standardize(7)
    trained.set_statistics(*estimate_statistics(make_batches()))
    fresh.load_state_dict(trained.state_dict())
    assert fresh.is_ready
    assert torch.equal(fresh(make_batches()[0]), trained(make_batches()[0]))
    fresh.load_state_dict(Standardize(7).state_dict())
    with pytest.raises(RuntimeError, match="never estimated"):
        fresh(make_batches()[0])


def test_statistics_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    standardize = Standardize(7)
    standardize.set_statistics(*estimate_statistics(make_batches()))
    standardize(make_batches()[0])
    monkeypatch.setattr(torch, "isfinite", lambda _: pytest.fail("the device was read again"))
    standardize(make_batches()[0])


def test_bad_statistics_are_refused() -> None:
    standardize = Standardize(3)
    with pytest.raises(ValueError, match=r"mean must be \(3,\), got \(4,\)"):
        standardize.set_statistics(torch.zeros(4), torch.ones(4))
    with pytest.raises(ValueError, match="std must be finite"):
        standardize.set_statistics(torch.zeros(3), torch.tensor([1.0, torch.nan, 1.0]))
    with pytest.raises(ValueError, match="not negative"):
        standardize.set_statistics(torch.zeros(3), torch.tensor([1.0, -1.0, 1.0]))


def test_bad_spectrograms_are_refused() -> None:
    with pytest.raises(ValueError, match="no batch"):
        estimate_statistics([])
    with pytest.raises(ValueError, match="same freq"):
        estimate_statistics([torch.zeros(1, 1, 2, 7), torch.zeros(1, 1, 2, 6)])
    with pytest.raises(ValueError, match="NaN"):
        estimate_statistics([torch.full((1, 1, 2, 7), torch.nan)])
