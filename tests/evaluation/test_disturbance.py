import numpy as np
import pytest

from avssl.evaluation import bootstrap_interval, disturbance_scores, wilson_interval


def test_scores_by_hand():
    labels, clean = [0, 0, 1, 1, 2], [0, 0, 1, 0, 2]
    disturbed, partners = [0, 1, 2, 0, 1], [1, 1, 0, 0, 1]
    scores = disturbance_scores(clean, disturbed, labels, range(5), partners)
    assert scores.accuracy == 0.2
    assert scores.change == pytest.approx(0.2 - 0.8)
    assert scores.changed == 0.6
    assert scores.became_partner == 0.4  # clips 1 and 4; clip 3 said its partner's class before
    assert scores.interval == bootstrap_interval([0, -1, -1, 0, -1])
    assert scores.accuracy_interval == wilson_interval(1, 5)


def test_the_same_answers_change_nothing():
    scores = disturbance_scores([0, 1, 1], [0, 1, 1], [0, 1, 0], range(3))
    assert (scores.change, scores.interval, scores.changed, scores.became_partner) == (0.0, (0.0, 0.0), 0.0, None)


def test_scores_do_not_depend_on_the_order_of_the_clips():
    generator = np.random.default_rng(0)
    clean, disturbed, labels, partners = generator.integers(4, size=(4, 60))
    order = generator.permutation(60)
    one = disturbance_scores(clean, disturbed, labels, range(60), partners)
    other = disturbance_scores(clean[order], disturbed[order], labels[order], range(60), partners[order])
    for name in ("accuracy", "change", "changed", "became_partner"):
        assert getattr(one, name) == pytest.approx(getattr(other, name))


@pytest.mark.parametrize(
    ("given", "name"),
    [(([0, 1], [0], [0, 1]), "disturbed"), (([0, -1], [0, 1], [0, 1]), "clean"), (([0.5], [0], [0]), "clean")],
)
def test_what_are_no_classes_is_refused(given, name):
    with pytest.raises(ValueError, match=name):
        disturbance_scores(*given, range(len(given[2])))
