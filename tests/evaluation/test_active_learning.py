import numpy as np
import pytest

from avssl.evaluation.active_learning import (
    NEED_CLASSIFIER,
    STRATEGIES,
    Evidence,
    gather_evidence,
    label_curve,
    select_clips,
)
from avssl.evaluation.selection import (
    select_disagreement,
    select_entropy,
    select_k_center,
    select_margin,
    select_mismatch,
    unit_rows,
)


def clips(count=120, classes=4, distance=4.0, seed=0):
    """Features of two modalities, embeddings and labels of well separated classes."""
    generator = np.random.default_rng(seed)
    codes = np.arange(count) % classes
    names = np.array(["bell", "drum", "horn", "reed"])[codes]
    sides = {
        name: distance * np.eye(8)[codes + shift] + generator.normal(size=(count, 8))
        for name, shift in (("video", 0), ("audio", 4))
    }
    return sides, {name: x[:, :5] for name, x in sides.items()}, names


def test_evidence_holds_a_classifier_for_each_modality():
    features, embeddings, labels = clips()
    labeled = np.arange(120) < 40
    found = gather_evidence(features, labels, labeled, embeddings)
    assert found.classes.tolist() == ["bell", "drum", "horn", "reed"]
    for name in ("video", "audio"):
        assert found.probabilities[name].shape == (120, 4)
        assert (found.classes[found.probabilities[name].argmax(1)] == labels).mean() > 0.9
    np.testing.assert_allclose(found.probability, (found.probabilities["video"] + found.probabilities["audio"]) / 2)
    np.testing.assert_allclose(np.linalg.norm(found.joined, axis=1), np.sqrt(2))
    some = found.at(np.array([5, 3]))
    np.testing.assert_array_equal(some.probability, found.probability[[5, 3]])
    np.testing.assert_array_equal(some.features["audio"], features["audio"][[5, 3]])


def test_labels_outside_the_mask_are_not_looked_at():
    features, _, labels = clips()
    labeled = np.arange(120) < 40
    other = labels.copy()
    other[40:] = "zither"
    one, two = (gather_evidence(features, names, labeled) for names in (labels, other))
    assert one.classes.tolist() == two.classes.tolist()
    np.testing.assert_array_equal(one.probability, two.probability)


def test_names_call_their_strategies():
    features, embeddings, labels = clips()
    labeled = np.arange(120) < 40
    evidence = gather_evidence(features, labels, labeled, embeddings)
    blind = gather_evidence(features, labels, np.zeros(120, dtype=bool), embeddings)
    sides = evidence.probabilities["video"], evidence.probabilities["audio"]
    expected = {
        "margin": select_margin(evidence.probability, labeled, 9),
        "entropy": select_entropy(evidence.probability, labeled, 9),
        "k-center": select_k_center(np.hstack([unit_rows(features[n]) for n in ("video", "audio")]), labeled, 9),
        "disagreement": select_disagreement(*sides, labeled, 9),
    }
    for name, selection in expected.items():
        np.testing.assert_array_equal(select_clips(name, evidence, labeled, 9).index, selection.index)
    found = select_clips("disagreement", blind, labeled, 9)
    np.testing.assert_array_equal(
        found.index, select_mismatch(embeddings["video"], embeddings["audio"], labeled, 9).index
    )
    orders = {tuple(select_clips(name, evidence, labeled, 9).index) for name in STRATEGIES}
    assert len(orders) == len(STRATEGIES)


@pytest.mark.parametrize("strategy", NEED_CLASSIFIER)
def test_strategies_that_need_labels_say_which_do_not(strategy):
    features, _, labels = clips()
    labeled = np.arange(120) % 4 == 0  # of one class
    message = rf"{strategy} needs a classifier.*at least two classes; there are 1\. .*random, k-center, typicality"
    with pytest.raises(ValueError, match=message):
        select_clips(strategy, gather_evidence(features, labels, labeled), labeled, 3)


def test_what_cannot_be_answered_is_refused():
    features, _, labels = clips()
    labeled = np.zeros(120, dtype=bool)
    both = gather_evidence(features, labels, labeled)
    one = gather_evidence({"audio": features["audio"]}, labels, labeled)
    with pytest.raises(ValueError, match="disagreement needs video and audio, got audio"):
        select_clips("disagreement", one, labeled, 3)
    with pytest.raises(ValueError, match="two classes or embeddings, and has neither"):
        select_clips("disagreement", both, labeled, 3)
    with pytest.raises(ValueError, match=r"strategy \('coreset'\) must be one of random, margin"):
        select_clips("coreset", both, labeled, 3)
    with pytest.raises(ValueError, match="at least one modality"):
        Evidence({}, np.array([]), {}, {})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_curve_spends_the_budget_and_learns(strategy):
    features, embeddings, labels = clips()
    pool, test = np.arange(0, 70), np.arange(70, 120)
    curve = label_curve(strategy, features, labels, pool, test, budget=16, rounds=9, embeddings=embeddings)
    assert [point.num_labels for point in curve] == [16, 32, 48, 64, 70]
    assert curve[-1].num_classes == 4
    assert curve[-1].accuracy > 0.95
    assert curve == label_curve(strategy, features, labels, pool, test, budget=16, rounds=9, embeddings=embeddings)
    assert len(label_curve(strategy, features, labels, pool, test, budget=16, rounds=2, embeddings=embeddings)) == 2


def test_curve_never_learns_from_what_it_is_measured_on():
    """Test labels that are nowhere in the pool cannot be answered."""
    features, _, labels = clips()
    pool, test = np.flatnonzero(labels != "reed"), np.flatnonzero(labels == "reed")
    curve = label_curve("random", features, labels, pool, test, budget=30, rounds=3)
    assert [(point.num_classes, point.accuracy) for point in curve] == [(3, 0.0)] * 3


def test_one_class_is_the_answer_to_everything():
    features, _, labels = clips()
    pool, test = np.flatnonzero(labels == "bell"), np.flatnonzero(labels != "reed")
    test = np.setdiff1d(test, pool[:20])
    curve = label_curve("margin", features, labels, pool[:20], test, budget=10, rounds=2)
    assert [(p.num_labels, p.num_classes) for p in curve] == [(10, 1), (20, 1)]
    assert curve[0].accuracy == pytest.approx((labels[test] == "bell").mean())


def test_strategies_that_need_a_classifier_begin_as_random_does():
    features, _, labels = clips()
    pool, test = np.arange(0, 70), np.arange(70, 120)
    first = {
        name: label_curve(name, features, labels, pool, test, budget=6, rounds=1, seed=3)[0]
        for name in ("random", *NEED_CLASSIFIER)
    }
    assert len(set(first.values())) == 1


def test_curve_refuses():
    features, _, labels = clips()
    for pool, test, budget in ((range(3), range(2, 9), 1), (range(3), range(3, 9), 0), (range(0), range(3), 1)):
        with pytest.raises(ValueError, match="must be at least 1, and no clip be in both"):
            label_curve("random", features, labels, np.array(pool), np.array(test), budget=budget, rounds=1)
