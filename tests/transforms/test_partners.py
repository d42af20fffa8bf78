import numpy as np
import pytest
import torch

from avssl.core.draws import splitmix64
from avssl.transforms.partners import draw_partners


def keys(count):
    return splitmix64(torch.arange(count))


def test_partners_are_of_another_class_and_equally_often_each():
    labels = np.repeat(["a", "b", "c"], [2000, 1000, 1000])
    partners = draw_partners(keys(4000), labels, labels, [{name} for name in labels])
    assert (labels[partners] != labels).all()
    of_a = partners[:2000] - 2000
    assert of_a.min() >= 0
    assert abs(of_a.mean() - 999.5) < 40  # uniform over the 2000 others: deviation of the mean is 13
    assert len(set(of_a.tolist())) > 1200  # 2000 (1 - 1/e) = 1264 are expected


def test_partners_lend_what_is_not_in_the_scene():
    labels, lent = ["roll", "fall", "fall", "fall"], ["bell", "drum", "", "horn"]
    scenes = [{"bell", "drum"}, {"drum"}, {"horn"}, {"horn"}]
    # Clip 0 may not have the drum, which it shows, nor clip 2, which lends nothing.
    for key in keys(80).split(4):
        assert draw_partners(key, labels, lent, scenes).tolist() == [3, 0, 0, 0]


def test_a_partner_depends_on_the_key_alone():
    labels = np.array(["a", "b"] * 20)
    scenes = [{name} for name in labels]
    key = keys(40)
    partners = draw_partners(key, labels, labels, scenes)
    changed = torch.where(torch.arange(40) == 7, key, key + 1)
    assert draw_partners(changed, labels, labels, scenes)[7] == partners[7]
    assert (draw_partners(changed, labels, labels, scenes) != partners).any()


def test_clips_without_a_partner_are_named():
    with pytest.raises(ValueError, match="clip 0 of class 'a' has no partner"):
        draw_partners(keys(2), ["a", "a"], ["a", "a"], [{"a"}, {"a"}])
    with pytest.raises(ValueError, match="need one of each per clip"):
        draw_partners(keys(2), ["a"], ["a"], [{"a"}])
