import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from avssl.evaluation.corpus import nearest_neighbors


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def world():
    draws = np.random.default_rng(0)
    return unit(draws.normal(size=(300, 8))), draws.integers(60, size=300)


def exact(vectors, recordings, k):
    cosines = cosine_similarity(vectors)
    cosines[recordings[:, None] == recordings] = -np.inf
    return np.argsort(-cosines, axis=1)[:, :k]


@pytest.mark.parametrize(("num_lists", "num_probes"), [(None, 8), (6, 6)])
def test_all_lists_give_the_exact_neighbors(world, num_lists, num_probes):
    vectors, recordings = world
    found = nearest_neighbors(vectors, recordings, 5, num_lists=num_lists, num_probes=num_probes)
    assert (found.rows == exact(vectors, recordings, 5)).all()
    assert found.cosines == pytest.approx(np.einsum("nc,nkc->nk", vectors, vectors[found.rows]), abs=1e-5)


def test_few_lists_give_most_neighbors_and_the_same_each_time(world):
    vectors, recordings = world
    found = [nearest_neighbors(vectors, recordings, 5, num_lists=12, num_probes=4, seed=3).rows for _ in range(2)]
    truth = exact(vectors, recordings, 5)
    recall = np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found[0], truth, strict=True)])
    assert 0.6 < recall < 1
    assert (found[0] == found[1]).all()


def test_missing_neighbors_are_marked():
    vectors = unit(np.eye(3) + 0.1)
    seen = []
    found = nearest_neighbors(vectors, np.array([0, 0, 1]), 2, on_progress=seen.append)
    assert found.rows.tolist() == [[2, -1], [2, -1], [0, 1]]
    assert np.isneginf(found.cosines[:2, 1]).all()
    assert sum(seen) == 3
