import numpy as np
import pytest
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from avssl.evaluation import svm_classifier


def windows(count, num_windows, seed, classes=3, size=5):
    generator = np.random.default_rng(seed)
    centers = np.random.default_rng(7).normal(size=(classes, size))
    labels = np.arange(count) % classes
    x = centers[labels][:, None] + 0.8 * generator.normal(size=(count, num_windows, size))
    return x * np.resize([1.0, 10.0, 0.1, 1.0, 1.0], size), np.array(["a", "b", "c"])[labels]


def test_svm_matches_one_machine_a_class_from_scikit_learn():
    (train, known), (test, truth) = windows(60, 1, 0), windows(30, 1, 1)
    found = svm_classifier(train, known, test, truth, c=0.5, max_iterations=100_000)
    assert found.converged
    mean, scale = train[:, 0].mean(0), train[:, 0].std(0) + 1e-2
    machine = LinearSVC(loss="hinge", C=0.5, tol=1e-7, max_iter=1_000_000, random_state=3)
    reference = OneVsRestClassifier(machine).fit((train[:, 0] - mean) / scale, known)
    expected = reference.predict((test[:, 0] - mean) / scale)
    assert [found.classes[k] for k in found.predicted] == expected.tolist()


def test_more_features_than_windows_give_the_machine_of_scikit_learn():
    (train, known), (test, truth) = windows(24, 2, 0, size=90), windows(30, 2, 1, size=90)
    found = svm_classifier(train, known, test, truth, c=0.5, max_iterations=300)
    mean, scale = train.mean((0, 1)), train.std((0, 1)) + 1e-2
    machine = LinearSVC(loss="hinge", C=0.5, tol=1e-4, max_iter=300, random_state=0)
    machine.fit(((train - mean) / scale).reshape(48, 90), np.repeat(known, 2))
    decisions = machine.decision_function(((test - mean) / scale).reshape(60, 90)).reshape(30, 2, 3).mean(1)
    assert [found.classes[k] for k in found.predicted] == machine.classes_[decisions.argmax(1)].tolist()


def test_every_window_trains_and_decisions_are_averaged_over_a_file():
    (train, known), (test, truth) = windows(30, 4, 0), windows(30, 3, 1)
    found = svm_classifier(train, known, test, truth, max_iterations=100_000)
    flat = train.reshape(-1, 1, 5)
    single = svm_classifier(
        flat, np.repeat(known, 4), test.reshape(-1, 1, 5), np.repeat(truth, 3), max_iterations=10**5
    )
    assert single.n_train == 120
    assert found.n_train == 30
    assert found.accuracy > single.accuracy  # noise averages out


def test_one_sure_window_outvotes_two_doubtful_ones():
    # On one axis between classes at -1 and 1: decisions grow with distance, -3 against twice 0.5.
    train, labels = np.array([[[-1.0]], [[1.0]]] * 5), ["left", "right"] * 5
    test = np.array([[[-3.0], [0.5], [0.5]], [[-0.5], [0.4], [0.4]]])
    found = svm_classifier(train, labels, test, ["left", "right"])
    assert found.correct.tolist() == [True, True]
    assert found.confusion.tolist() == [[1, 0], [0, 1]]


def test_nearly_constant_features_stay_small():
    (train, known), (test, truth) = windows(60, 1, 0), windows(30, 1, 1)
    plain = svm_classifier(train, known, test, truth, max_iterations=100_000)
    noise = 1e-5 * np.random.default_rng(0).normal(size=(90, 1, 1))
    # Against the deviation of 1e-5 the test clips' offset of 0.001 is a hundred: it must not decide.
    padded = svm_classifier(
        np.concatenate([train, noise[:60]], 2),
        known,
        np.concatenate([test, noise[60:] + 0.001], 2),
        truth,
        max_iterations=100_000,
    )
    np.testing.assert_array_equal(padded.predicted, plain.predicted)


def test_too_few_iterations_are_reported():
    (train, known), (test, truth) = windows(60, 2, 0), windows(30, 2, 1)
    assert not svm_classifier(train, known, test, truth, max_iterations=1).converged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"c": 0.0}, r"c \(0.0\) must be greater than 0"),
        ({"test_labels": ["a", "z"]}, "test_labels hold 1 classes that are not in train_labels: z"),
        ({"train_windows": np.ones((3, 2))}, r"train_features must be \(files, windows, features\)"),
        ({"test_windows": np.full((2, 1, 2), np.inf)}, "test_features hold NaN or infinity in 2 of 2 clips"),
        ({"train_labels": ["a", "a", "a"]}, "at least two classes, the training labels are all 'a'"),
        ({"train_labels": ["a", "b"]}, "train_features hold 3 clips but train_labels 2"),
    ],
)
def test_bad_input_is_named(changes, message):
    given = {
        "train_windows": np.random.default_rng(0).normal(size=(3, 2, 2)),
        "train_labels": ["a", "a", "b"],
        "test_windows": np.ones((2, 1, 2)),
        "test_labels": ["a", "b"],
    }
    with pytest.raises(ValueError, match=message):
        svm_classifier(**(given | changes))
