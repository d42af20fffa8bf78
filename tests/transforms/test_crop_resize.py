import math

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from avssl.core.draws import splitmix64, text_key, uniform
from avssl.transforms.crop_resize import AxisResize, random_crops, resample, resampling_weights

AVID = ((0.08, 1.0), (3 / 4, 4 / 3))  # area and aspect ratio of crops
SHAPES = [(48, 64), (96, 40), (31, 33), (128, 128), (20, 90)]  # one batch, one canvas


def make_keys(count: int) -> torch.Tensor:
    return splitmix64(torch.arange(count) + text_key("crop tests"))


def make_canvas(generator: torch.Generator, frames: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips of SHAPES at the top left of a canvas whose rest is noise: padding must not leak in."""
    canvas = torch.randint(0, 256, (len(SHAPES), frames, 3, 128, 136), dtype=torch.uint8, generator=generator)
    return canvas, torch.tensor(SHAPES)


def as_axis(start: list[int], length: list[int], resized: int) -> AxisResize:
    size = torch.full((len(start),), resized)
    return AxisResize(torch.tensor(start), torch.tensor(length), size, torch.zeros_like(size))


@pytest.mark.parametrize("size", [16, 40, 150])  # shrinks all crops, some, none
def test_resample_matches_torchvision_on_clips_of_different_shapes(size: int) -> None:
    video, valid_hw = make_canvas(torch.Generator().manual_seed(size))
    crops = random_crops(valid_hw, make_keys(len(SHAPES)), 0, *AVID)
    flip = torch.tensor([True, False, True, False, True])
    full = torch.full_like(crops.top, size)
    zero = torch.zeros_like(full)
    rows = resampling_weights(AxisResize(crops.top, crops.height, full, zero), size, 128)
    columns = resampling_weights(AxisResize(crops.left, crops.width, full, zero), size, 136, flip)
    output = resample(video, rows, columns, torch.ones(3), torch.zeros(3), torch.float32)
    assert output.shape == (len(SHAPES), 3, 2, size, size)
    for b, (height, width) in enumerate(SHAPES):
        clip = video[b, :, :, :height, :width]
        box = [int(t[b]) for t in (crops.top, crops.left, crops.height, crops.width)]
        expected = tv.resized_crop(clip.float(), *box, [size, size], antialias=True)
        rounded = tv.resized_crop(clip, *box, [size, size], antialias=True).float()
        if flip[b]:
            expected, rounded = tv.horizontal_flip(expected), tv.horizontal_flip(rounded)
        ours = output[b].transpose(0, 1)
        torch.testing.assert_close(ours, expected, atol=0.02, rtol=0)  # of 255
        assert (ours.round() - rounded).abs().max() <= 1  # torchvision's uint8 path rounds after each axis


def test_weights_are_the_identity_without_resizing() -> None:
    weights = resampling_weights(as_axis([3, 0], [5, 5], 5), 5, 10)
    torch.testing.assert_close(weights[0], torch.eye(10)[3:8])
    torch.testing.assert_close(weights[1], torch.eye(10)[:5])


def test_weights_of_halving_are_the_triangle() -> None:
    # 8 -> 4: centers at 1, 3, 5, 7; taps 1/4 away 0.75, 3/4 away 0.25; cut and renormalized at the ends.
    weights = resampling_weights(as_axis([0], [8], 4), 4, 8)[0]
    torch.testing.assert_close(weights[1], torch.tensor([0, 0.125, 0.375, 0.375, 0.125, 0, 0, 0]))
    torch.testing.assert_close(weights[0], torch.tensor([3, 3, 1, 0, 0, 0, 0, 0]) / 7)


def test_flip_reverses_only_the_clips_it_names() -> None:
    axis = as_axis([1, 1], [9, 9], 4)
    plain = resampling_weights(axis, 4, 12)
    flipped = resampling_weights(axis, 4, 12, torch.tensor([True, False]))
    torch.testing.assert_close(flipped[0], plain[0].flip(0))
    torch.testing.assert_close(flipped[1], plain[1])


def test_random_crops_keep_to_their_ranges_and_their_clip() -> None:
    count = 20_000
    valid_hw = torch.tensor([240, 320]).expand(count, 2)
    crops = random_crops(valid_hw, make_keys(count), 0, *AVID)
    area = (crops.height * crops.width).double() / (240 * 320)
    ratio = crops.width / crops.height
    assert (crops.top >= 0).all()
    assert (crops.left >= 0).all()
    assert (crops.top + crops.height <= 240).all()
    assert (crops.left + crops.width <= 320).all()
    assert 0.079 < area.min() < 0.085
    assert 0.98 < area.max() <= 1.0
    assert 0.74 < ratio.min() < 0.77
    assert 1.30 < ratio.max() < 1.35
    # Both ends of the free space are reached, and the place is uniform in it.
    free = (240 - crops.height).double()
    assert (crops.top == 0).any()
    assert (crops.top == free).any()
    place = (crops.top / free)[free > 50]
    assert abs(place.mean() - 0.5) < 0.01


def test_random_crops_follow_torchvisions_rule() -> None:
    """The same draws through an independent loop over torchvision's rule give the same rectangles."""
    shapes = [(240, 320), (60, 300), (300, 70), (2, 90), (7, 7)] * 40
    key = make_keys(len(shapes))
    crops = random_crops(torch.tensor(shapes), key, 3, (0.3, 1.0), AVID[1])
    unit = uniform(key, "crop/3", 40).view(-1, 10, 4).tolist()
    fallbacks = 0
    for b, (height, width) in enumerate(shapes):
        for area_draw, ratio_draw, top_draw, left_draw in unit[b]:
            area = height * width * (0.3 + 0.7 * area_draw)
            aspect = math.exp(math.log(0.75) + ratio_draw * math.log((4 / 3) / 0.75))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                i, j = int(top_draw * (height - h + 1)), int(left_draw * (width - w + 1))
                break
        else:
            fallbacks += 1
            h = round(width / 0.75) if width / height < 0.75 else height
            w = round(height * 4 / 3) if width / height > 4 / 3 else width
            i, j = (height - h) // 2, (width - w) // 2
        assert (i, j, h, w) == tuple(int(t[b]) for t in (crops.top, crops.left, crops.height, crops.width))
    assert fallbacks > 10


def test_each_view_draws_its_own_crop() -> None:
    valid_hw = torch.tensor([[240, 320]])
    first, second = (random_crops(valid_hw, make_keys(1), view, *AVID) for view in (0, 1))
    assert (first.top, first.left, first.height) != (second.top, second.left, second.height)
