import numpy as np

from avssl.downstream.classifying.page import merge_spans


def spans_of(windows, labels, probabilities=None):
    values = np.ones(len(labels)) if probabilities is None else np.array(probabilities)
    return [
        (span.label, span.start_seconds, span.stop_seconds, span.probability)
        for span in merge_spans(np.array(windows, dtype=float), labels, values)
    ]


def test_overlapping_windows_are_cut_in_the_middle_and_joined():
    found = spans_of([(0, 2), (1, 3), (2, 4), (3, 5)], ["a", "a", "b", "a"], [0.5, 0.7, 0.9, 1.0])
    assert found == [("a", 0.0, 2.5, 0.6), ("b", 2.5, 3.5, 0.9), ("a", 3.5, 5.0, 1.0)]


def test_gaps_between_windows_stay():
    assert spans_of([(0, 1), (3, 4)], ["a", "a"]) == [("a", 0.0, 1.0, 1.0), ("a", 3.0, 4.0, 1.0)]


def test_one_window():
    assert spans_of([(1, 2)], [""]) == [("", 1.0, 2.0, 1.0)]
