import numpy as np
import pytest

from avssl.evaluation import linear_probe
from avssl.evaluation.linear_probe import LinearClassifier, _fit, _held_out, _log_probability, class_probabilities


def gaussian_classes(count, *, classes=4, features=16, distance=4.0, seed=0):
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(99).normal(size=(classes, features)) * distance / features**0.5
    labels = generator.integers(classes, size=count)
    return centers[labels] + generator.normal(size=(count, features)), labels


def test_probe_separates_what_is_separable():
    x, y = gaussian_classes(400, distance=12)
    result = linear_probe(x[:200], y[:200], x[200:], y[200:])
    assert result.accuracy == 1.0
    assert result.converged
    assert np.array_equal(result.confusion, np.diag(np.bincount(y[200:], minlength=4)))


def test_probe_is_at_chance_on_noise():
    generator = np.random.default_rng(0)
    y = generator.integers(4, size=1200)
    result = linear_probe(
        *(v for p in (slice(200), slice(200, None)) for v in (generator.normal(size=(1200, 16))[p], y[p]))
    )
    assert result.accuracy == pytest.approx(0.25, abs=0.05)


def test_probe_result_agrees_with_its_own_predictions():
    x, y = gaussian_classes(600, distance=2)
    names = np.array(["swing", "bounce", "spin", "hop"])[y]
    result = linear_probe(x[:300], names[:300], x[300:], list(names[300:]))
    assert result.classes == ("bounce", "hop", "spin", "swing")
    predicted = np.array(result.classes)[result.predicted]
    assert 0.3 < result.accuracy < 1
    assert result.accuracy == (predicted == names[300:]).mean() == result.correct.mean()
    for row, true in enumerate(result.classes):
        for column, guess in enumerate(result.classes):
            assert result.confusion[row, column] == ((names[300:] == true) & (predicted == guess)).sum()
        assert result.per_class[true] == (predicted == true)[names[300:] == true].mean()
    assert result.mean_per_class == pytest.approx(np.mean(list(result.per_class.values())))
    assert (result.n_train, result.n_test) == (300, 300)


def test_probe_ignores_scale_and_shift_of_the_features():
    x, y = gaussian_classes(400, distance=2)
    moved = x * np.geomspace(1e-3, 1e3, 16) + np.linspace(-50, 50, 16)
    plain, other = (linear_probe(f[:200], y[:200], f[200:], y[200:]) for f in (x, moved))
    assert np.array_equal(plain.predicted, other.predicted)


def test_probe_answers_for_a_clip_whatever_else_is_tested():
    x, y = gaussian_classes(400, distance=2)
    others = x[200:].copy()
    others[100:] = 1000  # of no class
    plain, beside = (linear_probe(x[:200], y[:200], test, y[200:]) for test in (x[200:], others))
    assert np.array_equal(plain.predicted[:100], beside.predicted[:100])
    assert plain.l2 == beside.l2
    inside = (class_probabilities(x[:200], y[:200], test)[1] for test in (x[200:], others))
    np.testing.assert_array_equal(*(probabilities[:100] for probabilities in inside))


@pytest.mark.parametrize("classes", [2, 3])
def test_log_probabilities_are_scikit_learns_and_finite_far_away(classes):
    x, y = gaussian_classes(200, classes=classes)
    model, _ = _fit(x, y, 1e-2, 1000)
    np.testing.assert_allclose(_log_probability(model, x), model.predict_log_proba(x), rtol=1e-9)
    assert np.isfinite(_log_probability(model, 1e6 * x)).all()


def test_probe_drops_features_that_are_constant_in_training():
    x, y = gaussian_classes(400)
    constant = np.full((400, 1), 0.1) + np.where(np.arange(400) % 2, 1e-12, 0)[:, None]
    constant[200:] = 100
    wide = np.concatenate([x, constant], axis=1)
    plain, other = (linear_probe(f[:200], y[:200], f[200:], y[200:]) for f in (x, wide))
    assert np.array_equal(plain.predicted, other.predicted)


def test_regularisation_is_chosen_without_looking_at_the_test_clips():
    x, y = gaussian_classes(300, distance=1.5, features=64)
    results = [linear_probe(x[:100], y[:100], x[100:], labels) for labels in (y[100:], np.roll(y[100:], 1))]
    assert results[0].l2 == results[1].l2
    assert results[0].validation_accuracy == results[1].validation_accuracy
    assert np.array_equal(results[0].predicted, results[1].predicted)
    assert results[0].l2 == max(results[0].validation_accuracy, key=results[0].validation_accuracy.get) or (
        results[0].validation_accuracy[results[0].l2] == max(results[0].validation_accuracy.values())
    )


def test_regularisation_adapts_to_noise():
    """128 weak features, 800 clips to choose from: too little and too much regularisation both cost accuracy."""
    generator = np.random.default_rng(0)
    y = generator.integers(12, size=2000)
    x = 0.3 * generator.normal(size=(12, 128))[y] + generator.normal(size=(2000, 128))
    probe = lambda grid: linear_probe(x[:800], y[:800], x[800:], y[800:], l2_grid=grid)  # noqa: E731
    chosen = probe([1e-4, 1e-1, 10])
    assert chosen.l2 == 0.1
    assert chosen.accuracy > probe([1e-4]).accuracy + 0.02
    assert chosen.accuracy > probe([10]).accuracy + 0.02


def test_l2_weighs_against_the_mean_loss():
    """Every training clip twice is the same problem."""
    x, y = gaussian_classes(200, distance=2)
    once = linear_probe(x[:100], y[:100], x[100:], y[100:], l2_grid=[0.1])
    twice = linear_probe(np.tile(x[:100], (2, 1)), np.tile(y[:100], 2), x[100:], y[100:], l2_grid=[0.1])
    assert np.array_equal(once.predicted, twice.predicted)


def test_probe_says_when_it_did_not_converge():
    x, y = gaussian_classes(200, features=32, distance=1)
    assert not linear_probe(x, y, x, y, l2_grid=[1e-6], max_iterations=2).converged


def test_probe_is_deterministic_and_the_seed_moves_the_split():
    x, y = gaussian_classes(300, distance=1)
    first, again, other = (linear_probe(x[:200], y[:200], x[200:], y[200:], seed=s) for s in (0, 0, 1))
    assert first.validation_accuracy == again.validation_accuracy
    assert first.validation_accuracy != other.validation_accuracy


def test_held_out_part_is_stratified_and_leaves_every_class_a_clip():
    labels = np.repeat([0, 1, 2, 3], [100, 50, 2, 1])
    held_out = _held_out(labels, 0, 0.2)
    assert np.bincount(labels[held_out], minlength=4).tolist() == [20, 10, 1, 0]


def test_class_without_test_clips_has_no_recall():
    x, y = gaussian_classes(300, distance=12)
    keep = np.flatnonzero(y[200:] != 3) + 200
    result = linear_probe(x[:200], y[:200], x[keep], y[keep])
    assert np.isnan(result.per_class[3])
    assert result.mean_per_class == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": ["a"] * 19}, "train_features hold 20 clips but train_labels 19"),
        ({"test_labels": ["a", "c"] * 5}, "1 classes that are not in train_labels: c"),
        ({"train_labels": ["a"] * 20}, "at least two classes"),
        ({"train_labels": ["a", None] * 10}, "train_labels are empty for 10 clips, first for clip 1"),
        ({"train_labels": ["a", 1] * 10}, "mix strings and numbers"),
        ({"test_features": np.zeros((10, 4))}, "train_features have 3 columns but test_features 4"),
        ({"test_features": np.full((10, 3), np.nan)}, "test_features hold NaN or infinity in 10 of 10 clips"),
        ({"train_features": np.zeros(20)}, "must be \\(clips, features\\)"),
        ({"l2_grid": [0.0, 1.0]}, "l2_grid must hold values > 0"),
        ({"validation_fraction": 1.0}, "validation_fraction must be in"),
    ],
)
def test_probe_refuses(change, message):
    good = {
        "train_features": np.random.default_rng(0).normal(size=(20, 3)),
        "train_labels": ["a", "b"] * 10,
        "test_features": np.zeros((10, 3)),
        "test_labels": ["a", "b"] * 5,
    }
    with pytest.raises(ValueError, match=message):
        linear_probe(**(good | change))


def test_probe_refuses_a_training_set_that_cannot_be_split():
    with pytest.raises(ValueError, match="give l2_grid a single value"):
        linear_probe(np.eye(3), ["a", "b", "c"], np.eye(3), ["a", "b", "c"])
    assert linear_probe(np.eye(3), ["a", "b", "c"], np.eye(3), ["a", "b", "c"], l2_grid=[0.01]).accuracy == 1


def test_class_probabilities_are_those_of_the_probe():
    x, y = gaussian_classes(300, distance=2)
    classifier = LinearClassifier(x[:200], y[:200], x[200:], y[200:], [0.01], 0, 0.2, 1000)
    classes, probabilities = class_probabilities(x[:200], y[:200], x[200:], l2=0.01)
    assert classes.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(probabilities, np.exp(classifier.test_log_probability), rtol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    l2 = class_probabilities(x[:200], y[:200], x[200:], l2=100.0)[1]
    assert l2.max() < 0.5 < probabilities.max()


def test_the_only_class_is_certain():
    classes, probabilities = class_probabilities(np.eye(3), ["a"] * 3, np.zeros((2, 3)))
    assert classes.tolist() == ["a"]
    assert probabilities.tolist() == [[1], [1]]


def test_class_probabilities_refuse():
    with pytest.raises(ValueError, match="train_features have 3 columns but other_features 2"):
        class_probabilities(np.eye(3), ["a", "b", "a"], np.zeros((2, 2)))
    with pytest.raises(ValueError, match="other_features hold NaN or infinity in 1 of 2 clips, first in clip 1"):
        class_probabilities(np.eye(3), ["a", "b", "a"], np.array([[0, 0, 0], [0, np.nan, 0]]))
