import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from avssl.core.draws import splitmix64, text_key
from avssl.transforms.color import OPERATIONS, ColorJitter, JitterOptions, blend, shift_hue

ADJUST = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)


def make_keys(count: int) -> torch.Tensor:
    return splitmix64(torch.arange(count) + text_key("jitter tests"))


def make_video(count: int) -> torch.Tensor:
    """(B, 3, 2, 9, 11) in [0, 1], with black, white, gray and fully saturated pixels among them."""
    video = torch.rand(count, 3, 2, 9, 11, generator=torch.Generator().manual_seed(1))
    video[..., 0, 0], video[..., 0, 1], video[..., 0, 2] = 0.0, 1.0, 0.5
    video[..., 1, :3] = torch.eye(3)[None, :, None]
    video[..., 2, :3] = 1 - torch.eye(3)[None, :, None]
    return video


def by_torchvision(video: torch.Tensor, plan: JitterOptions) -> torch.Tensor:
    clips = []
    for clip, factors, order in zip(video, plan.factors.tolist(), plan.order.tolist(), strict=True):
        frames = clip.transpose(0, 1)
        for operation in order:
            frames = ADJUST[operation](frames, factors[operation])
        clips.append(frames.transpose(0, 1))
    return torch.stack(clips)


@pytest.mark.parametrize("operation", range(4), ids=OPERATIONS)
def test_each_operation_matches_torchvision(operation: int) -> None:
    factors = torch.tensor([0.0, 0.3, 1.0, 1.7]) if operation < 3 else torch.tensor([-0.5, -0.13, 0.0, 0.4])
    plan = JitterOptions(factors[:, None].expand(-1, 4), torch.full((4, 1), operation))
    strengths = {name: 0.5 * (i == operation) for i, name in enumerate(OPERATIONS)}
    video = make_video(4)
    output = ColorJitter(**strengths)(video.clone(), plan)
    torch.testing.assert_close(output, by_torchvision(video, plan), atol=1e-5, rtol=0)


@pytest.mark.parametrize("hue", [0.0, 0.2])
def test_jitter_matches_torchvision_in_each_clips_own_order(hue: float) -> None:
    jitter = ColorJitter(0.6, 0.6, 0.6, hue)
    plan = jitter.draw(make_keys(200))
    video = make_video(200)
    expected = by_torchvision(video, plan)
    assert len({tuple(order) for order in plan.order.tolist()}) == (6 if hue == 0 else 24)
    torch.testing.assert_close(jitter(video.clone(), plan), expected, atol=1e-5, rtol=0)


def test_draws_stay_in_their_ranges() -> None:
    jitter = ColorJitter(brightness=0.4, contrast=1.5, saturation=0.1, hue=0.25)
    factors = jitter.draw(make_keys(5000)).factors
    for column, (low, high) in enumerate([(0.6, 1.4), (0.0, 2.5), (0.9, 1.1), (-0.25, 0.25)]):
        values, width = factors[:, column], high - low
        assert low <= values.min() < low + 0.01 * width
        assert high - 0.01 * width < values.max() <= high
        assert abs(values.mean() - (low + high) / 2) < 0.02 * width


def test_orders_are_uniform() -> None:
    order = ColorJitter(0.4, 0.4, 0.4, 0.2).draw(make_keys(24_000)).order
    assert (order.sort(dim=1).values == torch.arange(4)).all()
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 24
    assert 850 < counts.min() <= counts.max() < 1150


def test_operations_of_strength_zero_are_left_out() -> None:
    plan = ColorJitter(0.4, 0.0, 0.2, 0.0).draw(make_keys(8))
    assert plan.order.shape == (8, 2)
    assert set(plan.order.unique().tolist()) == {0, 2}


def test_plan_is_cut_by_clips() -> None:
    plan = ColorJitter(0.4, 0.0, 0.0, 0.1).draw(make_keys(6))
    assert torch.equal(plan[2:4].factors, plan.factors[2:4])
    assert torch.equal(plan[2:4].order, plan.order[2:4])


def test_gray_pixels_have_no_hue_to_shift() -> None:
    gray = torch.rand(2, 1, 1, 4, 4).expand(-1, 3, -1, -1, -1).clone()
    torch.testing.assert_close(shift_hue(gray.clone(), torch.tensor([0.3, -0.5])), gray)


def test_blend_that_keeps_the_image_changes_nothing() -> None:
    video = make_video(3)
    one, zero = torch.ones(3), torch.zeros(3)
    assert torch.equal(blend(video.clone(), one, zero, zero), video)


@pytest.mark.parametrize(("name", "value"), [("brightness", -0.1), ("hue", 0.6), ("hue", -0.1)])
def test_strengths_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name} \({value}\) must be"):
        ColorJitter(**dict.fromkeys(OPERATIONS, 0.0) | {name: value})
