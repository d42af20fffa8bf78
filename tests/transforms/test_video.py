import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from avssl.core.draws import splitmix64, text_key, uniform
from avssl.transforms import IMAGENET_MEAN, IMAGENET_STD, VideoAugment, VideoEval
from avssl.transforms import video as video_module
from avssl.transforms.crop_resize import random_crops

SHAPES = [(72, 96), (96, 60), (64, 64), (40, 90), (33, 31)]
NO_JITTER = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def make_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    video = torch.randint(0, 256, (5, 3, 3, 96, 96), dtype=torch.uint8, generator=generator)
    return video, torch.tensor(SHAPES), splitmix64(torch.arange(5) + text_key("video tests"))


def test_augment_matches_torchvision_clip_by_clip() -> None:
    video, valid_hw, key = make_batch()
    augment = VideoAugment(48, scale=(0.08, 1.0), hue=0.2)
    output = augment(video, valid_hw, key, view=2)
    crops, plan = random_crops(valid_hw, key, 2, (0.08, 1.0), augment.ratio), augment.jitter.draw(key, 2)
    flip = uniform(key, "flip/2", 1)[:, 0] < 0.5
    assert 0 < flip.sum() < 5
    adjust = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    for b, (height, width) in enumerate(SHAPES):
        frames = video[b, :, :, :height, :width].float() / 255
        box = [int(t[b]) for t in (crops.top, crops.left, crops.height, crops.width)]
        frames = tv.resized_crop(frames, *box, [48, 48], antialias=True)
        frames = tv.horizontal_flip(frames) if flip[b] else frames
        for operation in plan.order[b].tolist():
            frames = adjust[operation](frames, plan.factors[b, operation].item())
        frames = tv.normalize(frames, IMAGENET_MEAN, IMAGENET_STD).transpose(0, 1)
        torch.testing.assert_close(output[b], frames, atol=1e-3, rtol=0)


def test_appearance_and_erasing_match_torchvision_clip_by_clip() -> None:
    video, valid_hw, key = make_batch()
    chances = {"jitter_probability": 0.5, "grayscale_probability": 0.4, "blur_probability": 0.6}
    augment = VideoAugment(48, hue=0.2, erase_probability=0.5, **chances)
    plain = VideoAugment(48, **NO_JITTER, **PLAIN)(video, valid_hw, key)
    output, drawn, erased = augment(video, valid_hw, key), augment.appearance.draw(key, 0, 48), augment._erased(key, 0)
    radius, adjust = 6, (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    chance, place = uniform(key, "blur/0", 2).unbind(1)
    sigma, is_blurred = 0.1 + 1.9 * place, chance < 0.6
    for b in range(5):
        frames = plain[b].transpose(0, 1)
        for operation in drawn.jitter.order[b].tolist():
            frames = adjust[operation](frames, drawn.jitter.factors[b, operation].item())
        frames = tv.rgb_to_grayscale(frames, 3) if drawn.gray[b] else frames
        if is_blurred[b]:
            frames = tv.gaussian_blur(frames, [2 * radius + 1] * 2, [float(sigma[b])] * 2)
        frames = tv.normalize(frames, IMAGENET_MEAN, IMAGENET_STD)
        if erased[b].any():
            rows, columns = (erased[b, 0, 0].any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
            box = (int(rows[0]), int(columns[0]), len(rows), len(columns))
            assert erased[b].sum() == len(rows) * len(columns)
            frames = tv.erase(frames, *box, torch.zeros(1))
        torch.testing.assert_close(output[b], frames.transpose(0, 1), atol=1e-3, rtol=0)


def test_probabilities_are_the_shares_of_clips() -> None:
    key = splitmix64(torch.arange(2000))
    augment = VideoAugment(
        16, jitter_probability=0.8, grayscale_probability=0.2, blur_probability=0.5, erase_probability=0.3
    )
    drawn, erased = augment.appearance.draw(key, 0, 16), augment._erased(key, 0)[:, 0, 0]
    is_jittered = (drawn.jitter.factors[:, 0] != 1).float().mean()
    is_blurred = (drawn.blur[:, 8, 8] < 1).float().mean()  # below 0.2 pixels a blur changes nothing
    is_erased = erased.any(dim=(1, 2)).float().mean()
    found = torch.stack([is_jittered, drawn.gray.mean(), is_blurred, is_erased])
    torch.testing.assert_close(found, torch.tensor([0.8, 0.2, 0.5, 0.3]), atol=0.06, rtol=0)
    share = erased.float().mean(dim=(1, 2))[erased.any(dim=(1, 2))]
    assert share.min() < 0.05
    assert 0.28 < share.max() < 0.4


def test_eval_squeezed_and_without_antialiasing_matches_torchvision() -> None:
    video, valid_hw, _ = make_batch()
    options = {"resize_short": 40, "keep_aspect": False, "antialias": False, **PLAIN}
    output = VideoEval(32, **options)(video, valid_hw)
    for b, (height, width) in enumerate(SHAPES):
        frames = video[b, :, :, :height, :width].float() / 255
        expected = tv.center_crop(tv.resize(frames, [40, 40], antialias=False), [32, 32])
        torch.testing.assert_close(output[b], expected.transpose(0, 1), rtol=0, atol=1e-5)


def test_eval_center_matches_torchvision_resize_and_center_crop() -> None:
    video, valid_hw, _ = make_batch()
    output = VideoEval(49, **PLAIN)(video, valid_hw)
    for b, (height, width) in enumerate(SHAPES):
        frames = video[b, :, :, :height, :width].float() / 255
        frames = tv.center_crop(tv.resize(frames, [56], antialias=True), [49, 49])
        torch.testing.assert_close(output[b], frames.transpose(0, 1), atol=1e-4, rtol=0)


def test_eval_three_crops_lie_along_the_longer_side() -> None:
    video, valid_hw, _ = make_batch()
    crops = VideoEval(40, crop="three", **PLAIN)(video, valid_hw).unflatten(0, (3, len(SHAPES)))
    for b, (height, width) in enumerate(SHAPES):
        frames = tv.resize(video[b, :, :, :height, :width].float() / 255, [40], antialias=True)
        last_top, last_left = frames.shape[-2] - 40, frames.shape[-1] - 40
        middle = tv.center_crop(frames, [40, 40])
        for crop, expected in enumerate(
            (frames[..., :40, :40], middle, frames[..., last_top:, last_left:]),
        ):
            torch.testing.assert_close(crops[crop, b], expected.transpose(0, 1), atol=1e-4, rtol=0)
    assert VideoEval(112, crop="three").resize_short == 112


def test_eval_full_squeezes_the_whole_picture() -> None:
    video, valid_hw, _ = make_batch()
    output = VideoEval(40, crop="full", **PLAIN)(video, valid_hw)
    for b, (height, width) in enumerate(SHAPES):
        frames = tv.resize(video[b, :, :, :height, :width].float() / 255, [40, 40], antialias=True)
        torch.testing.assert_close(output[b], frames.transpose(0, 1), atol=1e-4, rtol=0)


def test_eval_resize_short_defaults_to_avids_fraction() -> None:
    assert [VideoEval(size).resize_short for size in (112, 224)] == [128, 256]
    assert VideoEval(112, resize_short=112).resize_short == 112


def test_augment_does_not_depend_on_place_companions_or_canvas() -> None:
    video, valid_hw, key = make_batch()
    augment = VideoAugment(32)
    together = augment(video, valid_hw, key)
    for places in ([4, 2, 0, 1, 3], [3], [1, 2]):
        torch.testing.assert_close(
            augment(video[places], valid_hw[places], key[places]), together[places], atol=1e-5, rtol=0
        )
    larger = torch.nn.functional.pad(video, (0, 21, 0, 13), value=200)
    torch.testing.assert_close(augment(larger, valid_hw, key), together, atol=1e-5, rtol=0)


def test_augment_is_a_function_of_key_and_view_and_touches_no_generator() -> None:
    video, valid_hw, key = make_batch()
    augment = VideoAugment(24)
    before = torch.get_rng_state()
    first = augment(video, valid_hw, key, 0)
    assert torch.equal(augment(video, valid_hw, key, 0), first)
    assert not torch.allclose(augment(video, valid_hw, key, 1), first)
    assert torch.equal(torch.get_rng_state(), before)


def test_all_frames_of_a_clip_share_one_draw() -> None:
    video, valid_hw, key = make_batch()
    still = video[:, :1].expand(-1, 3, -1, -1, -1)
    output = VideoAugment(24)(still, valid_hw, key)
    torch.testing.assert_close(output[:, :, 0], output[:, :, 2], atol=1e-5, rtol=0)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_flip_probability(probability: float) -> None:
    video, valid_hw, key = make_batch()
    video, valid_hw = video[2:3, :, :, :64, :64], valid_hw[2:3]
    whole = {"scale": (1.0, 1.0), "ratio": (1.0, 1.0), **NO_JITTER, **PLAIN}
    output = VideoAugment(64, flip_probability=probability, **whole)(video, valid_hw, key[2:3])
    expected = video.transpose(1, 2).float() / 255
    torch.testing.assert_close(output, expected.flip(-1) if probability else expected)


def test_parts_of_a_batch_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    video, valid_hw, key = make_batch()
    whole = VideoAugment(24)(video, valid_hw, key)
    monkeypatch.setitem(video_module._CHUNK_BYTES, "cpu", 2 * 4 * video[0].numel())  # parts of 2, 2 and 1
    torch.testing.assert_close(VideoAugment(24)(video, valid_hw, key), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_output_has_the_memory_format_asked_for(memory_format: torch.memory_format) -> None:
    video, valid_hw, key = make_batch()
    plain = VideoAugment(24)(video, valid_hw, key)
    augment = VideoAugment(24)
    augment.set_output(torch.float32, memory_format)
    output = augment(video, valid_hw, key)
    assert output.shape == (5, 3, 3, 24, 24)
    assert output.dtype == torch.float32
    assert output.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(output, plain)
    assert VideoEval(24)(video, valid_hw).is_contiguous()
    with pytest.raises(ValueError, match="float16"):
        augment.set_output(torch.float16, memory_format)


@pytest.mark.parametrize("options", [NO_JITTER, {}])
def test_bfloat16_rounds_a_picture_as_much_as_a_uint8_resize_does(options: dict) -> None:
    video, valid_hw, key = make_batch()
    augment = VideoAugment(48, scale=(0.5, 1.0), **options)
    exact = augment(video, valid_hw, key)
    augment.set_output(torch.bfloat16, torch.channels_last_3d)
    output = augment(video, valid_hw, key)
    assert output.dtype == torch.bfloat16
    assert output.is_contiguous(memory_format=torch.channels_last_3d)
    off = 255 * (output.float() - exact) * torch.tensor(IMAGENET_STD).view(3, 1, 1, 1)
    assert off.abs().max() < 3
    assert off.square().mean().sqrt() < 0.4
    assert off.mean().abs() < 0.05
    augment.set_output(torch.float32, torch.contiguous_format)
    assert torch.equal(augment(video, valid_hw, key), exact)


@pytest.mark.parametrize("level", [0, 1, 127, 128, 129, 254, 255])
def test_every_level_of_an_even_picture_survives_both_precisions(level: int) -> None:
    video = torch.full((1, 1, 3, 30, 40), level, dtype=torch.uint8)
    augment = VideoAugment(16, **NO_JITTER, **PLAIN)
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 1.25)):
        augment.set_output(dtype, torch.contiguous_format)
        output = 255 * augment(video, torch.tensor([[30, 40]]), torch.tensor([5])).float()
        assert (output - level).abs().max() < tolerance


def test_autocast_does_not_coarsen_the_picture() -> None:
    video, valid_hw, key = make_batch()
    plain = VideoAugment(24)(video, valid_hw, key)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(VideoAugment(24)(video, valid_hw, key), plain)


def test_transforms_add_nothing_to_the_weights() -> None:
    assert VideoAugment(24).state_dict() == {}
    assert VideoEval(24).state_dict() == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, r"size \(0\)"),
        ({"scale": (0.5, 0.2)}, "scale"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"ratio": (2.0, 1.0)}, "ratio"),
        ({"flip_probability": 1.5}, r"flip_probability \(1.5\)"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"hue": 0.7}, r"hue \(0.7\)"),
        ({"blur_sigma": (2.0, 0.5)}, "blur_sigma"),
        ({"erase_scale": (0.5, 0.2)}, "erase_scale"),
        ({"grayscale_probability": -0.1}, "grayscale_probability"),
    ],
)
def test_augment_refuses_settings_out_of_range(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        VideoAugment(**options)


def test_eval_refuses_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"resize_short \(100\) must be at least size \(112\)"):
        VideoEval(112, resize_short=100)
    with pytest.raises(ValueError, match="no meaning"):
        VideoEval(112, crop="full", resize_short=128)
    with pytest.raises(ValueError, match=r'keep_aspect \(False\) is for crop="center", got crop=.full'):
        VideoEval(112, crop="full", keep_aspect=False)
    with pytest.raises(ValueError, match=r'antialias \(False\) is for interpolation="bilinear", got .bicubic'):
        VideoEval(112, interpolation="bicubic", antialias=False)
    with pytest.raises(ValueError, match="crop"):
        VideoEval(112, crop="corner")


def test_canvas_is_checked() -> None:
    video, valid_hw, _ = make_batch()
    with pytest.raises(ValueError, match="uint8"):
        VideoEval(24)(video.float(), valid_hw)
    with pytest.raises(ValueError, match=r"valid_hw must be \(5, 2\)"):
        VideoEval(24)(video, valid_hw[:4])
