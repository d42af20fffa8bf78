import itertools

import numpy as np
import pytest
import torch

from avssl.evaluation import chance_average_precision, class_retrieval, label_retrieval
from avssl.evaluation.top_k import chance_of_hit, top_k


def direction(degrees):
    return [np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))]


def test_recall_by_hand():
    gallery = np.array([[direction(a)] for a in (0, 10, 30, 90)])
    labels = ["a", "b", "a", "b"]
    queries = np.array([[direction(a)] for a in (1, 8, 91)])
    found = label_retrieval(gallery, labels, queries, ["b", "b", "a"], ks=(1, 2, 3, 50))
    # 1 degree: a, b, a, b.  8 degrees: b first.  91 degrees: b, a, b, a.
    assert {k: hits.tolist() for k, hits in found.hits.items()} == {
        1: [0, 1, 0],
        2: [1, 1, 1],
        3: [1, 1, 1],
        50: [1, 1, 1],
    }
    assert found.recall[1] == pytest.approx(1 / 3)
    # In random order of 4, two of which are right: 1 - (2 choose k) / (4 choose k)
    assert found.chance == pytest.approx({1: 0.5, 2: 5 / 6, 3: 1.0, 50: 1.0})
    assert found.gallery_size == 4


def test_clips_are_scaled_before_they_are_averaged():
    # A loud clip must not decide: the mean direction of 0 and 90 degrees is 45, whatever their lengths.
    gallery = np.array([[direction(2), direction(2)], [direction(45), direction(45)]])
    query = np.array([[100 * np.array(direction(0)), direction(90)]])
    assert label_retrieval(gallery, ["x", "y"], query, ["y"], ks=(1,)).recall[1] == 1.0


def test_recall_matches_loops():
    generator = np.random.default_rng(0)
    gallery, queries = generator.normal(size=(40, 3, 6)), generator.normal(size=(25, 2, 6))
    labels, wanted = generator.integers(5, size=40), generator.integers(5, size=25)
    found = label_retrieval(gallery, labels, queries, wanted, ks=(1, 4))

    def vector(clips):
        return np.mean([clip / np.linalg.norm(clip) for clip in clips], axis=0)

    for k in (1, 4):
        for i, query in enumerate(queries):
            distances = [np.linalg.norm(vector(query) - vector(item)) for item in gallery]
            assert found.hits[k][i] == (wanted[i] in labels[np.argsort(distances)[:k]])


def test_collapsed_features_are_at_chance():
    labels = np.array(["a"] * 7 + ["b"] * 3)
    found = label_retrieval(np.ones((10, 1, 4)), labels, np.ones((2, 1, 4)), ["a", "b"], ks=(1, 2))
    assert found.recall == pytest.approx(found.chance)
    assert found.recall[1] == pytest.approx((0.7 + 0.3) / 2)


def test_ties_count_in_expectation_over_their_orders():
    scores, right = [2.0, 1.0, 1.0, 1.0, 0.0], [False, True, False, False, True]
    for k in range(1, 6):
        orders = list(itertools.permutations([1, 2, 3]))
        tops = [[0, *order, 4][:k] for order in orders]
        hit = np.mean([any(right[i] for i in top) for top in tops])
        precision = np.mean([np.mean([right[i] for i in top]) for top in tops])
        (found,) = top_k(torch.tensor([scores]).double(), torch.tensor([right]), [k])
        assert found.hit()[0] == pytest.approx(hit)
        assert found.precision()[0] == pytest.approx(precision)


def test_what_float32_cannot_tell_apart_is_a_tie():
    scores = torch.tensor([[0.5, 0.5 + 1e-9, 0.4]], dtype=torch.float64)
    (found,) = top_k(scores, torch.tensor([[False, True, False]]), [1])
    assert found.hit()[0] == pytest.approx(0.5)
    found = class_retrieval(np.array([[1, 0], [0, 1.0]]), np.array([[1, 1], [1, 1 + 1e-9]]), ["a", "b"], ks=(1,))
    assert found.average_precision.tolist() == [0.5, 0.5]


def test_chance_of_hit_counts_draws():
    for right, items, places in itertools.product(range(4), (4, 6), (1, 2, 4)):
        draws = list(itertools.combinations(range(items), places))
        expected = np.mean([any(i < right for i in draw) for draw in draws])
        assert chance_of_hit(np.array([right]), items, places)[0] == pytest.approx(expected, abs=1e-12)


def test_sounds_find_pictures_of_their_class_by_hand():
    # Query 0 ranks the gallery at 0, 20, 40, 60 degrees in this order; a b a b: AP (1 + 2/3) / 2.
    gallery = np.array([direction(a) for a in (0, 20, 40, 60)])
    queries = np.array([direction(a) for a in (-5, -5, 70, 70)])
    found = class_retrieval(queries, gallery, ["a", "b", "a", "b"], ks=(1, 2, 4))
    np.testing.assert_allclose(found.average_precision, [(1 + 2 / 3) / 2, (1 / 2 + 2 / 4) / 2] * 1 + [0.5, 5 / 6])
    assert found.mean_average_precision == pytest.approx((5 / 6 + 1 / 2 + 1 / 2 + 5 / 6) / 4)
    assert found.precision[1].tolist() == [1, 0, 0, 1]
    assert found.precision[2].tolist() == [0.5] * 4
    assert found.precision[4].tolist() == [0.5] * 4
    assert found.gallery_size == 4


def test_collapsed_embeddings_have_the_precision_of_the_class():
    found = class_retrieval(np.ones((6, 3)), np.ones((6, 3)), list("aabbcc"))
    assert found.mean_average_precision == pytest.approx(1 / 3)
    assert found.precision[1].mean() == pytest.approx(1 / 3)


@pytest.mark.parametrize(("right", "items"), [(1, 1), (1, 4), (2, 5), (4, 6), (6, 6)])
def test_chance_average_precision_is_the_mean_over_all_orders(right, items):
    values = []
    for chosen in itertools.combinations(range(items), right):
        values.append(np.mean([(i + 1) / (place + 1) for i, place in enumerate(chosen)]))
    assert chance_average_precision(right, items) == pytest.approx(np.mean(values))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_retrieval(np.ones((2, 1, 2)), ["a", "b"], np.ones((1, 1, 2)), ["c"]), "not in train_labels: c"),
        (lambda: label_retrieval(np.ones((2, 1, 2)), ["a", "b"], np.ones((1, 1, 2)), ["a"], ks=(0,)), "at least 1"),
        (lambda: label_retrieval(np.ones((2, 2)), ["a", "b"], np.ones((1, 1, 2)), ["a"]), "videos, clips, features"),
        (lambda: label_retrieval(np.full((2, 1, 2), np.nan), ["a", "b"], np.ones((1, 1, 2)), ["a"]), "hold NaN"),
        (lambda: class_retrieval(np.ones((2, 3)), np.ones((3, 3)), ["a", "b"]), "of the same clips in the same order"),
        (lambda: class_retrieval(np.ones((2, 3)), np.full((2, 3), np.nan), ["a", "b"]), "gallery hold NaN"),
        (lambda: class_retrieval(np.ones((2, 3)), np.ones((2, 3)), ["a", None]), "labels are empty for 1 clips"),
        (lambda: chance_average_precision(0, 3), r"right \(0\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
