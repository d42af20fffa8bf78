import math

import numpy as np
import pytest
import torch

from avssl.evaluation.cka import MinibatchCKA, cka, correspondence, find_blocks


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def related(n=12, seed=0):
    """Two representations with something in common: (n, 5) and (n, 3)."""
    x = normal(n, 5, seed=seed)
    return x, x[:, :3] + 0.7 * normal(n, 3, seed=seed + 100)


def gram_by_loop(x, kernel, fraction=0.8):
    """Kernel values pair by pair, in plain Python."""
    rows, n = x.tolist(), len(x)
    distance = [[math.dist(rows[i], rows[j]) for j in range(n)] for i in range(n)]
    width = fraction * float(np.median([distance[i][j] for i in range(n) for j in range(i)]))
    if kernel == "linear":
        return [[sum(a * b for a, b in zip(rows[i], rows[j], strict=True)) for j in range(n)] for i in range(n)]
    return [[math.exp(-(distance[i][j] ** 2) / (2 * width**2)) for j in range(n)] for i in range(n)]


def hsic_by_definition(k, m):
    """tr(K H L H) / (n - 1)^2, with the centring matrix written out."""
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    return float(np.trace(np.array(k) @ h @ np.array(m) @ h)) / (n - 1) ** 2


def hsic1_by_definition(k, m):
    """Song et al., 2012, eq. 5, in sums over indices."""
    n = len(k)
    k, m = ([[0 if i == j else a[i][j] for j in range(n)] for i in range(n)] for a in (k, m))
    trace = sum(k[i][j] * m[j][i] for i in range(n) for j in range(n))
    sums = sum(map(sum, k)) * sum(map(sum, m)) / ((n - 1) * (n - 2))
    chain = sum(k[i][j] * m[j][o] for i in range(n) for j in range(n) for o in range(n))
    return (trace + sums - 2 / (n - 2) * chain) / (n * (n - 3))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize(("unbiased", "hsic"), [(False, hsic_by_definition), (True, hsic1_by_definition)])
def test_cka_matches_its_definition(kernel, unbiased, hsic):
    x, y = related()
    k, m = gram_by_loop(x, kernel), gram_by_loop(y, kernel)
    expected = hsic(k, m) / math.sqrt(hsic(k, k) * hsic(m, m))
    assert 0.05 < expected < 0.95
    assert cka(x, y, kernel=kernel, unbiased=unbiased) == pytest.approx(expected, abs=1e-10)


def test_linear_cka_is_the_papers_formula_on_features():
    x, y = (value - value.mean(0) for value in related())
    expected = (y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm())
    assert cka(x, y) == pytest.approx(float(expected), abs=1e-10)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_minibatch_cka_matches_the_loop_over_batches_of_different_size(kernel):
    batches = [related(8, seed=1), related(12, seed=2), related(5, seed=3)]
    found = MinibatchCKA([kernel], rbf_fraction=0.5)
    for x, y in batches:
        found.update({"x": x, "y": y})

    def width(values):  # the first batch's, for all batches
        rows = values.tolist()
        return 0.5 * float(np.median([math.dist(rows[i], rows[j]) for i in range(len(rows)) for j in range(i)]))

    def average(a, b):
        total = 0.0
        for batch in batches:
            grams = []
            for side in (a, b):
                values = batch[side]
                # A fraction that makes this batch's own bandwidth the first batch's.
                grams.append(gram_by_loop(values, kernel, 0.5 * width(batches[0][side]) / width(values)))
            total += len(batch[0]) * hsic1_by_definition(*grams)
        return total / sum(len(batch[0]) for batch in batches)

    expected = average(0, 1) / math.sqrt(average(0, 0) * average(1, 1))
    assert found.matrix(kernel)[0, 1] == pytest.approx(expected, abs=1e-10)
    assert (found.num_clips, found.num_batches, found.names) == (25, 3, ("x", "y"))


def test_one_batch_is_the_unbiased_cka_of_all_pairs():
    features = {"a": normal(20, 7), "b": normal(20, 3, seed=1), "c": related(20)[1]}
    found = MinibatchCKA()
    found.update(features)
    for kernel in ("linear", "rbf"):
        matrix = found.matrix(kernel)
        np.testing.assert_allclose(np.diag(matrix), 1, rtol=1e-12)
        for i, x in enumerate(features.values()):
            for j, y in enumerate(features.values()):
                assert matrix[i, j] == pytest.approx(cka(x, y, kernel=kernel, unbiased=True), abs=1e-12)


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("unbiased", [False, True])
def test_cka_ignores_rotation_scale_and_shift_but_not_a_linear_map(kernel, unbiased):
    x, y = related(16)
    rotation = torch.linalg.qr(normal(5, 5, seed=9))[0]
    options = {"kernel": kernel, "unbiased": unbiased}
    plain = cka(x, y, **options)
    assert cka(x, x @ rotation, **options) == pytest.approx(1, abs=1e-9)
    assert cka(37 * x @ rotation + 5, 1e-3 * y - 2, **options) == pytest.approx(plain, abs=1e-9)
    assert cka(x * torch.tensor([1.0, 1, 1, 1, 30]), y, **options) != pytest.approx(plain, abs=0.05)


def test_unrelated_features_look_alike_to_the_biased_estimate_alone():
    """More features than clips: why the unbiased one is taken."""
    x, y = normal(32, 256), normal(32, 256, seed=1)
    assert cka(x, y) > 0.8
    assert abs(cka(x, y, unbiased=True)) < 0.1
    assert cka(x, y, kernel="rbf") > 0.8
    found = MinibatchCKA()
    for seed in range(20):
        found.update({"x": normal(32, 256, seed=2 * seed), "y": normal(32, 256, seed=2 * seed + 1)})
    for kernel in ("linear", "rbf"):
        assert abs(found.matrix(kernel)[0, 1]) < 0.02


def test_small_batches_estimate_what_a_large_one_gives():
    x, y = related(2048)
    whole, small = MinibatchCKA(["linear"]), MinibatchCKA(["linear"])
    whole.update({"x": x, "y": y})
    for rows in torch.arange(2048).split(16):
        small.update({"x": x[rows], "y": y[rows]})
    assert small.matrix("linear")[0, 1] == pytest.approx(whole.matrix("linear")[0, 1], abs=0.02)
    biased_small = np.mean([cka(x[rows], y[rows]) for rows in torch.arange(2048).split(16)])
    assert biased_small > whole.matrix("linear")[0, 1] + 0.05


@pytest.mark.parametrize("value", [0.1, 3e4])
def test_constant_representation_has_no_cka(value):
    constant = torch.full((8, 3), value) * (1 + 1e-7 * normal(8, 3)).float()  # rounding is no variation
    found = MinibatchCKA()
    found.update({"x": normal(8, 3), "constant": constant})
    for kernel in ("linear", "rbf"):
        matrix = found.matrix(kernel)
        assert np.isnan(matrix[1]).all()
        assert np.isnan(matrix[0, 1])
        assert matrix[0, 0] == pytest.approx(1)


def test_most_clips_alike_leave_rbf_its_limit():
    """Bandwidth 0: clips are equal or not."""
    x = torch.zeros(8, 2)
    x[6], x[7] = 1, 2
    groups = torch.tensor([0.0] * 6 + [5, -70])[:, None] * torch.ones(1, 3)
    assert cka(x, groups, kernel="rbf") == pytest.approx(1)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (normal(3, 2), normal(3, 2), "at least 4 clips, x holds 3"),
        (normal(5, 2), normal(6, 2), "y holds 6 clips beside 5"),
        (normal(5, 2), normal(5, 2).masked_fill(torch.eye(5, 2) > 0, math.nan), "y holds NaN or infinity in 2 of 5"),
        (normal(5, 2, 2), normal(5, 2), r"x must be \(clips, features\) floats, got \(5, 2, 2\)"),
        (normal(5, 2).long(), normal(5, 2), r"x must be \(clips, features\) floats.*int64"),
    ],
)
def test_cka_refuses(x, y, message):
    with pytest.raises(ValueError, match=message):
        cka(x, y)
    with pytest.raises(ValueError, match=message):
        MinibatchCKA().update({"x": x, "y": y})


def test_minibatch_cka_refuses():
    with pytest.raises(ValueError, match=r"kernel .'cubic'. must be one of linear, rbf"):
        MinibatchCKA(["cubic"])
    with pytest.raises(ValueError, match=r"rbf_fraction .0. must be a finite number greater than 0"):
        MinibatchCKA(rbf_fraction=0)
    with pytest.raises(ValueError, match=r"rbf_fraction .-1. must be a finite number greater than 0"):
        cka(normal(5, 2), normal(5, 2), kernel="rbf", rbf_fraction=-1)
    with pytest.raises(ValueError, match=r"rbf_fraction .inf. must be a finite number"):
        MinibatchCKA(rbf_fraction=float("inf"))
    found = MinibatchCKA(["linear"])
    with pytest.raises(ValueError, match="nothing was measured"):
        found.matrix("linear")
    found.update({"x": normal(5, 2)})
    with pytest.raises(ValueError, match=r"representations \['x'\], got \['y'\]"):
        found.update({"y": normal(5, 2)})
    with pytest.raises(ValueError, match="measured: \\['linear'\\]"):
        found.matrix("rbf")


def test_correspondence_counts_the_diagonal():
    assert correspondence(np.array([[0.9, 0.1, 0.2], [0.3, 0.8, 0.2], [0.1, 0.6, 0.5]])) == pytest.approx(2 / 3)
    assert correspondence(np.full((4, 4), 0.5)) == 0.25  # a model that tells nothing apart scores chance
    assert correspondence(np.array([[0.9, 0.1], [np.nan, 0.8]])) == 0.5
    with pytest.raises(ValueError, match="stages of one architecture"):
        correspondence(np.zeros((2, 3)))


def test_blocks_are_the_longest_runs_of_stages_that_are_all_alike():
    similarity = np.eye(7)
    similarity[1:5, 1:5] = 0.95
    similarity[4:7, 4:7] = 0.92
    np.fill_diagonal(similarity, 1)
    similarity[0, 1] = similarity[1, 0] = 0.99  # a run of two
    assert find_blocks(similarity, 0.9) == [(1, 5), (4, 7)]
    assert find_blocks(similarity, 0.94) == [(1, 5)]
    assert find_blocks(similarity, 0.9, min_stages=4) == [(1, 5)]
    assert find_blocks(similarity, 0.96) == []
    chain = np.eye(4) + 0.95 * (np.abs(np.subtract.outer(range(4), range(4))) == 1)
    assert find_blocks(chain, 0.9) == []  # neighbors alone are alike
    assert find_blocks(np.full((3, 3), np.nan), 0.5) == []
