import numpy as np
import pytest
import torch
from sklearn.cross_decomposition import CCA

from avssl.evaluation.svcca import cca, main_directions, svcca, svcca_matrix


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(n=200):
    """Two representations that share two of their directions, with noise: (n, 4) and (n, 3)."""
    common = normal(n, 2)
    x = torch.cat([common, normal(n, 2, seed=1)], dim=1) @ normal(4, 4, seed=2)
    y = torch.cat([common + 0.5 * normal(n, 2, seed=3), normal(n, 1, seed=4)], dim=1) @ normal(3, 3, seed=5)
    return x, y


def test_cca_matches_scikit_learn():
    x, y = related()
    found = cca(x, y)
    model = CCA(n_components=3, scale=False, max_iter=5000, tol=1e-12)
    a, b = model.fit_transform(x.numpy(), y.numpy())
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(3)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert 0.8 < found[1] < found[0] < 1
    assert found[2] < 0.3


def test_cca_matches_its_definition_by_covariances():
    x, y = (value.numpy() - value.numpy().mean(0) for value in related())
    half = {name: np.linalg.inv(np.linalg.cholesky(value.T @ value)) for name, value in (("x", x), ("y", y))}
    expected = np.linalg.svd(half["x"] @ (x.T @ y) @ half["y"].T, compute_uv=False)
    np.testing.assert_allclose(cca(*related()), expected, atol=1e-10)


def test_known_correlations():
    """Orthonormal directions a, b, c of zero mean: (a, b) and (a, c) share one of two, b and 3 b + 4 c by 0.6."""
    a, b, c = torch.linalg.qr(torch.cat([torch.ones(8, 1, dtype=torch.float64), normal(8, 3)], dim=1)).Q[:, 1:].T
    np.testing.assert_allclose(cca(torch.stack([a, b], 1), torch.stack([a, c], 1)), [1, 0], atol=1e-10)
    assert svcca(torch.stack([a, b], 1), torch.stack([a, c], 1)) == pytest.approx(0.5)
    assert svcca(b[:, None], (3 * b + 4 * c)[:, None]) == pytest.approx(0.6)
    # Of 10 a and b, the first has 100 / 101 = 0.9901 of the variance.
    loud = torch.stack([10 * a, b], 1)
    assert (main_directions(loud, 0.99).shape, main_directions(loud, 0.991).shape) == ((8, 1), (8, 2))
    assert svcca(loud, b[:, None], variance=0.99) == pytest.approx(0, abs=1e-10)
    assert svcca(loud, b[:, None], variance=1) == pytest.approx(1)


def test_svcca_ignores_rotation_scale_and_shift_and_cca_every_invertible_map():
    x, y = related()
    rotation = torch.linalg.qr(normal(4, 4, seed=9)).Q
    assert svcca(3 * x @ rotation + 7, y, variance=0.9) == pytest.approx(svcca(x, y, variance=0.9))
    stretched = x @ torch.diag(torch.tensor([1e-3, 1, 1, 1], dtype=torch.float64)) @ normal(4, 4, seed=8)
    np.testing.assert_allclose(cca(stretched, y), cca(x, y), atol=1e-8)
    assert abs(svcca(stretched, y, variance=0.9) - svcca(x, y, variance=0.9)) > 0.01


def test_constant_and_repeated_features_have_no_directions_of_their_own():
    x, y = related()
    twice = torch.cat([x, x[:, :1], torch.full_like(x[:, :1], 5)], dim=1).float()
    assert main_directions(twice, 1.0).shape == (200, 4)
    np.testing.assert_allclose(cca(twice, y), cca(x, y), atol=1e-5)
    assert np.isnan(svcca(torch.full((200, 3), 0.1), y))
    assert cca(torch.zeros(200, 2), y).shape == (0,)


def test_matrix_of_pairs_and_its_control():
    x, y = related()
    features = {"x": x, "y": y, "constant": torch.ones(200, 2), "wide": normal(200, 190, seed=6)}
    matrix, directions = svcca_matrix(features, variance=1.0)
    assert directions == [4, 3, 0, 190]
    assert matrix[0, 1] == pytest.approx(matrix[1, 0])
    assert matrix[0, 1] == pytest.approx(svcca(x, y, variance=1.0))
    assert matrix[0, 0] == pytest.approx(1)
    assert np.isnan(matrix[2]).all()
    assert np.isnan(matrix[3, 3])  # 380 directions of 200 clips
    order = np.random.default_rng(0).permutation(200)
    assert svcca_matrix({"x": x, "y": y}, order=order)[0][0, 1] < 0.2


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (normal(9, 4), normal(9, 5), "9 clips are too few for 4 and 5 directions"),
        (normal(9, 2), normal(8, 2), r"same clips, got \[8, 9\] rows"),
        (torch.full((9, 2), torch.nan), normal(9, 2), "finite floats"),
        (normal(9), normal(9), r"got \(9,\)"),
    ],
)
def test_wrong_input_raises(x, y, message):
    with pytest.raises(ValueError, match=message):
        cca(x, y)


def test_variance_is_a_share():
    with pytest.raises(ValueError, match=r"variance \(0\) must be in"):
        svcca(normal(9, 2), normal(9, 2), variance=0)
