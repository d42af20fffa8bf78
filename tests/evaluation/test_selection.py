import math

import numpy as np
import pytest

from avssl.evaluation import selection
from avssl.evaluation.selection import (
    select_disagreement,
    select_entropy,
    select_k_center,
    select_margin,
    select_mismatch,
    select_random,
    select_typicality,
)


def none(count):
    return np.zeros(count, dtype=bool)


def some_probabilities(count=30, classes=4, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(classes), size=count)


def some_features(count=30, size=3, seed=0):
    return np.random.default_rng(seed).normal(size=(count, size))


STRATEGIES = {
    "random": lambda labeled, budget, seed: select_random(labeled, budget, seed),
    "margin": lambda labeled, budget, seed: select_margin(some_probabilities(), labeled, budget, seed),
    "entropy": lambda labeled, budget, seed: select_entropy(some_probabilities(), labeled, budget, seed),
    "disagreement": lambda labeled, budget, seed: select_disagreement(
        some_probabilities(), some_probabilities(seed=1), labeled, budget, seed
    ),
    "mismatch": lambda labeled, budget, seed: select_mismatch(
        some_features(), some_features(seed=1), labeled, budget, seed
    ),
    "k-center": lambda labeled, budget, seed: select_k_center(some_features(), labeled, budget, seed),
    "typicality": lambda labeled, budget, seed: select_typicality(some_features(), labeled, budget, seed),
}
every_strategy = pytest.mark.parametrize("select", STRATEGIES.values(), ids=STRATEGIES.keys())


@every_strategy
def test_strategies_name_each_unlabeled_clip_at_most_once(select):
    labeled = np.random.default_rng(3).random(30) < 0.4
    for budget in (1, 7, int((~labeled).sum())):
        found = select(labeled, budget, 0)
        assert len(found.index) == len(set(found.index.tolist())) == len(found.score) == budget
        assert not labeled[found.index].any()


@every_strategy
def test_strategies_repeat_themselves(select):
    labeled = np.arange(30) % 5 == 0
    first, again = select(labeled, 10, 4), select(labeled, 10, 4)
    np.testing.assert_array_equal(first.index, again.index)
    np.testing.assert_array_equal(first.score, again.score)


@every_strategy
@pytest.mark.parametrize("budget", [0, 21])
def test_strategies_refuse_a_budget_that_cannot_be(select, budget):
    with pytest.raises(ValueError, match=rf"budget \({budget}\) must be between 1 and .* without a label \(20\)"):
        select(np.arange(30) < 10, budget, 0)


def test_random_is_uniform_and_moves_with_the_seed():
    labeled = np.arange(6) == 2
    counts = np.bincount([select_random(labeled, 1, seed).index[0] for seed in range(1000)], minlength=6)
    assert counts[2] == 0
    assert counts[[0, 1, 3, 4, 5]].min() > 150  # 200 on average, deviation 13


def test_margin_takes_the_closest_two_classes_first():
    p = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.9, 0.05, 0.05], [0.45, 0.05, 0.5]])
    found = select_margin(p, none(4), 4)
    assert found.index.tolist() == [1, 3, 0, 2]
    np.testing.assert_allclose(found.score, [0, 0.05, 0.2, 0.85], atol=1e-12)
    assert select_margin(p, np.array([False, True, False, False]), 1).index.tolist() == [3]


def test_entropy_takes_the_flattest_first():
    p = np.array([[1.0, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0], [0.8, 0.1, 0.1]])
    found = select_entropy(p, none(4), 4)
    assert found.index.tolist() == [1, 2, 3, 0]
    np.testing.assert_allclose(found.score[[0, 1, 3]], [math.log(3), math.log(2), 0], atol=1e-12)


def test_margin_and_entropy_are_different_questions():
    p = np.array([[0.48, 0.48, 0.04], [0.5, 0.25, 0.25]])
    assert select_margin(p, none(2), 1).index.tolist() == [0]
    assert select_entropy(p, none(2), 1).index.tolist() == [1]


def test_disagreement_is_the_jensen_shannon_divergence():
    video = np.array([[1.0, 0], [0.5, 0.5], [0.9, 0.1], [1.0, 0]])
    audio = np.array([[0.0, 1], [0.5, 0.5], [0.6, 0.4], [1.0, 0]])
    found = select_disagreement(video, audio, none(4), 4)
    assert found.index.tolist()[:2] == [0, 2]
    m = (0.75, 0.25)
    divergence = sum(
        0.5 * p * math.log(p / q) for side in ((0.9, 0.1), (0.6, 0.4)) for p, q in zip(side, m, strict=True)
    )
    np.testing.assert_allclose(found.score, [math.log(2), divergence, 0, 0], atol=1e-12)


def test_mismatch_is_one_less_the_cosine():
    video = np.array([[2.0, 0], [3, 0], [0, 1], [0, 0]])
    audio = np.array([[5.0, 0], [-1, 0], [1, 0], [1, 1]])
    found = select_mismatch(video, audio, np.array([False, False, False, True]), 3)
    assert found.index.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.score, [2, 1, 0], atol=1e-12)


def test_k_center_on_a_line():
    """Labeled at 0: the far end first, then the middle, then the quarters from left to right."""
    x = np.arange(9.0)[:, None]
    found = select_k_center(x, x[:, 0] == 0, 4)
    assert found.index.tolist() == [8, 4, 2, 6]
    assert found.score.tolist() == [8, 4, 2, 2]


def test_k_center_without_labels_begins_by_chance_and_then_covers():
    x = np.array([0.0, 1, 10, 11])[:, None]
    starts = set()
    for seed in range(20):
        found = select_k_center(x, none(4), 2, seed)
        starts.add(int(found.index[0]))
        assert found.score[0] == np.inf
        assert found.index[1] == (3 if found.index[0] < 2 else 0)
    assert starts == {0, 1, 2, 3}


def test_k_center_halves_the_radius_that_chance_leaves():
    x = some_features(400, 2)

    def radius(index):
        return np.linalg.norm(x[:, None] - x[index], axis=2).min(axis=1).max()

    centers = select_k_center(x, none(400), 20).index
    assert radius(centers) < 0.7 * np.mean([radius(select_random(none(400), 20, seed).index) for seed in range(5)])


def blobs(sizes, seed=0):
    """Clusters on the unit circle's axes: features and the cluster of each."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    return np.eye(len(sizes))[cluster] + 0.05 * np.random.default_rng(seed).normal(
        size=(sum(sizes), len(sizes))
    ), cluster


def test_typicality_takes_the_densest_clip_of_each_uncovered_cluster_from_large_to_small():
    x, cluster = blobs([12, 30, 20])
    found = select_typicality(x, none(62), 3)
    assert cluster[found.index].tolist() == [1, 2, 0]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for index, score in zip(found.index, found.score, strict=True):
        members = np.flatnonzero(cluster == cluster[index])
        mean = {
            i: np.mean(sorted(np.linalg.norm(unit[members] - unit[i], axis=1))[1 : 1 + min(20, len(members) - 1)])
            for i in members
        }
        assert min(mean, key=mean.get) == index
        assert score == pytest.approx(1 / mean[index])


def test_typicality_leaves_covered_clusters_for_last():
    x, cluster = blobs([12, 30, 20])
    labeled = none(62)
    labeled[np.flatnonzero(cluster == 1)[:1]] = True
    assert cluster[select_typicality(x, labeled, 2).index].tolist() == [2, 0]


def test_typicality_leaves_outliers_for_last():
    x, cluster = blobs([12, 2, 20])
    assert cluster[select_typicality(x, none(34), 3).index].tolist() == [2, 0, 2]
    assert select_typicality(x, none(34), 34).index.size == 34  # all the same, when there is nothing else


def test_typicality_bears_clips_that_coincide():
    found = select_typicality(np.ones((12, 2)), none(12), 3)
    assert np.isinf(found.score).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: select_k_center(np.full((3, 2), np.nan), none(3), 1),
            "NaN or infinity in 3 of 3 clips, first in clip 0",
        ),
        (lambda: select_typicality(np.ones((4, 2)), none(3), 1), r"features must be \(3, D\).*got \(4, 2\)"),
        (lambda: select_margin(np.ones((3, 1)), none(3), 1), "at least two classes, got 1"),
        (lambda: select_entropy(np.ones((3, 2)), none(3), 1), "rows >= 0 that sum to 1"),
        (lambda: select_disagreement(np.eye(3), np.eye(3)[:, :2] + 1 / 6, none(3), 1), "audio must be probabilities"),
        (lambda: select_disagreement(np.eye(2), np.full((2, 3), 1 / 3), none(2), 1), "the same clips and classes"),
        (lambda: select_mismatch(np.eye(3), np.ones((3, 2)), none(3), 1), "in one space"),
        (lambda: select_random(np.zeros(3), 1), r"labeled must be \(N,\) bool, got \(3,\) float64"),
    ],
)
def test_strategies_refuse(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_rows_of_zeros_have_no_direction():
    np.testing.assert_array_equal(selection.unit_rows(np.array([[0, 0], [3, 4]])), [[0, 0], [0.6, 0.8]])
