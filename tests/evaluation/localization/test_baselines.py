import pytest
import torch

from avssl.evaluation import (
    center_blob,
    ciou,
    localization_samples,
    mean_prior,
    pointing,
    random_maps,
    random_object,
    summarize,
    whole_frame,
)


def disc(y, x, radius, hw=(32, 32)):
    rows, columns = torch.arange(hw[0])[:, None], torch.arange(hw[1])[None]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


def test_random_maps_are_uniform_and_a_function_of_the_seed():
    maps = random_maps(2000, (7, 5), seed=3)
    assert maps.shape == (2000, 7, 5)
    assert maps.mean().item() == pytest.approx(0.5, abs=0.01)
    assert (maps.min() >= 0) & (maps.max() < 1)
    assert torch.equal(maps[:10], random_maps(10, (7, 5), seed=3))
    assert not torch.equal(maps[:10], random_maps(10, (7, 5), seed=4))


def test_center_blob_peaks_in_the_center():
    blob = center_blob(3, (33, 65))
    assert blob.shape == (3, 33, 65)
    assert divmod(blob[0].argmax().item(), 65) == (16, 32)
    assert torch.allclose(blob, blob.flip(1, 2))


def test_center_blob_finds_a_centerd_object_and_no_other():
    truth = torch.stack([disc(15.5, 15.5, 8), disc(6, 6, 4)])
    blob = center_blob(2, (32, 32))
    assert pointing(blob, truth).tolist() == [1, 0]
    # The blob's top pixels are the disc but for the rim of equal distances that a strict rule drops.
    assert ciou(blob, truth, "adaptive")[0] > 0.9
    assert ciou(blob, truth, "adaptive")[1] == 0
    # The median rule selects 512 pixels; the disc is 208 of them.
    assert ciou(blob, truth, "ezvsl")[0] == pytest.approx(truth[0].sum().item() / 512, abs=0.01)


def test_whole_frame_points_with_the_share_of_the_area():
    truth = disc(10, 12, 6)[None]
    share = truth.double().mean().item()
    scores = summarize(localization_samples(whole_frame(1, (32, 32)), truth, rules=("lvs", "ezvsl")))
    assert scores["pointing"] == pytest.approx(share)
    assert scores["ciou_mean_lvs"] == 0
    assert scores["ciou_mean_ezvsl"] == pytest.approx(share)


def test_mean_prior_averages_other_samples():
    held_out = torch.stack([disc(8, 8, 4), disc(8, 8, 4), disc(20, 20, 4)])
    prior = mean_prior(held_out, 5)
    assert prior.shape == (5, 32, 32)
    assert prior[0, 8, 8].item() == pytest.approx(2 / 3)
    assert prior[4, 20, 20].item() == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="M > 0"):
        mean_prior(held_out[:0], 5)


def test_random_object_is_uniform_over_visible_objects():
    masks = torch.zeros(3000, 4, 32, 32, dtype=torch.bool)
    masks[:, 0], masks[:, 2] = disc(8, 8, 4), disc(24, 22, 5)
    masks[:1500, 3] = disc(8, 24, 3)
    maps, drawn = random_object(masks, seed=1)
    assert maps.shape == (3000, 32, 32)
    assert (torch.bincount(drawn[:1500], minlength=4) / 1500).tolist() == pytest.approx(
        [1 / 3, 0, 1 / 3, 1 / 3], abs=0.04
    )
    assert (torch.bincount(drawn[1500:], minlength=4) / 1500).tolist() == pytest.approx([0.5, 0, 0.5, 0], abs=0.04)
    assert torch.equal(drawn[:100], random_object(masks[:100], seed=1)[1])
    # Pointing is right exactly when the sounding object is the drawn one.
    assert torch.equal(pointing(maps, masks[:, 2]), (drawn == 2).double())


def test_random_object_selects_the_object_under_every_rule_that_can():
    ring = disc(16, 14, 9) & ~disc(16, 14, 6)  # its middle is not part of it
    masks = torch.stack([disc(9, 20, 5), ring, disc(0, 31, 12)])[:, None]
    maps, drawn = random_object(masks)
    truth = masks[:, 0]
    assert drawn.tolist() == [0, 0, 0]
    assert pointing(maps, truth).tolist() == [1, 1, 1]
    assert ciou(maps, truth, "fixed0.5").tolist() == [1, 1, 1]
    assert ciou(maps, truth, "jsa").tolist() == [1, 1, 1]
    assert (ciou(maps, truth, "adaptive") > 0.9).all()  # a plain mask scores 0
    assert ciou(truth.float(), truth, "adaptive").tolist() == [0, 0, 0]


def test_random_object_refuses_an_empty_scene():
    masks = torch.zeros(3, 2, 8, 8, dtype=torch.bool)
    masks[0, 1, 2, 2] = masks[2, 0, 2, 2] = True
    with pytest.raises(ValueError, match="no object in 1 scenes, first in row 1"):
        random_object(masks)
