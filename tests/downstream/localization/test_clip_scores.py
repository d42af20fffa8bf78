import numpy as np
import pytest
import torch

from avssl.downstream.localization import TRAINED, heatmap_clips, measure_localization
from avssl.downstream.localization.maps import own_maps
from avssl.hub.pretrained import from_pretrained
from avssl.transforms.corruptions import Corruption


@pytest.fixture(scope="module")
def measure(shapes, release):
    return heatmap_clips(from_pretrained(release, crop="full"), shapes)


def test_clean_scores_are_those_of_the_table(measure, shapes, release):
    table = measure_localization(from_pretrained(release, crop="full"), shapes, progress=False)
    clean = measure.run(None)
    assert clean["pointing"].mean() == pytest.approx(table.rows[TRAINED]["pointing"])
    assert clean["mean cIoU (adaptive)"].mean() == pytest.approx(table.rows[TRAINED]["ciou_mean_adaptive"])
    assert torch.equal(measure.maps, table.maps[TRAINED])
    assert len(measure.rows) == len(clean["pointing"]) == table.about["n"]
    center = table.rows["center blob"]
    assert measure.baselines["center blob"]["pointing"] == pytest.approx(center["pointing"])
    assert next(iter(measure.baselines)) == "chance"
    assert measure.baselines["chance"]["mean cIoU (adaptive)"] == table.rows["random map"]["ciou_mean_adaptive"]


def test_corruptions_reach_the_maps(measure):
    clean = measure.run(None)
    same = measure.run(Corruption("blur", 0))
    assert all(np.array_equal(same[name], values) for name, values in clean.items())
    for name in ("pixel_noise", "audio_noise"):
        maps = own_maps(measure.pretrained, measure.clips, measure.instants, corruption=Corruption(name, 5)).maps
        assert not torch.allclose(maps[TRAINED], measure.maps, atol=1e-3)
    assert set(measure.streams["pointing"]) == {"video", "audio"}


def test_a_cropped_frame_raises(shapes, release):
    with pytest.raises(ValueError, match="localization needs the whole frame"):
        heatmap_clips(from_pretrained(release), shapes)
