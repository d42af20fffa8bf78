import numpy as np
import pytest

from avssl.evaluation import late_fusion_probe, linear_probe, modality_probes


def clusters(seed: int, noise: float, count: int = 240) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(4), count // 4)
    centers = np.random.default_rng(0).standard_normal((4, 6))
    return centers[labels] + noise * rng.standard_normal((len(labels), 6)), labels


def test_a_useless_modality_is_left_aside():
    good, labels = clusters(1, 1.0)
    test_good, test_labels = clusters(2, 1.0)
    rng = np.random.default_rng(3)
    noise, test_noise = rng.standard_normal((2, len(labels), 200))
    alone = linear_probe(good, labels, test_good, test_labels)
    for pair, test_pair in (((good, noise), (test_good, test_noise)), ((noise, good), (test_noise, test_good))):
        fused = late_fusion_probe(pair, labels, test_pair, test_labels)
        assert fused.accuracy >= alone.accuracy - 0.02
    joined = linear_probe(np.hstack([good, noise]), labels, np.hstack([test_good, test_noise]), test_labels)
    assert fused.accuracy > joined.accuracy


def test_two_halves_are_better_than_one():
    halves = [clusters(seed, 1.6)[0] for seed in (1, 2)]
    test = [clusters(seed, 1.6)[0] for seed in (3, 4)]
    labels = clusters(1, 1.6)[1]
    single = max(linear_probe(f, labels, t, labels).accuracy for f, t in zip(halves, test, strict=True))
    fused = late_fusion_probe((halves[0], halves[1]), labels, (test[0], test[1]), labels)
    assert fused.accuracy > single + 0.03
    assert fused.confusion.sum() == fused.n_test == len(labels)
    assert fused.accuracy == pytest.approx(np.trace(fused.confusion) / fused.n_test)


def test_fusing_a_modality_with_itself_changes_nothing():
    x, labels = clusters(1, 1.5)
    y, test_labels = clusters(2, 1.5)
    fused = late_fusion_probe((x, x), labels, (y, y), test_labels)
    np.testing.assert_array_equal(fused.predicted, linear_probe(x, labels, y, test_labels).predicted)


def test_modality_probes_are_the_three_rows_of_a_table():
    x, labels = clusters(1, 1.5)
    train = np.arange(len(labels)) % 2 == 0
    found = modality_probes(x, -x, labels, train, ~train)
    assert list(found) == ["video", "audio", "video + audio"]
    assert found["video"].accuracy == linear_probe(x[train], labels[train], x[~train], labels[~train]).accuracy


def test_different_clips_are_refused():
    x, labels = clusters(1, 1.0)
    with pytest.raises(ValueError, match="240 clips but train_labels 239"):
        late_fusion_probe((x, x), labels[:-1], (x, x), labels)
