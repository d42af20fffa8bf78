import pytest
import torch

from avssl.media import Planes
from avssl.media.planes import rgb_to_ycc, to_planes, to_rgb


def plain(color, height=6, width=8):
    return torch.tensor(color, dtype=torch.uint8)[:, None, None].expand(3, height, width)


@pytest.mark.parametrize(
    ("color", "luma", "cb", "cr"),
    [
        ((0, 0, 0), 16, 128, 128),
        ((255, 255, 255), 235, 128, 128),
        ((255, 0, 0), 63, 102, 240),  # 16 + 219 * 0.2126; 128 - 112 * 0.2126 / 0.9278; 128 + 112
        ((0, 0, 255), 32, 240, 118),
    ],
)
def test_colors_are_those_of_bt709(color, luma, cb, cr):
    planes = to_planes(plain(color))
    assert planes.luma.unique().tolist() == [luma]
    assert [plane.unique().item() for plane in planes.chroma] == [cb, cr]
    assert (to_rgb(planes).int() - plain(color).int()).abs().max() <= 2


@pytest.mark.parametrize("size", [(1, 1), (5, 8), (6, 7), (7, 5)])
def test_odd_sizes_there_and_back(size):
    planes = to_planes(plain((200, 100, 50), *size))
    assert planes.size == size
    assert (to_rgb(planes).int() - plain((200, 100, 50), *size).int()).abs().max() <= 2


def test_color_is_the_mean_of_its_pixels():
    picture = torch.zeros(3, 2, 4, dtype=torch.uint8)
    picture[0, 0, 0] = 255
    quarter = rgb_to_ycc(torch.tensor([255.0, 0, 0]))[2] - 128
    assert to_planes(picture).chroma[1].tolist() == [[round(float(128 + quarter / 4)), 128]]


def test_paste_puts_a_picture_in_its_place():
    canvas = Planes.of(16, 8, 12)
    canvas.paste(to_planes(plain((255, 0, 0), 4, 4)), 2, 6)
    assert (canvas.luma == 63).nonzero().tolist() == [[y, x] for y in range(2, 6) for x in range(6, 10)]
    assert (canvas.chroma[1] == 240).nonzero().tolist() == [[y, x] for y in (1, 2) for x in (3, 4)]


def test_planes_of_other_sizes_and_types_are_refused():
    luma, chroma = torch.zeros(4, 6, dtype=torch.uint8), torch.zeros(2, 2, 3, dtype=torch.uint8)
    Planes(luma, chroma)
    with pytest.raises(ValueError, match=r"chroma \(2, ceil\(H / 2\)"):
        Planes(luma, chroma[:, :1])
    with pytest.raises(ValueError, match=r"must be uint8, got torch.float32"):
        Planes(luma.float(), chroma)
