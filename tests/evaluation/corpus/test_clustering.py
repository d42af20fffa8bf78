import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import cosine_similarity

from avssl.core.errors import InputError
from avssl.evaluation.corpus import find_centers, medoids, nearest_centers


@pytest.fixture(scope="module")
def blobs():
    draws = np.random.default_rng(0)
    truth = draws.integers(4, size=400)
    x = np.eye(6)[truth] + 0.1 * draws.normal(size=(400, 6))
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32), truth


def test_blobs_are_found_again(blobs):
    vectors, truth = blobs
    centers = find_centers(vectors, 4, seed=1)
    assert adjusted_rand_score(truth, nearest_centers(vectors, centers)[:, 0]) == 1
    assert (centers == find_centers(vectors, 4, seed=1)).all()
    # The three nearest in the order of their distances.
    distances = ((vectors[:, None] - centers) ** 2).sum(axis=2)
    assert (nearest_centers(vectors, centers, 3) == np.argsort(distances, axis=1)[:, :3]).all()


def test_more_centers_than_vectors_are_an_error(blobs):
    with pytest.raises(InputError, match=r"num_clusters \(401\) must lie in \[1, 400\]"):
        find_centers(blobs[0], 401)


def test_medoids_have_the_largest_mean_cosine(blobs):
    vectors, truth = blobs
    found = medoids(vectors, truth, 5, count=2, among=np.arange(400) != 7)
    for cluster in range(4):
        members = np.flatnonzero(truth == cluster)
        order = members[np.argsort(-cosine_similarity(vectors[members]).mean(axis=1))]
        assert found[cluster].tolist() == order[order != 7][:2].tolist()
    assert found[4].tolist() == []
