import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from avssl.evaluation import knn_classifier


def clouds(count=200, classes=5, size=6, seed=0):
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, size))
    labels = generator.integers(classes, size=count)
    return centers[labels] + generator.normal(size=(count, size)), np.array([f"c{k}" for k in labels])


@pytest.mark.parametrize("k", [1, 5, 37])
@pytest.mark.parametrize("temperature", [None, 0.07, 1.0])
def test_knn_matches_scikit_learn(k, temperature):
    (train, known), (test, truth) = clouds(), clouds(60, seed=1)
    weights = "uniform" if temperature is None else lambda distance: np.exp((1 - distance) / temperature)
    reference = KNeighborsClassifier(k, weights=weights, metric="cosine", algorithm="brute").fit(train, known)
    expected = reference.predict(test)
    found = knn_classifier(train, known, test, truth, k=k, temperature=temperature)
    assert [found.classes[i] for i in found.predicted] == expected.tolist()
    assert found.accuracy == pytest.approx((expected == truth).mean())
    assert (found.n_train, found.n_test) == (200, 60)


def test_one_near_neighbor_outweighs_two_far_ones_at_a_low_temperature():
    train = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    query = np.array([[1.0, 0.5]])  # cosines 0.894 and 0.447
    labels = ["near", "far", "far"]
    majority, weighted = (
        knn_classifier(train, labels, query, ["near"], k=3, temperature=t).accuracy for t in (None, 0.07)
    )
    assert (majority, weighted) == (0.0, 1.0)
    # exp(0.447 / tau) = 2 at tau = 0.645: above it the two win
    assert knn_classifier(train, labels, query, ["near"], k=3, temperature=0.66).accuracy == 0.0
    assert knn_classifier(train, labels, query, ["near"], k=3, temperature=0.63).accuracy == 1.0


def test_knn_ignores_scale_and_survives_a_tiny_temperature():
    (train, known), (test, truth) = clouds(), clouds(60, seed=1)
    scaled = knn_classifier(train * np.linspace(1, 9, 200)[:, None], known, 1e4 * test, truth)
    np.testing.assert_array_equal(scaled.predicted, knn_classifier(train, known, test, truth).predicted)
    nearest = knn_classifier(train, known, test, truth, k=1)
    np.testing.assert_array_equal(
        knn_classifier(train, known, test, truth, k=9, temperature=1e-6).predicted, nearest.predicted
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": 4}, r"k \(4\) must be between 1 and the number of training clips, 3"),
        ({"k": 0}, r"k \(0\)"),
        ({"k": 1, "temperature": 0.0}, r"temperature \(0.0\) must be greater than 0"),
        ({"k": 1, "test_labels": ["c"]}, "test_labels hold 1 classes that are not in train_labels: c"),
        ({"k": 1, "train_labels": ["a", "", "b"]}, "train_labels are empty for 1 clips, first for clip 1"),
        ({"k": 1, "train_features": np.full((3, 2), np.nan)}, "train_features hold NaN or infinity in 3 of 3"),
        ({"k": 1, "test_features": np.ones((1, 3))}, "train_features have 2 columns but test_features 3"),
    ],
)
def test_bad_input_is_named(changes, message):
    given = {
        "train_features": np.eye(3, 2),
        "train_labels": ["a", "a", "b"],
        "test_features": np.ones((1, 2)),
        "test_labels": ["a"],
    }
    with pytest.raises(ValueError, match=message):
        knn_classifier(**(given | changes))
