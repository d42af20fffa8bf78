import pytest
import torch
from torch.nn import functional as F

from avssl.models import StagePooling, create_encoder


@pytest.mark.parametrize(("channels", "side"), [(64, 12), (128, 8), (256, 6), (512, 4)])
def test_the_default_grid_is_that_of_avid(channels, side):
    assert StagePooling().grid("video", (channels, 8, 56, 56)) == (1, side, side)
    assert StagePooling().grid("audio", (channels, 50, 65)) == (side, side)


def test_grid_keeps_within_the_map_and_has_a_cell():
    assert StagePooling().grid("video", (64, 2, 3, 56)) == (1, 3, 12)
    assert StagePooling(max_features=10).grid("audio", (64, 50, 65)) == (1, 1)
    assert StagePooling(max_features=512 * 8, keep_time=True).grid("video", (512, 4, 7, 7)) == (2, 2, 2)
    # 64 ** (1 / 3) is a little less than 4
    assert StagePooling(max_features=64, keep_time=True).grid("video", (1, 9, 9, 9)) == (4, 4, 4)


@torch.inference_mode()
def test_the_last_stages_are_pooled():
    maps = create_encoder("small_video", width=4).eval().forward_stages(torch.randn(2, 3, 4, 32, 32))
    stages = StagePooling(2, "mean", 8 * 9).pool_stages("video", maps)
    assert list(stages) == ["stage1", "stage2"]
    torch.testing.assert_close(stages["stage1"], F.adaptive_avg_pool3d(maps["stage1"], (1, 3, 3)))
    torch.testing.assert_close(stages["stage2"], F.adaptive_avg_pool3d(maps["stage2"], (1, 2, 2)))
    assert list(StagePooling(9).pool_stages("video", maps)) == ["stem", "stage1", "stage2"]


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"max_features \(0\)"):
        StagePooling(max_features=0)
    with pytest.raises(ValueError, match=r"how \('median'\)"):
        StagePooling(how="median")
