import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve

from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import clip_key, splitmix64
from avssl.transforms.corruptions import CORRUPTIONS, SEVERITIES, Corruption, impulse_response
from avssl.transforms.disturbances import to_rgb

B, T, RATE, S = 4, 2, 8000, 6000
SIZES = torch.tensor([[80, 112], [64, 64], [80, 112], [72, 112]])


@pytest.fixture(scope="module")
def batch() -> Batch:
    """Frames of colored cells of several sizes in one canvas, and tones."""
    generator = torch.Generator().manual_seed(0)
    video = torch.zeros(B, T, 3, 80, 112, dtype=torch.uint8)
    for i, (height, width) in enumerate(SIZES.tolist()):
        cells = torch.rand(T, 3, 20, 20, generator=generator)
        frames = torch.nn.functional.interpolate(cells, size=(height, width))
        video[i, :, :, :height, :width] = (20 + 180 * frames).byte()
    seconds = torch.arange(S) / RATE
    audio = torch.stack([0.1 * (i + 1) * torch.sin(2 * torch.pi * 300 * (i + 1) * seconds) for i in range(B)])
    row = torch.arange(B)
    return Batch(video, audio, BatchIndex(row, row, splitmix64(row)), SIZES)


def part(batch: Batch, rows: list[int]) -> Batch:
    index = BatchIndex(batch.index.row[rows], batch.index.group[rows], batch.index.key[rows])
    return Batch(batch.video[rows], batch.audio[rows], index, batch.valid_hw[rows])


def stream(batch: Batch, name: str) -> torch.Tensor:
    return batch.video if CORRUPTIONS[name].stream == "video" else batch.audio


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_and_depends_on_clip_and_seed_alone(batch, name):
    assert Corruption(name, 0)(batch, RATE) is batch
    distances = []
    for severity in SEVERITIES:
        found = Corruption(name, severity)(batch, RATE)
        distances.append((stream(found, name).float() - stream(batch, name)).square().mean().item())
        assert found.index is batch.index
        other = "audio" if CORRUPTIONS[name].stream == "video" else "video"
        assert getattr(found, other) is getattr(batch, other)
    assert distances[0] > 0
    assert distances == sorted(distances)
    some = Corruption(name, 4)(part(batch, [2, 0]), RATE)
    whole = stream(Corruption(name, 4)(batch, RATE), name)
    assert torch.allclose(stream(some, name), whole[[2, 0]], atol=1e-6)
    reseeded = stream(Corruption(name, 4, seed=1)(batch, RATE), name)
    assert torch.equal(reseeded, whole) == (name not in ("pixel_noise", "audio_noise", "reverberation"))


def test_the_empty_canvas_stays_empty(batch):
    for name in ("blur", "brighter", "jpeg", "pixel_noise"):
        assert Corruption(name, 5)(batch, RATE).video[1, :, :, 64:].max() == 0


def test_planes_are_corrupted_as_rgb(batch):
    chroma = torch.randint(90, 160, (B, T, 2, 40, 56), generator=torch.Generator().manual_seed(1)).byte()
    planes = Batch(batch.video[:, :, :1], batch.audio, batch.index, batch.valid_hw, chroma)
    found = Corruption("jpeg", 2)(planes, RATE)
    assert found.chroma is None
    assert torch.equal(found.video[0], Corruption("jpeg", 2)(to_rgb(planes), RATE).video[0])
    assert Corruption("audio_noise", 2)(planes, RATE).chroma is chroma


def test_blur_equals_scipy(batch):
    found = Corruption("blur", 5)(batch, RATE).video[0, 0]
    sigma = 6 * 80 / 224
    expected = [gaussian_filter(c.double().numpy(), sigma, mode="mirror", radius=7) for c in batch.video[0, 0]]
    assert np.abs(found.numpy() - np.stack(expected)).max() <= 0.51


def test_light_changes_the_value_alone(batch):
    for name, change in (("brighter", 0.3), ("darker", -0.3)):
        found = Corruption(name, 3)(batch, RATE).video[0, 0].permute(1, 2, 0).reshape(-1, 3) / 255
        clean = batch.video[0, 0].permute(1, 2, 0).reshape(-1, 3) / 255
        for before, after in zip(clean[::331].tolist(), found[::331].tolist(), strict=True):
            hue, saturation, value = colorsys.rgb_to_hsv(*before)
            expected = colorsys.hsv_to_rgb(hue, saturation, min(1, max(0, value + change)))
            assert after == pytest.approx(expected, abs=0.51 / 255)


def test_jpeg_equals_pillow(batch):
    found = Corruption("jpeg", 2)(batch, RATE).video[3, 1, :, :72]
    file = io.BytesIO()
    Image.fromarray(batch.video[3, 1, :, :72].permute(1, 2, 0).numpy()).save(file, "JPEG", quality=18)
    expected = np.asarray(Image.open(file)).transpose(2, 0, 1).astype(int)
    assert np.abs(found.numpy() - expected).max() <= 2  # two builds of libjpeg


def test_noise_has_its_deviation_and_its_ratio(batch):
    gray = Batch(torch.full_like(batch.video, 128), batch.audio, batch.index, batch.valid_hw)
    video = Corruption("pixel_noise", 2)(gray, RATE).video[0].float()
    assert (video - 128).std().item() / 255 == pytest.approx(0.12, rel=0.02)
    added = Corruption("audio_noise", 3)(batch, RATE).audio - batch.audio
    ratio = 10 * torch.log10(batch.audio.square().mean(1) / added.square().mean(1))
    assert ratio.tolist() == pytest.approx([10] * B, abs=1e-3)


def test_reverberation_equals_scipy(batch):
    found = Corruption("reverberation", 3, seed=5)(batch, RATE).audio
    response = impulse_response(clip_key(5, 0, batch.index.key), 0.7, RATE, S)
    for i in range(B):
        expected = convolve(batch.audio[i].double().numpy(), response[i].numpy())[:S]
        assert found[i].numpy() == pytest.approx(expected, abs=1e-5)


def test_an_impulse_response_falls_by_60_decibels():
    response = impulse_response(splitmix64(torch.arange(200)), 0.5, RATE, RATE)
    assert response.square().sum(1).mean().item() == pytest.approx(1, rel=0.02)
    level = response[:, 1:].square().mean(0)
    early, late = level[:400].mean(), level[4000:4400].mean()
    assert 10 * torch.log10(early / late).item() == pytest.approx(60, abs=0.5)
    assert response[0, 0].item() == pytest.approx(0.5**0.5)  # as much reverberation as direct sound at 0.5 s


def test_unknown_corruptions_and_severities_raise():
    with pytest.raises(ValueError, match=r"blurr.*blur"):
        Corruption("blurr", 1)
    with pytest.raises(ValueError, match=r"severity \(6\) must be >= 0 and <= 5"):
        Corruption("blur", 6)
