import numpy as np
import pytest

from avssl.data import ClipDataset
from avssl.downstream.robustness import (
    Classification,
    chosen_corruptions,
    encode_disturbed,
    find_cutouts,
    finetuned_model,
    run_conditions,
)
from avssl.downstream.robustness.disturbances import CLEAN
from avssl.transforms.corruptions import Corruption


@pytest.fixture(scope="module")
def classify(shapes):
    """Make the measure of a classifier with random weights."""

    def make(classifier) -> Classification:
        model = finetuned_model(classifier, 1)
        dataset = ClipDataset(shapes, model.sampling)
        cutouts = find_cutouts(shapes, shapes["label"].tolist(), 4.0)
        disturbed = encode_disturbed(model.encode, dataset, np.roll(np.arange(12), 5), cutouts)
        labels = np.array([list(model.classes).index(name) for name in shapes["label"]])
        about = {"chance": 0.1, "largest_class": 0.2}
        return Classification(model, dataset, labels, disturbed, model.predict(disturbed), about)

    return make


def test_severity_zero_equals_clean_bit_for_bit(shapes, untrained, classify):
    measure = classify(untrained(shapes, inputs="both", fusion="late", clips=1))
    clean = measure.run(None)
    for name in ("jpeg", "reverberation"):
        (found,) = measure.run(Corruption(name, 0)).items()
        assert np.array_equal(found[1], clean[found[0]])
        assert not np.array_equal(measure.run(Corruption(name, 5))[found[0]], clean[found[0]])
    runs = {None: clean, Corruption("jpeg", 0): measure.run(Corruption("jpeg", 0))}
    scores = measure.scores(runs)
    for number, hits in scores[None].items():
        assert np.array_equal(hits, measure.predictions[number][CLEAN] == measure.labels)
        assert np.array_equal(hits, scores[Corruption("jpeg", 0)][number])
    assert measure.baselines["chance"] == {"video": 0.1, "audio": 0.1, "video + audio": 0.1}


def test_conditions_are_continued(shapes, untrained, classify, tmp_path, monkeypatch):
    measure = classify(untrained(shapes, inputs="audio", clips=1))
    corruptions = chosen_corruptions(measure, (), (5, 1, 1), seed=2)
    assert [str(each) for each in corruptions] == [  # the frames do not matter to this classifier
        "audio_noise 1",
        "audio_noise 5",
        "reverberation 1",
        "reverberation 5",
    ]
    assert {each.seed for each in corruptions} == {2}
    whole = run_conditions(measure, corruptions, tmp_path / "whole")

    def stopped(self, corruption):
        if corruption == corruptions[2]:
            raise KeyboardInterrupt
        return run(self, corruption)

    run = Classification.run
    monkeypatch.setattr(Classification, "run", stopped)
    with pytest.raises(KeyboardInterrupt):
        run_conditions(measure, corruptions, tmp_path)
    assert len(list(tmp_path.glob("conditions/*.npz"))) == 2
    calls = []
    monkeypatch.setattr(Classification, "run", lambda self, each: calls.append(each) or run(self, each))
    continued = run_conditions(measure, corruptions, tmp_path)
    assert calls == [None, *corruptions[2:]]
    for corruption, scores in whole.items():
        assert np.array_equal(scores["audio"], continued[corruption]["audio"])
    reseeded = chosen_corruptions(measure, ["audio_noise"], [1], seed=3)
    run_conditions(measure, reseeded, tmp_path)
    assert calls[-1] == reseeded[0]  # another seed, another file
