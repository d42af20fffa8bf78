import numpy as np
import pytest
import torch

from avssl.evaluation import (
    RULES,
    ciou,
    group_minimum,
    localization_samples,
    localization_scores,
    pointing,
    success_auc,
    success_rate,
    summarize,
)
from avssl.evaluation.localization_metrics import THRESHOLDS, normalize_maps, resize_maps


def box(top, bottom, left, right, hw=(8, 8)):
    mask = torch.zeros(1, *hw, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


def reference_resize(image, height, width):
    """Bilinear with half-pixel centres, one pixel at a time."""
    h, w = image.shape
    out = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            y = min(max((i + 0.5) * h / height - 0.5, 0), h - 1)
            x = min(max((j + 0.5) * w / width - 0.5, 0), w - 1)
            top, left = int(y), int(x)
            below, right = min(top + 1, h - 1), min(left + 1, w - 1)
            dy, dx = y - top, x - left
            out[i, j] = (1 - dy) * ((1 - dx) * image[top, left] + dx * image[top, right]) + dy * (
                (1 - dx) * image[below, left] + dx * image[below, right]
            )
    return out


def reference_ciou(p, g, rule):
    """One sample, from the definitions, pixel by pixel."""
    flat = np.sort(p.reshape(-1))
    n = int((g != 0).sum())
    middle = flat[len(flat) // 2]
    selects = {
        "lvs": lambda v: v > middle,
        "ezvsl": lambda v: v >= middle,
        "adaptive": lambda v: v > flat[len(flat) - n],
        "fixed0.5": lambda v: v >= 0.5,
        "jsa": lambda v: v >= 0.6,
    }[rule]
    top = bottom = 0.0
    for value, truth in zip(p.reshape(-1), g.reshape(-1), strict=True):
        bottom += truth
        if selects(value):
            top += truth
            bottom += truth == 0
    return top / bottom


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("votes", [False, True])
def test_ciou_matches_loop_reference(rule, votes):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(6, 4, 5, generator=generator)
    truth = (torch.rand(6, 12, 10, generator=generator) < 0.3).float()
    if votes:
        truth = truth * torch.randint(1, 3, truth.shape, generator=generator) / 2
    result = ciou(maps, truth, rule)
    p = normalize_maps(maps, (12, 10)).numpy()
    expected = [reference_ciou(p[i], truth[i].numpy(), rule) for i in range(6)]
    assert result.dtype == torch.float64
    assert result.tolist() == pytest.approx(expected, abs=1e-12)
    assert min(expected) > 0


def test_maps_are_resized_with_half_pixel_centres_and_min_max_normalised():
    image = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = reference_resize(image[0].numpy(), 7, 11)
    assert np.allclose(resize_maps(image, (7, 11))[0], expected, atol=1e-6)
    normalised = normalize_maps(image * 5 - 3, (7, 11))[0].numpy()
    assert np.allclose(normalised, (expected - expected.min()) / (expected.max() - expected.min()), atol=1e-5)
    assert (normalised.min(), normalised.max()) == (0, 1)


@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -3.7])
def test_constant_map_is_left_untouched(value):
    maps = torch.full((2, 7, 7), value)
    assert (normalize_maps(maps, (50, 37)) == torch.tensor(value)).all()


def test_whole_frame_is_nothing_to_strict_rules_and_everything_to_inclusive_ones():
    maps, truth = torch.ones(1, 7, 7), box(0, 4, 0, 4)
    assert ciou(maps, truth, "lvs").item() == 0
    assert ciou(maps, truth, "adaptive").item() == 0
    for rule in ("ezvsl", "fixed0.5", "jsa"):
        assert ciou(maps, truth, rule).item() == 16 / 64
    assert ciou(0.4 * maps, truth, "fixed0.5").item() == 0  # untouched: no value reaches 0.5


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
    ramp = torch.arange(16.0).view(1, 4, 4)
    assert ciou(ramp, torch.zeros(1, 8, 8), rule).item() == 0


def test_pointing_looks_at_the_peak():
    maps = torch.zeros(2, 4, 4)
    maps[:, 1, 2] = 1
    truth = torch.cat([box(2, 4, 4, 6), box(4, 8, 0, 8)])
    assert pointing(maps, truth).tolist() == [1, 0]


@pytest.mark.parametrize("value", [0.0, 0.1, -2.0])
def test_pointing_of_a_constant_map_is_the_share_of_the_area(value):
    truth = box(3, 20, 5, 17, hw=(30, 41))
    assert pointing(torch.full((1, 7, 7), value), truth).item() == pytest.approx(17 * 12 / (30 * 41))


def test_pointing_averages_over_tied_peaks():
    maps = torch.zeros(1, 8, 8)
    maps[0, 0, 0] = maps[0, 7, 7] = maps[0, 7, 6] = 0.7
    assert pointing(maps, box(6, 8, 6, 8)).item() == pytest.approx(2 / 3)


def test_auc_is_the_trapezoid_over_21_thresholds():
    # A value of 1 passes all 21 thresholds, 0 only the first: area 1 and half of the first step.
    assert success_auc(torch.tensor([1.0], dtype=torch.float64)) == pytest.approx(1)
    assert success_auc(torch.tensor([0.0], dtype=torch.float64)) == pytest.approx(0.025)
    # 0.32 passes 0, 0.05 .. 0.30: seven ones, so six whole steps and half of the seventh.
    assert success_auc(torch.tensor([0.32], dtype=torch.float64)) == pytest.approx(0.05 * 6.5)
    assert success_auc(torch.tensor([0.32, 1.0], dtype=torch.float64)) == pytest.approx((0.325 + 1) / 2)


def test_thresholds_are_computed_in_double():
    """0.05 * 3 is 0.15000000000000002, so a cIoU of 0.15 does not pass it."""
    assert THRESHOLDS[3] > 0.15
    assert success_auc(torch.tensor([0.15], dtype=torch.float64)) == pytest.approx(0.05 * 2.5)
    ladder = torch.arange(21, dtype=torch.float64) / 20
    exact = np.mean([0.05 * (i + 0.5) if i < 20 else 1.0 for i in range(21)])
    # The values i / 20 below their own 0.05 * i (i = 3, 6, 7, 12, 14, 17, 19) lose a step each.
    lost = [i for i in range(21) if i / 20 < 0.05 * i]
    assert lost
    assert success_auc(ladder) == pytest.approx(exact - 0.05 * len(lost) / 21)


def test_success_counts_one_half():
    assert success_rate(torch.tensor([0.5, 0.49999, 1.0, 0.0], dtype=torch.float64)) == 0.5


def test_a_group_counts_only_if_every_member_does():
    values = torch.tensor([0.9, 0.8, 0.9, 0.4, 0.1, 0.6], dtype=torch.float64)
    groups = ["a", "b", "a", "b", "", "c"]
    assert group_minimum(values, groups).tolist() == pytest.approx([0.9, 0.4, 0.6])
    assert group_minimum(values, torch.tensor([5, 7, 5, 7, -1, 2])).tolist() == pytest.approx([0.9, 0.4, 0.6])


def test_scores_of_a_hand_made_table():
    # Sample 0: the object. Sample 1: the same picture, the map stays where it was.
    maps = torch.zeros(4, 8, 8)
    maps[:, :4, :4] = 1
    here, there = box(0, 4, 0, 4), box(4, 8, 4, 8)
    truth = torch.cat([here, there, here, here])
    other = torch.cat([there, here, there, there])
    groups = torch.tensor([0, 0, 1, 1])
    scores = localization_scores(maps, truth, groups, rules=("fixed0.5",), other_objects=other)
    assert scores == pytest.approx(
        {
            "n": 4,
            "pointing": 0.75,
            "pointing_other": 0.25,
            "truth_area": 0.25,
            "num_groups": 2,
            "ciou_success_fixed0.5": 0.75,
            "ciou_mean_fixed0.5": 0.75,
            "auc_fixed0.5": (3 * 1 + 0.025) / 4,
            "iiou_fixed0.5": 0.5,
            "iauc_fixed0.5": (0.025 + 1) / 2,
        }
    )


def test_scores_do_not_depend_on_order_or_chunks(monkeypatch):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(40, 7, 7, generator=generator)
    truth = torch.rand(40, 16, 16, generator=generator) < 0.4
    groups = torch.arange(40) // 2
    order = torch.randperm(40, generator=generator)
    whole = localization_scores(maps, truth, groups, rules=tuple(RULES), other_objects=~truth)
    moved = localization_scores(
        maps[order], truth[order], groups[order], rules=tuple(RULES), other_objects=~truth[order]
    )
    assert moved == pytest.approx(whole)
    monkeypatch.setattr("avssl.evaluation.localization_metrics._CHUNK", 3 * 256)
    assert localization_scores(maps, truth, groups, rules=tuple(RULES), other_objects=~truth) == pytest.approx(whole)


def test_scores_ignore_a_rising_change_of_the_maps_values():
    generator = torch.Generator().manual_seed(0)
    maps, truth = torch.rand(10, 16, 16, generator=generator), torch.rand(10, 16, 16, generator=generator) < 0.4
    for rule in ("lvs", "ezvsl", "adaptive"):
        assert torch.equal(ciou(maps, truth, rule), ciou(7 * maps**3 - 2, truth, rule))
    assert torch.equal(pointing(maps, truth), pointing(maps + 4, truth))


def test_samples_summarise_to_the_scores():
    generator = torch.Generator().manual_seed(0)
    maps, truth = torch.rand(10, 4, 4, generator=generator), torch.rand(10, 16, 16, generator=generator) < 0.4
    samples = localization_samples(maps, truth)
    assert {name: values.shape for name, values in samples.items()} == dict.fromkeys(
        ["pointing", "truth_area", "ciou_adaptive", "ciou_ezvsl"], (10,)
    )
    assert summarize(samples) == localization_scores(maps, truth)
    assert torch.equal(samples["ciou_ezvsl"], ciou(maps, truth, "ezvsl"))


def test_localization_refuses():
    maps, truth = torch.rand(2, 4, 4), torch.ones(2, 8, 8)
    with pytest.raises(ValueError, match="unknown rule 'median'; the rules are lvs, ezvsl"):
        ciou(maps, truth, "median")
    with pytest.raises(ValueError, match=r"same N > 0, got \(1, 4, 4\) and \(2, 8, 8\)"):
        ciou(maps[:1], truth, "lvs")
    with pytest.raises(ValueError, match="first in sample 1"):
        pointing(torch.stack([maps[0], maps[1] * torch.nan]), truth)
    with pytest.raises(ValueError, match=r"truth must be in \[0, 1\]"):
        ciou(maps, 255 * truth, "lvs")
    with pytest.raises(ValueError, match="groups hold 3 ids but there are 2 samples"):
        localization_scores(maps, truth, groups=[0, 0, 0])
    with pytest.raises(ValueError, match="groups name no group"):
        localization_scores(maps, truth, groups=[-1, -1])
    with pytest.raises(ValueError, match="other_objects"):
        localization_scores(maps, truth, other_objects=truth[:1])
