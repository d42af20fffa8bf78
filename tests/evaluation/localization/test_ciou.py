"""cIoU under every rule against a reference that goes pixel by pixel."""

import numpy as np
import pytest
import torch

from avssl.evaluation import RULES, ciou, resize_heatmaps

MODE_OF_RULE = {
    "lvs": "bilinear",
    "ezvsl": "bilinear_corners",
    "slavc": "bicubic_corners",
    "sslalign": "bilinear",
    "adaptive": "bilinear",
    "fixed0.5": "bilinear",
    "jsa": "bicubic",
    "acl": "bicubic",
}


def box(top, bottom, left, right, hw=(8, 8)):
    mask = torch.zeros(1, *hw, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


def reference_min_max(values):
    low, high = min(values), max(values)
    return values if low == high else [(v - low) / (high - low) for v in values]


def reference_selection(values, truth, rule, tau=1.0):
    """List of bool: which of the resized values (a flat list of floats) are selected."""
    if rule == "slavc":
        return [(v + 1 / tau) / (2 / tau) >= 0.5 for v in values]
    p = reference_min_max(values)
    ascending = sorted(p)
    middle = ascending[len(p) // 2]
    if rule in ("lvs", "sslalign"):
        return [v > middle for v in p]
    if rule in ("ezvsl", "slavc relative"):
        return [v >= middle for v in p]
    if rule == "adaptive":
        n = sum(g != 0 for g in truth)
        return [v > ascending[len(p) - n] for v in p] if n else [False] * len(p)
    threshold = {"fixed0.5": 0.5, "jsa": 0.6}.get(rule, rule)
    return [v >= threshold for v in p]


def reference_ciou(selected, truth):
    top = bottom = 0.0
    for chosen, g in zip(selected, truth, strict=True):
        bottom += g
        if chosen:
            top += g
            bottom += g == 0
    return top / bottom if bottom else 0.0


def reference_auc(scores):
    curve = [sum(s >= 0.05 * i for s in scores) / len(scores) for i in range(21)]
    return sum((curve[i] + curve[i + 1]) / 2 * (0.05 * (i + 1) - 0.05 * i) for i in range(20))


def flat(array):
    return [float(v) for v in np.asarray(array).reshape(-1)]


def reference(maps, truth, rule, mode):
    """Of N samples, from maps (N, h, w) and truth (N, H, W)."""
    resized = [flat(resize_heatmaps(m, truth.shape[1:], mode)) for m in maps]
    targets = [flat(g) for g in truth]
    if rule != "acl":
        return [reference_ciou(reference_selection(v, g, rule), g) for v, g in zip(resized, targets, strict=True)]
    literals = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    best, kept = -1.0, []
    for threshold in literals:
        scores = [
            reference_ciou(reference_selection(v, g, threshold), g) for v, g in zip(resized, targets, strict=True)
        ]
        if reference_auc(scores) > best:
            best, kept = reference_auc(scores), scores
    return kept


@pytest.fixture
def samples():
    random = np.random.default_rng(0)
    maps = np.tanh(random.normal(size=(8, 4, 5))).astype(np.float32)
    truth = (random.random((8, 12, 10)) < 0.3) * random.integers(1, 3, size=(8, 12, 10)) / 2
    # Where the map is high there is more truth, so that no rule scores close to nothing.
    grown = np.where(resize_heatmaps(maps, (12, 10)) > 0.2, 1.0, truth)
    return maps, np.where(random.random(grown.shape) < 0.1, 0.5, grown)


@pytest.mark.parametrize("rule", RULES)
def test_ciou_matches_loop_reference(samples, rule):
    maps, truth = samples
    expected = reference(maps, truth, rule, MODE_OF_RULE[rule])
    result = ciou(maps, truth, rule)
    assert result.dtype == np.float64
    assert result.tolist() == pytest.approx(expected, abs=1e-9)
    assert min(expected) > 0.05


@pytest.mark.parametrize("rule", RULES)
def test_masks_match_loop_reference(samples, rule):
    maps, truth = samples[0], samples[1] > 0
    expected = reference(maps, truth.astype(float), rule, MODE_OF_RULE[rule])
    assert ciou(maps, truth, rule).tolist() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("mode", ["bilinear", "bilinear_corners", "bicubic", "bicubic_corners"])
@pytest.mark.parametrize("rule", RULES)
def test_mode_overrides_the_rule_s(samples, rule, mode):
    maps, truth = samples
    assert ciou(maps, truth, rule, mode=mode).tolist() == pytest.approx(reference(maps, truth, rule, mode), abs=1e-9)
    assert ciou(maps, truth, rule).tolist() != ciou(maps, truth, rule, mode="bilinear_corners").tolist() or (
        rule == "ezvsl"
    )


def test_slavc_s_absolute_and_relative_forms(samples):
    maps, truth = samples
    relative = ciou(maps, truth, "slavc", relative=True)
    assert relative.tolist() == pytest.approx(reference(maps, truth, "slavc relative", "bicubic_corners"), abs=1e-9)
    assert relative.tolist() == ciou(maps, truth, "ezvsl", mode="bicubic_corners").tolist()
    assert ciou(maps / 0.03, truth, "slavc", tau=0.03).tolist() == ciou(maps, truth, "slavc").tolist()
    # Half of the range is a cosine of 0, wherever the map's own extremes are.
    quarter = np.full((4, 4), 0.1)
    quarter[0] = -0.1
    assert ciou(quarter, np.ones((4, 4)), "slavc") == 0.75
    assert ciou(quarter - 0.2, np.ones((4, 4)), "slavc") == 0


def test_acl_takes_the_threshold_of_the_highest_auc_for_the_whole_set():
    """Alone, sample 0 would take the threshold 0.3 and sample 1 0.75; 1/4 is all the first reaches under the latter."""
    first = np.array([[1.0, 0.3, 0.3, 0.3, 0.0, 0.0, 0.0, 0.0]])
    second = np.array([[1.0, 0.7, 0.7, 0.7, 0.7, 0.7, 0.7, 0.0]])
    truth_first = np.array([[1, 1, 1, 1, 0, 0, 0, 0]])
    truth_second = np.array([[1, 0, 0, 0, 0, 0, 0, 0]])
    assert ciou(first, truth_first, "acl", mode="bilinear") == 1
    assert ciou(second, truth_second, "acl", mode="bilinear") == 1
    both = ciou(np.stack([first, second]), np.stack([truth_first, truth_second]), "acl")
    assert both.tolist() == [0.25, 1]  # AUC 0.6125; with 0.3 it is (1 + 1/7) / 2, rounded to steps: 0.5625
    many = ciou(np.stack([first, first, second]), np.stack([truth_first, truth_first, truth_second]), "acl")
    assert many.tolist() == pytest.approx([1, 1, 1 / 7])


def test_raw_compares_values_as_they_are():
    maps = np.array([[0.2, 0.55, 0.45, 0.4]])
    truth = np.array([[0, 1, 0, 0]])
    assert ciou(maps, truth, "fixed0.5", raw=True) == 1
    assert ciou(maps, truth, "fixed0.5") == pytest.approx(1 / 3)
    assert ciou(0.1 * maps, truth, "fixed0.5", raw=True) == 0
    assert ciou(0.1 * maps, truth, "acl", raw=True) == pytest.approx(1)  # 0.05 selects 0.055 alone


def test_whole_frame_is_nothing_to_strict_rules_and_everything_to_inclusive_ones():
    maps, truth = torch.ones(1, 7, 7), box(0, 4, 0, 4)
    for rule in ("lvs", "sslalign", "adaptive"):
        assert ciou(maps, truth, rule).item() == 0
    for rule in ("ezvsl", "fixed0.5", "jsa", "acl", "slavc"):
        assert ciou(maps, truth, rule).item() == 16 / 64
    assert ciou(0.4 * maps, truth, "fixed0.5").item() == 0  # untouched: no value reaches 0.5
    assert ciou(-0.4 * maps, truth, "slavc").item() == 0


def test_median_rules_select_half_of_the_frame():
    maps = torch.arange(64.0).view(1, 8, 8)  # rising downwards: the lower half is rows 4..7
    lower = box(4, 8, 0, 8)
    # Even number of distinct values: sorted[32] is the smallest of the lower half, strict leaves it out.
    assert ciou(maps, lower, "ezvsl").item() == 1
    assert ciou(maps, lower, "lvs").item() == 31 / 32
    # Half of the selection on the object: 16 shared, 32 + 16 in all but for the one pixel.
    assert ciou(maps, box(2, 6, 0, 8), "ezvsl").item() == 16 / 48
    # A quarter of the frame is the smallest object that can reach 0.5.
    assert ciou(maps, box(6, 8, 0, 8), "ezvsl").item() == 0.5


def test_median_of_tied_values_is_the_upper_middle_one():
    maps = np.array([[0.0, 0.0, 0.0, 1.0]])  # sorted[2] is 0: strict selects one pixel, inclusive all four
    truth = np.array([[0, 0, 0, 1]])
    assert ciou(maps, truth, "lvs") == 1
    assert ciou(maps, truth, "ezvsl") == 0.25
    odd = np.array([[0.0, 0.2, 0.9]])  # sorted[1]: the middle itself
    assert ciou(odd, np.array([[0, 1, 1]]), "ezvsl") == 1
    assert ciou(odd, np.array([[0, 1, 1]]), "lvs") == 0.5


def test_adaptive_rule_selects_one_pixel_less_than_the_truth():
    maps = torch.arange(64.0).view(1, 8, 8)
    assert ciou(maps, box(7, 8, 0, 8), "adaptive").item() == 7 / 8
    assert ciou(maps, box(6, 8, 0, 8), "adaptive").item() == 15 / 16
    # Half overlap: 15 selected of rows 6-7, truth rows 5-6 holds 7 of them, union 16 + 8.
    assert ciou(maps, box(5, 7, 0, 8), "adaptive").item() == 7 / 24
    assert ciou(maps, box(0, 2, 0, 8), "adaptive").item() == 0
    assert ciou(maps, box(0, 8, 0, 8), "adaptive").item() == 63 / 64


def test_votes_gain_their_fraction_and_are_no_false_positives():
    truth = torch.zeros(1, 2, 2)
    truth[0, 0] = torch.tensor([1.0, 0.5])
    top = torch.tensor([[[1.0, 1.0], [0.0, 0.0]]])
    left = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    assert ciou(top, truth, "fixed0.5").item() == 1
    assert ciou(left, truth, "fixed0.5").item() == 1 / 2.5
    assert ciou(1 - top, truth, "fixed0.5").item() == 0


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_empty_truth_scores_zero(rule, value):
    assert ciou(torch.full((1, 4, 4), value), torch.zeros(1, 8, 8), rule).item() == 0
    ramp = torch.arange(16.0).view(1, 4, 4) / 16
    assert ciou(ramp, torch.zeros(1, 8, 8), rule).item() == 0


def test_rules_of_order_ignore_a_rising_change_of_the_values():
    generator = torch.Generator().manual_seed(0)
    maps, truth = torch.rand(10, 16, 16, generator=generator), torch.rand(10, 16, 16, generator=generator) < 0.4
    for rule in ("lvs", "ezvsl", "sslalign", "adaptive"):
        assert torch.equal(ciou(maps, truth, rule), ciou(7 * maps**3 - 2, truth, rule))


@pytest.mark.parametrize("rule", RULES)
def test_arrays_tensors_one_and_many_agree(samples, rule):
    maps, truth = samples
    many = ciou(maps, truth, rule)
    as_tensor = ciou(torch.from_numpy(maps), torch.from_numpy(truth), rule)
    assert isinstance(as_tensor, torch.Tensor)
    assert as_tensor.tolist() == many.tolist() == ciou(torch.from_numpy(maps), truth, rule).tolist()
    alone = ciou(maps[2], truth[2], rule)
    assert isinstance(alone, float)
    assert alone == ciou(maps[2:3], truth[2:3], rule)[0]
    assert rule == "acl" or alone == many[2]
    assert ciou(maps[2], (truth[2] > 0).astype(np.uint8), rule) == ciou(maps[2], truth[2] > 0, rule)


def test_center_blob_at_the_published_size():
    """The median selects the disc of half the area, radius 89.4: the inscribed square of side 112 lies inside."""
    y, x = np.mgrid[:224, :224] - 111.5
    blob = np.exp(-(y**2 + x**2) / 2 / 56**2).astype(np.float32)
    square = (abs(x) < 56) & (abs(y) < 56)
    assert ciou(blob, square, "ezvsl") == pytest.approx(0.5, abs=1e-3)
    assert ciou(blob, square, "lvs") == pytest.approx(0.5, abs=1e-3)
    corner = (x < -80) & (y < -80)
    assert ciou(blob, corner, "ezvsl") == 0
    assert ciou(blob, np.ones((224, 224)), "ezvsl") == pytest.approx(0.5, abs=1e-3)


def test_ciou_refuses():
    maps, truth = torch.rand(2, 4, 4), torch.ones(2, 8, 8)
    with pytest.raises(ValueError, match="unknown rule 'median'; the rules are lvs, ezvsl"):
        ciou(maps, truth, "median")
    with pytest.raises(ValueError, match="unknown mode 'cubic'"):
        ciou(maps, truth, "lvs", mode="cubic")
    with pytest.raises(ValueError, match=r"same samples, got 1 of shape \(4, 4\) and 2 of \(8, 8\)"):
        ciou(maps[:1], truth, "lvs")
    with pytest.raises(ValueError, match="heatmap holds NaN or infinity, first in sample 1"):
        ciou(torch.stack([maps[0], maps[1] * torch.nan]), truth, "lvs")
    with pytest.raises(ValueError, match=r"truth must be in \[0, 1\], got 255.0 to 255.0"):
        ciou(maps, 255 * truth, "lvs")
    with pytest.raises(ValueError, match=r"truth must be in \[0, 1\]"):
        ciou(maps, truth * torch.nan, "lvs")
    with pytest.raises(ValueError, match="relative=True is a form of the rule \"slavc\", got rule 'lvs'"):
        ciou(maps, truth, "lvs", relative=True)
    with pytest.raises(ValueError, match="pass tau in place of raw"):
        ciou(maps, truth, "slavc", raw=True)
    with pytest.raises(ValueError, match=r"heatmap must be cosines divided by tau \(1.0\), in \[-1, 1\], got 30"):
        ciou(30 * maps / maps.max(), truth, "slavc")
    with pytest.raises(ValueError, match=r"tau \(0\) must be greater than 0"):
        ciou(maps, truth, "slavc", tau=0)
