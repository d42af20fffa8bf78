"""From maps to the numbers of a table, with their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from avssl.downstream.localization import scores
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.negatives import rejection, under_negative_audio
from avssl.evaluation import bootstrap_interval, localization_samples, summarize

RULES = ("adaptive", "ezvsl", "acl")


@pytest.fixture
def masks():
    masks = torch.zeros(8, 8, 8)
    for number in range(8):
        masks[number, : 3 + number % 3, number % 4 : 4 + number % 4] = 1
    return masks


def instants_of(masks):
    return [Instant(number, 0, None, mask.clone, (8, 8)) for number, mask in enumerate(masks)]


def test_parts_score_as_the_whole(masks, monkeypatch):
    maps = torch.rand(8, 4, 4, generator=torch.Generator().manual_seed(1)) + masks[:, ::2, ::2]
    monkeypatch.setattr(scores, "_PART", 3)
    done = []
    found = scores.score_rows(instants_of(masks), {"x": maps.__getitem__}, RULES, done.append)["x"]
    assert done == [3, 3, 2]
    expected = localization_samples(maps, masks, RULES)
    assert found.keys() == expected.keys()
    for name, values in expected.items():  # the threshold of acl, too, is one for the whole set
        assert torch.equal(found[name], values), name


def test_headlines_are_the_numbers_of_the_table(masks):
    groups = ["a", "a", "b", "b", None, None, "c", "c"]
    samples = localization_samples(masks + 0.2 * masks.roll(1, dims=0), masks, RULES)
    samples = {name: values * torch.linspace(0.4, 1, 8) for name, values in samples.items()}
    rows, intervals = scores.table_rows({"x": samples}, groups, np.arange(8), seed=3)
    assert rows["x"] == summarize(samples, groups)
    single, grouped = scores.headlines(samples, groups)
    for values in (single, grouped):
        for name, each in values.items():
            assert each.mean() == pytest.approx(rows["x"][name], abs=1e-12), name
            assert intervals["x"][name] == pytest.approx(bootstrap_interval(each, seed=3), abs=1e-12)
    assert {len(each) for each in grouped.values()} == {3}
    assert intervals["x"].keys() == {"pointing"} | {
        f"{name}_{rule}" for name in ("ciou_success", "auc", "iiou", "iauc") for rule in RULES
    }


def test_differences_are_paired():
    def samples(values):
        return {"pointing": torch.tensor(values, dtype=torch.float64)}

    hits = [1.0, 1.0, 0.0, 1.0] * 10
    table = {"ours": samples(hits), "same": samples(hits), "worse": samples([0.0] * 40)}
    found = scores.paired_differences(table, "ours", None, np.arange(40), seed=0)
    assert found.keys() == {"same", "worse"}
    assert found["same"]["pointing"] == {"difference": 0.0, "interval": (0.0, 0.0)}  # though each for itself varies
    assert found["worse"]["pointing"]["difference"] == 0.75
    low, high = found["worse"]["pointing"]["interval"]
    assert 0.55 < low < 0.75 < high < 0.92


def test_curves_fall_to_what_auc_and_success_say():
    samples = {"pointing": torch.zeros(4), "ciou_x": torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=torch.float64)}
    curve = scores.success_curves(samples)["x"]
    assert (curve[0], curve[10], curve[20]) == (1.0, 0.5, 0.25)
    assert sum(curve) / 20 - (curve[0] + curve[20]) / 40 == pytest.approx(
        summarize({**samples, "pointing": samples["pointing"].double()})["auc_x"]
    )


def test_a_confidence_that_tells_sources_apart_has_full_precision():
    positive = torch.tensor([True, False, True, False, True])
    maps = torch.full((5, 2, 2), -0.9)
    maps[:, 0, 0] = torch.tensor([0.9, 0.1, 0.8, 0.2, 0.7])
    samples = {name: {"ciou_x": torch.ones(3, dtype=torch.float64)} for name in ("trained model", "random-init model")}
    flat = torch.zeros(5, 2, 2)
    found, intervals = rejection({"trained model": maps, "random-init model": flat}, positive, samples, (8, 8), 0)
    assert found["trained model"]["ap_peak"] == found["trained model"]["ap_top_quarter"] == 1
    assert found["trained model"]["loc_acc_x"] == found["trained model"]["max_f1_x"] == 1
    assert found["random-init model"]["ap_peak"] == found["random-init model"]["share_of_sources"] == 0.6
    assert intervals["trained model"]["ap_peak"] == (1, 1)  # whatever is drawn, all sources stand above
    low, high = intervals["random-init model"]["ap_peak"]  # the share of sources in a resample of 5
    assert low <= 0.2
    assert high == 1
    assert rejection({"trained model": maps}, torch.ones(5, dtype=torch.bool), samples, (8, 8), 0) == ({}, {})


def test_activations_beyond_one_keep_their_order():
    positive = torch.tensor([True, False])
    maps = torch.tensor([[[900.0, 1.0]], [[3.0, 1.0]]])
    samples = {"image only, own tower": {"pointing": torch.ones(1)}}
    found, _ = rejection({"image only, own tower": maps}, positive, samples, (4, 4), 0)
    assert found["image only, own tower"]["ap_top_quarter"] == 1


def test_what_stays_bright_in_silence_is_counted():
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    instants = instants_of(mask.repeat(4, 1, 1))
    maps = {"ours": mask.repeat(4, 1, 1), "deaf": mask.repeat(4, 1, 1), "silent": torch.zeros(4, 4, 4)}
    heard = under_negative_audio(maps, instants, "ours", ["silent"])
    assert (heard["threshold"], heard["mean_ciou"]) == (0, 1)
    assert heard["by_sound"].keys() == {"silent", "all"}
    assert (heard["by_sound"]["silent"]["pia"], heard["by_sound"]["all"]["f_loc"]) == (0, 1)
    deaf = under_negative_audio(maps, instants, "ours", ["deaf"])
    assert (deaf["threshold"], deaf["mean_ciou"]) == (1, 0)  # a threshold above what silence shows hides it all


def test_votes_are_kept_as_halves():
    votes = torch.full((2, 2), 0.5)
    instants = [Instant(0, 0, None, votes.clone, (2, 2))]
    maps = {"ours": torch.ones(1, 2, 2), "silent": torch.zeros(1, 2, 2)}
    assert under_negative_audio(maps, instants, "ours", ["silent"])["mean_ciou"] == 1
