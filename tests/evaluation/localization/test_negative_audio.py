"""pIA, AUC_N, F_LOC and F_AUC against loops written from their definitions."""

import itertools

import numpy as np
import pytest
import torch

from avssl.evaluation import maxq3_threshold, negative_audio, resize_heatmaps


def reference_area(epochs):
    curve = [epochs(0.05 * i) for i in range(21)]
    return sum((a + b) / 2 * 0.05 for a, b in itertools.pairwise(curve))


def reference_harmonic(a, b):
    return 0.0 if a + b == 0 else 2 / (1 / a + 1 / b) if a * b else 0.0


def reference(maps, truth, negatives, threshold, mode="bilinear"):
    height, width = truth.shape[1:]
    cious = []
    for p, g in zip(resize_heatmaps(maps, (height, width), mode), truth, strict=True):
        top = bottom = 0.0
        for y in range(height):
            for x in range(width):
                bottom += g[y, x]
                if p[y, x] > threshold:
                    top += g[y, x]
                    bottom += g[y, x] == 0
        cious.append(top / bottom if bottom else 0.0)
    mean = sum(cious) / len(cious)
    auc = reference_area(lambda t: sum(c >= t for c in cious) / len(cious))
    pia, auc_n = {}, {}
    for kind, values in negatives.items():
        shares = [(p > threshold).sum() / p.size for p in resize_heatmaps(values, (height, width), mode)]
        pia[kind] = sum(shares) / len(shares)
        auc_n[kind] = reference_area(lambda t, shares=shares: sum(s <= t for s in shares) / len(shares))
    pia["all"] = sum(pia.values()) / len(negatives)
    auc_n["all"] = sum(auc_n.values()) / len(negatives)
    return mean, auc, pia, auc_n


@pytest.fixture
def samples():
    random = np.random.default_rng(0)
    maps = random.random((12, 5, 5)).astype(np.float32)
    truth = (resize_heatmaps(maps, (20, 16)) > 0.55).astype(float)
    truth[0] = 0
    truth[1] *= 0.5
    negatives = {
        "silence": 0.9 * random.random((12, 5, 5)).astype(np.float32),
        "noise": 0.7 * random.random((7, 5, 5)).astype(np.float32),
    }
    return maps, truth, negatives


@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.99])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic_corners"])
def test_matches_loop_reference(samples, threshold, mode):
    mean, auc, pia, auc_n = reference(*samples, threshold, mode)
    found = negative_audio(*samples, threshold, mode)
    assert (found.threshold, found.mean_ciou, found.auc) == pytest.approx((threshold, mean, auc), abs=1e-9)
    assert found.pia == pytest.approx(pia, abs=1e-9)
    assert found.auc_n == pytest.approx(auc_n, abs=1e-9)
    assert found.f_loc == pytest.approx({k: reference_harmonic(mean, 1 - v) for k, v in pia.items()}, abs=1e-9)
    assert found.f_auc == pytest.approx({k: reference_harmonic(auc, v) for k, v in auc_n.items()}, abs=1e-9)


def test_hand_made_case():
    own = np.array([[[0.9, 0.2], [0.5, 0.2]]])  # 0.5 is not above 0.5
    truth = np.array([[[1, 1], [0, 0]]])
    silence = np.array([[[0.6, 0.5], [0.5, 0.1]], [[0.1, 0.1], [0.1, 0.1]]])
    found = negative_audio(own, truth, {"silence": silence}, threshold=0.5)
    assert found.mean_ciou == 0.5
    assert found.auc == pytest.approx(0.05 * 10.5)  # 0.5 epochs 0 ... 0.5: eleven thresholds
    assert found.pia["silence"] == 0.125  # 0.5 is not above 0.5: one pixel of four, and none
    # Shares 0.25 and 0: the second is within every threshold, the first from 0.25 (i = 5) on.
    assert found.auc_n["silence"] == pytest.approx((0.05 * 15.5 + 1) / 2)
    assert found.f_loc["silence"] == pytest.approx(2 * 0.5 * 0.875 / 1.375, abs=1e-6)
    assert found.f_loc == {"silence": found.f_loc["silence"], "all": found.f_loc["silence"]}
    assert found.f_auc["all"] == pytest.approx(2 * 0.525 * 0.8875 / 1.4125, abs=1e-6)


def test_threshold_is_the_third_quartile_of_the_maxima_before_resizing():
    silence = np.zeros((3, 2, 2))
    silence[:, 0, 0] = [0.1, 0.2, 0.3]
    noise = np.full((2, 2, 2), -1.0)
    noise[:, 1, 1] = [0.4, 0.8]
    # 0.1 0.2 0.3 0.4 0.8: place 0.75 * 4 = 3.
    assert maxq3_threshold(silence, noise) == pytest.approx(0.4)
    assert maxq3_threshold(silence) == pytest.approx(0.25)
    assert maxq3_threshold(silence[1]) == pytest.approx(0.2)
    found = negative_audio(silence, np.ones((3, 4, 4)), {"silence": silence, "noise": noise})
    assert found.threshold == maxq3_threshold(silence, noise)


def test_a_model_that_ignores_sound_is_not_saved_by_its_localization():
    blob = np.exp(-((np.mgrid[:8, :8] - 3.5) ** 2).sum(axis=0) / 8)[None]
    truth = blob > 0.5
    deaf = negative_audio(blob, truth, {"noise": blob}, threshold=0.5)
    hearing = negative_audio(blob, truth, {"noise": 0 * blob}, threshold=0.5)
    assert deaf.mean_ciou == hearing.mean_ciou == 1
    assert deaf.pia["noise"] == pytest.approx(truth.mean())
    assert hearing.f_loc["noise"] == 1 > deaf.f_loc["noise"]
    assert hearing.auc_n["noise"] == 1 > deaf.auc_n["noise"]


def test_everything_selected_and_nothing_true_is_zero():
    ones = np.ones((1, 2, 2))
    found = negative_audio(ones, 0 * ones, {"noise": ones}, threshold=0.5)
    assert (found.mean_ciou, found.pia["noise"], found.f_loc["noise"]) == (0, 1, 0)
    assert found.auc_n["noise"] == pytest.approx(0.025)  # the whole picture is within 0.05 * 20 alone


def test_kinds_of_input_agree(samples):
    maps, truth, negatives = samples
    from_tensors = negative_audio(
        torch.from_numpy(maps), torch.from_numpy(truth), {k: torch.from_numpy(v) for k, v in negatives.items()}, 0.6
    )
    assert from_tensors == negative_audio(maps, truth, negatives, 0.6)
    one = negative_audio(maps[3], truth[3], {"silence": negatives["silence"][0]}, 0.6)
    assert one == negative_audio(maps[3:4], truth[3:4], {"silence": negatives["silence"][:1]}, 0.6)


def test_chunks_do_not_change_results(samples, monkeypatch):
    whole = negative_audio(*samples, 0.6)
    monkeypatch.setattr("avssl.evaluation.localization.chunks._CHUNK", 2 * 320)
    assert negative_audio(*samples, 0.6) == whole


def test_negative_audio_refuses(samples):
    maps, truth, negatives = samples
    with pytest.raises(ValueError, match='at least one kind, and none "all", got \\[\\]'):
        negative_audio(maps, truth, {})
    with pytest.raises(ValueError, match="got \\['all'\\]"):
        negative_audio(maps, truth, {"all": maps})
    with pytest.raises(ValueError, match=r"negatives\['noise'\] holds NaN"):
        negative_audio(maps, truth, {"noise": maps * np.nan}, 0.5)
    with pytest.raises(ValueError, match="heatmap and truth must hold the same samples"):
        negative_audio(maps[:2], truth, negatives)
    with pytest.raises(ValueError, match="unknown mode"):
        negative_audio(maps, truth, negatives, mode="linear")
    with pytest.raises(ValueError, match="negatives must be at least one array"):
        maxq3_threshold()
