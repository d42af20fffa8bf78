import av
import numpy as np
import pytest
import torch

from avssl.core.batch import Batch, BatchIndex
from avssl.transforms import ClipTransform, LogSpectrogram, VideoAugment, VideoEval
from avssl.transforms.planes import planes_to_rgb


def random_planes(batch=3, frames=2, height=10, width=14):
    generator = torch.Generator().manual_seed(0)
    luma = torch.randint(0, 256, (batch, frames, 1, height, width), generator=generator, dtype=torch.uint8)
    half = (height + 1) // 2, (width + 1) // 2
    chroma = torch.randint(0, 256, (batch, frames, 2, *half), generator=generator, dtype=torch.uint8)
    return luma, chroma


def test_primary_colors_by_the_formulas_of_jpeg():
    """ITU-T T.871: Y, Cb, Cr of red, green, blue, white, black, in full range."""
    red_green_blue = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [0, 0, 0]])
    planes = torch.tensor([[76, 85, 255], [150, 44, 21], [29, 255, 107], [255, 128, 128], [0, 128, 128]])
    luma = planes[:, :1].to(torch.uint8).view(5, 1, 1, 1, 1).expand(5, 1, 1, 4, 6)
    chroma = planes[:, 1:].to(torch.uint8).view(5, 1, 2, 1, 1).expand(5, 1, 2, 2, 3)
    rgb = planes_to_rgb(luma, chroma).int()
    assert rgb.shape == (5, 1, 3, 4, 6)
    assert (rgb - red_green_blue.view(5, 1, 3, 1, 1)).abs().max() <= 2


def test_equals_ffmpegs_conversion():
    luma, chroma = random_planes(batch=1, frames=1, height=48, width=64)
    flat = torch.cat([luma.flatten(), chroma[0, 0, 0].flatten(), chroma[0, 0, 1].flatten()]).numpy()
    frame = av.VideoFrame.from_ndarray(flat.reshape(72, 64), format="yuvj420p")
    theirs = torch.from_numpy(frame.to_ndarray(format="rgb24")).movedim(-1, 0)
    difference = (planes_to_rgb(luma, chroma)[0, 0].int() - theirs.int()).abs()
    assert difference.max() <= 3  # its tables are of fixed point
    assert difference.float().mean() < 0.8


@pytest.mark.parametrize("size", [(10, 14), (9, 13), (1, 1)])
def test_each_chroma_value_holds_for_four_pixels(size):
    luma, chroma = random_planes(height=size[0], width=size[1])
    rgb = planes_to_rgb(luma, chroma)
    y, x = size[0] - 1, size[1] - 1
    alone = planes_to_rgb(luma[..., y : y + 1, x : x + 1], chroma[..., y // 2 : y // 2 + 1, x // 2 : x // 2 + 1])
    assert torch.equal(rgb[..., y : y + 1, x : x + 1], alone)


def test_parts_make_the_whole(monkeypatch):
    luma, chroma = random_planes(batch=5)
    whole = planes_to_rgb(luma, chroma)
    monkeypatch.setattr("avssl.transforms.planes._CHUNK_BYTES", {"cpu": 1})
    assert torch.equal(planes_to_rgb(luma, chroma), whole)


def test_refuses_planes_that_do_not_fit():
    luma, chroma = random_planes()
    with pytest.raises(ValueError, match="chroma must be"):
        planes_to_rgb(luma, chroma[..., :-1])


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_of_planes_becomes_what_its_rgb_becomes(training):
    luma, chroma = random_planes(batch=2, frames=3, height=20, width=24)
    index = BatchIndex(*(torch.arange(2) for _ in range(3)))
    hw, sound = torch.tensor([[20, 24], [16, 18]]), torch.randn(2, 24_000)
    transform = ClipTransform(VideoAugment(8), VideoEval(8), LogSpectrogram()).train(training)
    from_planes = transform(Batch(luma, sound, index, hw, chroma))
    from_rgb = transform(Batch(planes_to_rgb(luma, chroma), sound, index, hw))
    assert torch.equal(from_planes.video, from_rgb.video)
    assert np.allclose(from_planes.audio, from_rgb.audio)
