import numpy as np
import pytest
import torch

from avssl.evaluation import RULES, ciou, localization_samples, pointing, summarize


def box(top, bottom, left, right):
    mask = torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, top:bottom, left:right] = True
    return mask


@pytest.fixture
def many():
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(40, 7, 7, generator=generator).tanh()
    return maps, torch.rand(40, 16, 16, generator=generator) < 0.4


def test_scores_of_a_hand_made_table():
    # Sample 0: the object. Sample 1: the same picture, the map stays where it was.
    maps = torch.zeros(4, 8, 8)
    maps[:, :4, :4] = 1
    here, there = box(0, 4, 0, 4), box(4, 8, 4, 8)
    truth = torch.cat([here, there, here, here])
    other = torch.cat([there, here, there, there])
    scores = summarize(localization_samples(maps, truth, ("fixed0.5",), other), torch.tensor([0, 0, 1, 1]))
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


def test_samples_are_what_each_function_says(many):
    maps, truth = many
    samples = localization_samples(maps, truth, tuple(RULES), ~truth)
    assert list(samples) == ["pointing", "truth_area", *(f"ciou_{rule}" for rule in RULES), "pointing_other"]
    for rule in RULES:
        assert torch.equal(samples[f"ciou_{rule}"], ciou(maps, truth, rule))
    assert torch.equal(samples["pointing"], pointing(maps, truth))
    assert torch.equal(samples["pointing_other"], pointing(maps, ~truth))
    assert torch.equal(samples["truth_area"], truth.double().mean(dim=(1, 2)))
    from_arrays = localization_samples(maps.numpy(), truth.numpy())
    assert torch.equal(from_arrays["ciou_ezvsl"], samples["ciou_ezvsl"])


def test_mode_and_tau_reach_every_rule(many):
    maps, truth = many
    samples = localization_samples(maps / 0.03, truth, ("slavc", "lvs"), mode="bicubic", tau=0.03)
    assert torch.equal(samples["ciou_slavc"], ciou(maps, truth, "slavc", mode="bicubic"))
    assert torch.equal(samples["ciou_lvs"], ciou(maps, truth, "lvs", mode="bicubic"))
    assert torch.equal(samples["pointing"], pointing(maps, truth, "bicubic"))


def test_scores_do_not_depend_on_order_or_chunks(many, monkeypatch):
    maps, truth = many
    groups = torch.arange(40) // 2
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    whole = summarize(localization_samples(maps, truth, tuple(RULES), ~truth), groups)
    moved = summarize(localization_samples(maps[order], truth[order], tuple(RULES), ~truth[order]), groups[order])
    assert moved == pytest.approx(whole)
    monkeypatch.setattr("avssl.evaluation.localization.chunks._CHUNK", 3 * 256)
    assert summarize(localization_samples(maps, truth, tuple(RULES), ~truth), groups) == pytest.approx(whole)


def test_half_precision_and_integers_are_read(many):
    maps, truth = many
    exact = localization_samples(maps.half().float(), truth)
    assert torch.equal(localization_samples(maps.half(), truth.to(torch.uint8))["ciou_ezvsl"], exact["ciou_ezvsl"])
    assert localization_samples(np.eye(4, dtype=np.int64)[None], np.eye(4)[None])["pointing"].item() == 1


def test_samples_refuse(many):
    maps, truth = many
    with pytest.raises(ValueError, match="unknown rule 'median'"):
        localization_samples(maps, truth, ("lvs", "median"))
    with pytest.raises(ValueError, match=r"other_objects \(1, 16, 16\) must have the shape of truth \(40, 16, 16\)"):
        localization_samples(maps, truth, other_objects=truth[:1])
    with pytest.raises(ValueError, match=r"heatmaps must be \(N, height, width\)"):
        localization_samples(maps[0, 0], truth)
    samples = localization_samples(maps, truth)
    with pytest.raises(ValueError, match="groups hold 3 ids but there are 40 samples"):
        summarize(samples, [0, 0, 0])
    with pytest.raises(ValueError, match="groups name no group"):
        summarize(samples, [-1] * 40)
