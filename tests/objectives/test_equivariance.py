"""Equivariant term: NT-Xent against a plain reference, draws that describe the augmentation, and a training step."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from avssl.config import config_from_dict
from avssl.core.batch import AugmentedPair, Batch, BatchIndex, Embeddings
from avssl.core.draws import clip_key
from avssl.objectives import InfoNCE, nt_xent
from avssl.training.build import build_task
from avssl.transforms import SpectrogramMask, VideoAugment, WaveformAugment
from avssl.transforms.audio_augment import MASK_PARTS, RandomGain
from avssl.transforms.video import NUM_DRAWS
from avssl.transforms.waveform_augment import NUM_DRAWS as WAVEFORM_DRAWS

KEYS = clip_key(0, 0, torch.arange(400) * 7919)


def test_nt_xent_equals_simclr_row_by_row() -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 5, 4, dtype=torch.float64).float()
    rows = F.normalize(torch.cat([first, second]), dim=1).tolist()
    losses = []
    for number in range(10):
        scores = {k: sum(a * b for a, b in zip(rows[number], rows[k], strict=True)) / 0.3 for k in range(10)}
        del scores[number]
        total = math.log(sum(math.exp(score) for score in scores.values()))
        losses.append(total - scores[(number + 5) % 10])
    assert nt_xent(first, second, 0.3).item() == pytest.approx(sum(losses) / 10, rel=1e-5)
    assert nt_xent(3 * first, second, 0.3).item() == pytest.approx(nt_xent(second, first, 0.3).item(), rel=1e-6)
    same = torch.ones(5, 4)
    assert nt_xent(same, same, 0.3).item() == pytest.approx(math.log(9), rel=1e-6)
    with pytest.raises(ValueError, match="temperature"):
        nt_xent(first, second, 0.0)
    with pytest.raises(ValueError):
        nt_xent(first, second[:4], 0.3)


def test_draws_of_frames_describe_what_is_done_to_them() -> None:
    augment = VideoAugment(
        24, grayscale_probability=0.5, blur_probability=0.5, erase_probability=0.5, jitter_probability=0.5
    )
    valid = torch.tensor([[40, 48]]).expand(len(KEYS), 2)
    draws = augment.draws(valid, KEYS)
    assert draws.shape == (len(KEYS), NUM_DRAWS)
    video = torch.randint(0, 256, (len(KEYS), 1, 3, 40, 48), dtype=torch.uint8)
    output = augment(video, valid, KEYS)
    top, left, height, width, flip, *_, gray, blur = draws[:, :11].unbind(1)
    assert ((top + height <= 1) & (left + width <= 1)).all()
    areas = height * width
    assert 0.25 < areas.min() < areas.max() <= 1
    assert set(flip.tolist()) == set(gray.tolist()) == {0.0, 1.0}
    colors = output.mul(augment.std.view(3, 1, 1, 1)).add(augment.mean.view(3, 1, 1, 1))
    erased = (output == 0).all(dim=1)[:, 0]  # (N, 24, 24)
    spread = (colors[:, 0] - colors[:, 2]).abs()[:, 0].masked_fill(erased, 0)
    assert torch.equal(spread.amax((1, 2)) < 1e-3, gray.bool())
    assert 0 < blur.max() <= 1
    torch.testing.assert_close(erased.float().mean((1, 2)), draws[:, 13] * draws[:, 14], atol=1e-3, rtol=0)
    plain = VideoAugment(24, scale=(1, 1), ratio=(1.2, 1.2), flip_probability=0, brightness=0, contrast=0, saturation=0)
    assert torch.equal(plain.draws(valid, KEYS)[0], torch.tensor([0, 0, 1, 1] + [0] * 11, dtype=torch.float32))


def test_draws_of_audio_describe_what_is_done_to_it() -> None:
    waveform = torch.randn(len(KEYS), 2000)
    gain = RandomGain((0.5, 2.0))
    torch.testing.assert_close(gain(waveform, KEYS, 3), waveform * gain.draws(KEYS, 3).exp().float())
    augment = WaveformAugment(8000, max_shift_seconds=0.05, filter_probability=0.5, noise_probability=0.5)
    draws = augment.draws(2000, KEYS)
    assert draws.shape == (len(KEYS), WAVEFORM_DRAWS)
    kinds, noisy = draws[:, 3:6].sum(dim=1), draws[:, 9]
    untouched = (kinds == 0) & (noisy == 0)
    assert 0.15 < untouched.float().mean() < 0.35
    shifts = (torch.atan2(draws[:, 1], draws[:, 2]) / (2 * torch.pi) * 2000).round().long()
    for number in untouched.nonzero()[:20, 0].tolist():
        rolled = waveform[number].roll(int(shifts[number]))
        torch.testing.assert_close(augment(waveform, KEYS)[number], rolled)
    assert not WaveformAugment(8000).draws(2000, KEYS)[:, [0, 1, 3, 4, 5, 6, 7, 8, 9, 10]].any()
    mask = SpectrogramMask(10, 8, num_time_masks=2)
    shares = mask.draws(40, 16, KEYS)
    masked = mask(torch.ones(len(KEYS), 1, 40, 16), KEYS)
    in_time = 1 - masked.amax(dim=(1, 3)).unflatten(1, (MASK_PARTS, -1)).mean(dim=2)
    torch.testing.assert_close(shares[:, :MASK_PARTS], in_time)
    assert not SpectrogramMask().draws(40, 16, KEYS).any()


def test_term_is_added_with_its_weight() -> None:
    torch.manual_seed(0)
    video, audio, predicted, true = torch.randn(4, 6, 8)
    index = BatchIndex(*(torch.arange(6),) * 3)
    pair = AugmentedPair(predicted, true)
    online = Embeddings(video, audio, video_augmented=pair, audio_augmented=AugmentedPair(true, true))
    plain = InfoNCE(0.2, "pooled")(online, None, index)
    result = InfoNCE(0.2, "pooled", equivariant=0.5)(online, None, index)
    parts = nt_xent(predicted, true, 0.2), nt_xent(true, true, 0.2)
    torch.testing.assert_close(result.total, plain.total + 0.25 * (parts[0] + parts[1]))
    torch.testing.assert_close(result.terms["loss"], result.total)
    torch.testing.assert_close(result.terms["loss_equivariant_video"], parts[0])
    with pytest.raises(ValueError, match=r"equivariant \(0.5\) needs Embeddings.video_augmented"):
        InfoNCE(0.2, "pooled", equivariant=0.5)(replace(online, video_augmented=None), None, index)


@pytest.mark.parametrize("name", ["info_nce", "siglip", "moco"])
def test_training_learns_to_predict_the_augmentation(name: str) -> None:
    config = config_from_dict(
        {
            "objective": {"name": name, "equivariant": 1.0},
            "transform": {"video": {"size": 16}, "audio": {"max_time_width": 8, "preset": "simclr"}},
            "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"out_features": 8, "hidden": 16}},
        }
    )
    task = build_task(config).train()
    standardize = task.transform.standardize
    standardize.set_statistics(torch.zeros_like(standardize.mean), torch.ones_like(standardize.mean))
    rows = torch.arange(4)
    generator = torch.Generator().manual_seed(3)
    batch = Batch(
        torch.randint(0, 256, (4, 2, 1, 24, 24), dtype=torch.uint8, generator=generator),
        0.1 * torch.randn(4, 16000, generator=generator),
        BatchIndex(rows, rows, clip_key(0, 0, rows)),
        torch.full((4, 2), 24),
        torch.randint(0, 256, (4, 2, 2, 12, 12), dtype=torch.uint8, generator=generator),
    )
    task(batch)
    task.after_step()
    result = task(batch)
    result.total.backward()
    assert {"loss_equivariant_video", "loss_equivariant_audio"} <= set(result.terms)
    for branch in task.model.equivariant_branches:
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in branch.parameters())
