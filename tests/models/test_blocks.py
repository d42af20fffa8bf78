import pytest
import torch

from avssl.models import create_encoder
from avssl.models.blocks import delete_each_block, removable_blocks, without_blocks


@pytest.mark.parametrize(
    ("name", "options", "first", "count"),
    [
        ("avid_r2plus1d_34", {}, ["conv1", "conv2x.0", "conv2x.1", "conv2x.2", "conv3x.0"], 17),
        ("r2plus1d_18", {}, ["stem.0", "stem.1", "layer1.0", "layer1.1", "layer2.0"], 10),
        ("resnet18_image", {}, ["stem", "layer1.0", "layer1.1", "layer2.0"], 9),
        ("avid_audio_cnn_10", {}, ["conv1", "conv2x.0", "conv2x.1", "conv3x.0"], 9),
        ("small_video", {"num_blocks": (2, 8)}, ["stem", "stage1.0", "stage1.1", "stage2.0"], 11),
        ("small_audio", {}, ["stage1", "stage2", "stage3", "stage4"], 4),
    ],
)
def test_blocks_have_readable_names(name, options, first, count):
    with torch.device("meta"):
        names = list(create_encoder(name, **options).blocks())
    assert names[: len(first)] == first
    assert len(names) == count


def test_a_block_is_a_convolution_with_what_follows_it():
    encoder = create_encoder("avid_audio_cnn_10").eval()
    x = torch.randn(2, 1, 40, 33)
    stage = encoder.conv2x
    expected = stage.relu1(stage.bn1(stage.conv1(encoder.conv1(x))))
    assert torch.equal(encoder.forward_stages(x, "blocks")["conv2x.0"], expected)


def test_removable_blocks_keep_shape_and_have_a_plain_shortcut():
    small = create_encoder("small_video", num_blocks=(2, 3), width=4)
    assert removable_blocks(small) == ["stage1.1", "stage2.1", "stage2.2"]
    with torch.device("meta"):
        assert removable_blocks(create_encoder("avid_r2plus1d_10")) == ["conv2x"]
        assert removable_blocks(create_encoder("resnet18_audio"))[:3] == ["layer1.0", "layer1.1", "layer2.1"]
        assert removable_blocks(create_encoder("avid_audio_cnn_10")) == []


def test_an_encoder_without_blocks_passes_their_input_on():
    encoder = create_encoder("small_video", num_blocks=(2, 3), width=4).eval()
    x = torch.randn(2, 3, 4, 32, 32)
    blocks, whole = encoder.blocks(), encoder.forward_features(x)
    expected = x
    for name in ("stem", "stage1.0", "stage2.0", "stage2.2"):
        expected = blocks[name](expected)
    with without_blocks(encoder, ["stage1.1", "stage2.1"]):
        assert torch.equal(encoder.forward_features(x), expected)
    assert not torch.equal(whole, expected)
    with pytest.raises(RuntimeError, match="stopped"), without_blocks(encoder, ["stage1.1"]):
        raise RuntimeError("stopped")
    assert torch.equal(encoder.forward_features(x), whole)  # as before, whatever happened meanwhile
    one_each = create_encoder("avid_r2plus1d_10", stem_pool=False).eval()
    expected = one_each.pool(one_each.conv5x(one_each.conv4x(one_each.conv3x(one_each.conv1(x)))))
    with without_blocks(one_each, ["conv2x"]):
        assert torch.equal(one_each(x), expected)


def test_each_block_is_deleted_alone():
    encoder = create_encoder("small_video", num_blocks=(2, 3), width=4).eval()
    x = torch.randn(2, 3, 4, 32, 32)
    found = delete_each_block(encoder, lambda: encoder(x))
    assert list(found) == ["stage1.1", "stage2.1", "stage2.2"]
    for name, features in found.items():
        with without_blocks(encoder, [name]):
            assert torch.equal(encoder(x), features)


@pytest.mark.parametrize("name", ["stage1.0", "stage9.1", "stem"])
def test_other_blocks_cannot_be_removed(name):
    encoder = create_encoder("small_video", num_blocks=(2, 1), width=4)
    message = rf"'{name}' is not a residual block .* can be removed: stage1.1"
    with pytest.raises(ValueError, match=message), without_blocks(encoder, [name]):
        pass


def test_detail_is_one_of_two():
    with pytest.raises(ValueError, match=r"detail \('layers'\) must be"):
        create_encoder("small_audio").forward_stages(torch.randn(1, 1, 40, 33), "layers")
