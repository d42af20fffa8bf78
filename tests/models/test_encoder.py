import pytest
import torch

from avssl.models import Encoder, create_encoder


@pytest.fixture(scope="module")
def video_encoder() -> Encoder:
    with torch.device("meta"):
        return create_encoder("small_video")


@pytest.fixture(scope="module")
def audio_encoder() -> Encoder:
    with torch.device("meta"):
        return create_encoder("small_audio")


@pytest.mark.parametrize("method", ["forward", "forward_features", "forward_stages"])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 1, 8, 32, 32), r"takes \(B, 3, T, H, W\), got \(2, 1, 8, 32, 32\)\."),
        ((2, 8, 3, 32, 32), r"got \(2, 8, 3, 32, 32\)\. These look like \(B, T, 3, H, W\): use x\.transpose\(1, 2\)"),
        ((3, 8, 32, 32), r"got \(3, 8, 32, 32\)\. This looks like one clip: use x\[None\]"),
        ((2, 3), r"got \(2, 3\)\."),
    ],
)
def test_video_encoder_refuses_other_layouts(video_encoder, method, shape, message):
    with pytest.raises(ValueError, match=message):
        getattr(video_encoder, method)(torch.empty(shape, device="meta"))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3, 200, 64), r"takes \(B, 1, time, freq\), got \(2, 3, 200, 64\)\."),
        ((2, 200, 64), r"got \(2, 200, 64\)\. The channel dimension is missing: use x\[:, None\]"),
        ((2, 48000), r"got \(2, 48000\)\."),
    ],
)
def test_audio_encoder_refuses_other_layouts(audio_encoder, shape, message):
    with pytest.raises(ValueError, match=message):
        audio_encoder(torch.empty(shape, device="meta"))


def test_encoder_refuses_decoded_bytes(video_encoder):
    clip = torch.empty((2, 3, 8, 32, 32), dtype=torch.uint8, device="meta")
    with pytest.raises(ValueError, match=r"got torch\.uint8\. Pass the output of the transforms"):
        video_encoder(clip)


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_pool_reduces_all_cells(pool: str):
    encoder = create_encoder("small_audio", pool=pool)
    cells = torch.tensor([[[[1.0, 2.0, 3.0], [4.0, 5.0, 9.0]], [[-1.0, -2.0, -3.0], [-4.0, -5.0, -9.0]]]])
    expected = {"max": [[9.0, -1.0]], "mean": [[4.0, -4.0]]}[pool]
    assert encoder.pool(cells).tolist() == expected


def test_pool_of_channels_last_maps_is_the_same():
    encoder = create_encoder("small_video")
    features = torch.randn(2, 5, 2, 3, 4)
    assert torch.equal(encoder.pool(features.to(memory_format=torch.channels_last_3d)), encoder.pool(features))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_the_maximum_over_cells_and_its_gradient(memory_format):
    encoder = create_encoder("small_video", width=1, pool="max")
    features = torch.tensor([[[0.0, 3.0, 1.0, 3.0], [-2.0, -5.0, -4.0, -3.0]]]).view(1, 2, 1, 2, 2)
    features = features.contiguous(memory_format=memory_format).requires_grad_()
    pooled = encoder.pool(features)
    assert pooled.tolist() == [[3.0, -2.0]]
    pooled.backward(torch.tensor([[10.0, 20.0]]))
    assert features.grad is not None
    assert features.grad.flatten(2).tolist() == [[[0, 10, 0, 0], [20, 0, 0, 0]]]  # of equals the first, as max pooling


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_the_mean_over_cells(memory_format):
    encoder = create_encoder("small_video", width=1, pool="mean")
    features = torch.randn(3, 5, 2, 4, 3).contiguous(memory_format=memory_format)
    torch.testing.assert_close(encoder.pool(features), features.mean(dim=(2, 3, 4)))
