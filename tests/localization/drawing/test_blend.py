import pytest
import torch

from avssl.localization import overlay_image
from avssl.localization.drawing.blend import blend, enlarge
from avssl.reports.figures import color_table, contact_sheet, text_image

GRAY = torch.full((3, 40, 60), 100, dtype=torch.uint8)


def hot_corner():
    heat = torch.zeros(4, 6)
    heat[0, 5] = 1
    return heat


def test_heat_lights_the_right_place():
    picture = overlay_image(GRAY, hot_corner(), opacity=1.0)
    assert picture.shape == (3, 40, 60)
    hottest = color_table("inferno")[255]
    assert torch.allclose(picture[:, 0, 59].float(), hottest, atol=2)
    # The other corners show the dimmed picture.
    assert picture[:, 39, 0].tolist() == picture[:, 0, 0].tolist() == [90, 90, 90]


def test_alpha_zero_draws_nothing():
    assert (overlay_image(GRAY, hot_corner(), opacity=0.0) == 90).all()


def test_scale_is_shared_and_absolute():
    weak, strong = 0.2 * hot_corner(), 0.8 * hot_corner()
    own = [overlay_image(GRAY, heat) for heat in (weak, strong)]
    assert torch.equal(*own)  # its own minimum and maximum hide the difference
    shared = [overlay_image(GRAY, heat, scale=(0.0, 0.8)) for heat in (weak, strong)]
    assert torch.equal(shared[1], own[1])
    change = [(picture.float() - 90).abs().sum().item() for picture in shared]
    assert change[0] < 0.3 * change[1]


def test_constant_map_draws_nothing():
    assert (overlay_image(GRAY, torch.full((3, 3), 0.4)) == 90).all()


def test_each_frame_has_its_own_map():
    frames = GRAY.expand(2, -1, -1, -1)
    heat = torch.stack([hot_corner(), torch.zeros(4, 6)])
    drawn = blend(frames, heat, (0, 1))
    assert torch.equal(drawn[0], overlay_image(GRAY, hot_corner()))
    assert (drawn[1] == 90).all()


def test_truth_and_boxes_are_outlined():
    mask = torch.zeros(40, 60, dtype=torch.bool)
    mask[10:20, 20:35] = True
    for picture in (
        overlay_image(GRAY, hot_corner(), opacity=0, truth=mask, upscale=2),
        overlay_image(GRAY, hot_corner(), opacity=0, boxes=torch.tensor([[20, 10, 35, 20]]), upscale=2),
    ):
        assert picture.shape == (3, 80, 120)
        assert (picture[:, 20, 40:70] == 255).all()
        assert (picture[:, 20:40, 69] == 255).all()
        assert (picture[:, 19, 40:70] == 0).all()
        assert (picture[:, 30, 55] == 90).all()  # the inside stays
        assert (picture[:, 10, 10] == 90).all()


def test_enlarging_keeps_the_picture():
    picture = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    picture[:, :, :2] = 200
    enlarged = enlarge(picture, 8)
    assert enlarged.shape == (1, 3, 32, 32)
    assert (enlarged[:, :, :8] >= 198).all()
    assert (enlarged[:, :, 24:] <= 2).all()
    assert enlarge(picture, 1) is picture


def test_contact_sheet_places_pictures_in_rows():
    images = [torch.full((3, 10, 20), value, dtype=torch.uint8) for value in (10, 20, 30)]
    sheet = contact_sheet(images, 2, gap=4)
    assert sheet.shape == (3, 4 + 2 * 14, 4 + 2 * 24)
    assert [sheet[0, 5, 5], sheet[0, 5, 5 + 24], sheet[0, 5 + 14, 5], sheet[0, 5 + 14, 5 + 24]] == [10, 20, 30, 255]
    assert (sheet[:, :4] == 255).all()


def test_captions_are_written_under_pictures():
    images = [torch.zeros(3, 40, 90, dtype=torch.uint8)] * 2
    plain, sheet = contact_sheet(images, 2), contact_sheet(images, 2, captions=["cosine 0.42", ""])
    assert sheet.shape[1] > plain.shape[1]
    below = sheet[:, 4 + 40 :]
    assert (below[:, :, : 4 + 90] < 100).any()
    assert (below[:, :, 4 + 94 :] == 255).all()


def test_text_shrinks_to_its_width():
    image = text_image("a caption far too long for one hundred pixels $x", 100, 20)
    assert image.shape == (3, 20, 100)
    assert (image < 200).any()
    assert (image[:, :, :3] == 255).all()
    assert (image[:, :, -3:] == 255).all()


def test_drawing_refuses():
    with pytest.raises(ValueError, match=r"frame must be \(3, H, W\) uint8"):
        overlay_image(GRAY.float(), hot_corner())
    with pytest.raises(ValueError, match="opacity"):
        overlay_image(GRAY, hot_corner(), opacity=1.5)
    with pytest.raises(ValueError, match=r"colormap \('rainbows'\)"):
        overlay_image(GRAY, hot_corner(), colormap="rainbows")
    with pytest.raises(ValueError, match="truth must have the frame's size"):
        overlay_image(GRAY, hot_corner(), truth=torch.ones(4, 4))
    with pytest.raises(ValueError, match="upscale"):
        overlay_image(GRAY, hot_corner(), upscale=0)
    with pytest.raises(ValueError, match="images of one size"):
        contact_sheet([GRAY, GRAY[:, :20]], 2)
    with pytest.raises(ValueError, match="1 captions for 2 images"):
        contact_sheet([GRAY, GRAY], 2, captions=["a"])
