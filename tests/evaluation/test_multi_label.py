import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from avssl.core.errors import InputError
from avssl.evaluation import multi_label_knn, multi_label_probe
from avssl.evaluation.multi_label import class_names, label_matrix


@pytest.fixture
def clips():
    """Four classes, each the sign of a noisy direction; the last one is rare."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(160, 6))
    logits = x @ draw.normal(size=(6, 4)) + draw.normal(size=(160, 4)) - np.array([0, 0, 0, 2])
    return x[:100], logits[:100] > 0, x[100:], logits[100:] > 0


def test_each_class_is_a_logistic_regression(clips):
    x, y, other, truth = clips
    found = multi_label_probe(x, y, other, truth, l2_grid=[0.1], max_iterations=1000)
    scaled, scaled_other = ((values - x.mean(axis=0)) / x.std(axis=0) for values in (x, other))
    for k in range(4):
        model = LogisticRegression(C=1 / (0.1 * len(x)), tol=1e-8).fit(scaled, y[:, k])
        expected = model.predict_proba(scaled_other)[:, 1]
        assert np.allclose(found.scores[:, k], expected, atol=2e-3)
        assert found.per_class[k] == pytest.approx(average_precision_score(truth[:, k], found.scores[:, k]))
    assert found.mean_average_precision == pytest.approx(found.per_class.mean())


def test_the_strength_is_chosen_on_training_clips(clips):
    x, y, other, truth = clips
    chosen = multi_label_probe(x, y, other, truth, l2_grid=[1e9, 0.1])  # the first leaves only the biases
    assert np.array_equal(chosen.scores, multi_label_probe(x, y, other, truth, l2_grid=[0.1]).scores)
    again = multi_label_probe(x, y, other, ~truth, l2_grid=[1e9, 0.1])  # test labels have no influence
    assert np.array_equal(again.scores, chosen.scores)


def test_neighbors_vote_for_all_of_their_classes():
    x = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    y = np.array([[True, True, False], [True, False, False], [False, False, True]])
    found = multi_label_knn(x, y, np.array([[2.0, 0.1], [0.0, 5.0]]), y[[0, 2]], k=2, temperature=None)
    assert found.scores[0].tolist() == [1.0, 0.5, 0.0]
    assert found.scores[1].tolist() == [0.5, 0.0, 0.5]


def test_a_class_without_test_clips_does_not_count(clips):
    x, y, other, truth = clips
    truth = truth.copy()
    truth[:, 1] = False
    found = multi_label_knn(x, y, other, truth)
    assert np.isnan(found.per_class).tolist() == [False, True, False, False]
    assert found.mean_average_precision == pytest.approx(np.nanmean(found.per_class))


def test_names_become_columns():
    labels = ["Speech|Gush", "Gush", "Child speech, kid speaking"]
    assert class_names(labels) == ["Child speech, kid speaking", "Gush", "Speech"]
    assert label_matrix(labels, class_names(labels)).astype(int).tolist() == [[0, 1, 1], [0, 1, 0], [1, 0, 0]]
    with pytest.raises(InputError, match="'Gush' has test clips but no training clip"):
        label_matrix(["Speech|Gush"], ["Speech"])


def test_wrong_input_is_an_error(clips):
    x, y, other, truth = clips
    for wrong in (
        lambda: multi_label_probe(x, y[:, :1] & False, other, truth[:, :1]),
        lambda: multi_label_probe(x, y.astype(int), other, truth),
        lambda: multi_label_probe(x, y, other[:, :2], truth),
        lambda: multi_label_probe(x, y, other, truth, l2_grid=[]),
        lambda: multi_label_knn(x, y, other, truth, k=0),
        lambda: multi_label_knn(x, y, other, truth, temperature=0.0),
    ):
        with pytest.raises(InputError):
            wrong()
