import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from avssl.transforms.blur import blur_radius, blur_weights, gaussian_blur

SIGMAS = [0.1, 0.7, 1.3, 2.0]


@pytest.mark.parametrize("size", [5, 21])
def test_blur_matches_torchvision_with_a_sigma_for_each_clip(size: int) -> None:
    video = torch.rand(4, 3, 2, size, size, generator=torch.Generator().manual_seed(1))
    radius = blur_radius(2.0, size)
    output = gaussian_blur(video, blur_weights(torch.tensor(SIGMAS), radius, size))
    for clip, blurred, sigma in zip(video, output, SIGMAS, strict=True):
        frames = tv.gaussian_blur(clip.transpose(0, 1), [2 * radius + 1] * 2, [sigma] * 2).transpose(0, 1)
        torch.testing.assert_close(blurred, frames, atol=1e-5, rtol=0)


def test_sigma_zero_changes_nothing() -> None:
    assert torch.equal(blur_weights(torch.zeros(2), 6, 9), torch.eye(9).expand(2, 9, 9))
