"""M-JEPA against its formula, and a training without its guard, which collapses."""

from __future__ import annotations

import pytest
import torch

from avssl.core.batch import BatchIndex, Embeddings, Patches
from avssl.models import AVModel, create_encoder, create_head
from avssl.models.masked import PatchPrediction
from avssl.models.momentum import MomentumModel
from avssl.objectives import MJepa, create_objective, info_nce, masked_patch_loss
from avssl.training.monitors import Diagnosis
from avssl.training.monitors.embedding import embedding_numbers


def _index(count: int = 3) -> BatchIndex:
    return BatchIndex(*(torch.arange(count) for _ in range(3)))


def _pair(seed: int = 0) -> tuple[Embeddings, Embeddings]:
    """Predictions of 5 frames' and 7 spectrogram patches, and their latents of 6 numbers."""
    generator = torch.Generator().manual_seed(seed)
    sides, latents = [], []
    for length in (5, 7):
        other, own, values = torch.randn(3, 3, length, 6, generator=generator)
        sides.append(Patches(hidden=torch.rand(3, length, generator=generator) < 0.5, from_other=other, from_own=own))
        latents.append(Patches(values))
    video, audio = torch.randn(2, 3, 6, generator=generator)
    online = Embeddings(video, audio, video_patches=sides[0], audio_patches=sides[1])
    return online, Embeddings(video, audio, video_patches=latents[0], audio_patches=latents[1])


def test_loss_is_the_mean_error_of_all_latents_of_the_other_modality() -> None:
    online, target = _pair()
    pairs = ((online.video_patches, target.video_patches.values), (online.audio_patches, target.audio_patches.values))
    standard = [
        (values - values.mean(2, keepdim=True)) / (values.var(2, keepdim=True) + 1e-6).sqrt() for _, values in pairs
    ]
    errors = [(side.from_other - wanted).square().mean() for (side, _), wanted in zip(pairs, standard, strict=True)]
    result = MJepa()(online, target, _index())
    torch.testing.assert_close(result.total, (errors[0] + errors[1]) / 2)
    torch.testing.assert_close(result.terms["loss_a2v"], errors[0])  # frames, predicted from audio
    own = sum(masked_patch_loss(side.from_own, values, side.hidden) for side, values in pairs) / 2
    contrast = info_nce(online.video, online.audio, 0.2)
    every = create_objective("mjepa", own_weight=0.5, contrast_weight=0.25, temperature=0.2)
    torch.testing.assert_close(every(online, target, _index()).total, result.total + 0.5 * own + 0.25 * contrast)
    variance = sum(values.flatten(0, 1).var(0, correction=0).mean() for _, values in pairs) / 2
    torch.testing.assert_close(result.terms["target_variance"], variance)


def test_missing_input_is_an_error() -> None:
    online, target = _pair()
    with pytest.raises(ValueError, match="needs the latents of a momentum model"):
        MJepa()(online, None, _index())
    with pytest.raises(ValueError, match=r"needs predictions .* give the model patch_prediction"):
        MJepa()(online, online, _index())
    with pytest.raises(ValueError, match="takes one view of each clip, got 3 embeddings of 2 clips"):
        MJepa()(online, target, _index(2))
    with pytest.raises(ValueError, match=r"decoder_heads \(7\) must divide decoder_width \(384\)"):
        MJepa(predictor_heads=7)


def _clips() -> tuple[torch.Tensor, torch.Tensor]:
    """48 clips of one of 6 kinds, which both modalities show, with noise."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(48) % 6
    frames, sounds = torch.randn(6, 3, 1, 8, 8, generator=generator), torch.randn(6, 1, 8, 8, generator=generator)
    noise = 0.3 * torch.randn(48, 3, 1, 8, 8, generator=generator), 0.3 * torch.randn(48, 1, 8, 8, generator=generator)
    return frames[kinds] + noise[0], sounds[kinds] + noise[1]


def _trained(is_guarded: bool, steps: int = 70) -> tuple[Embeddings, Embeddings, float]:
    """Embeddings before and after a training, and its last loss; without guard the targets are the model's own."""
    torch.manual_seed(0)
    objective = MJepa(own_weight=1.0, momentum=0.98, predictor_width=24, predictor_blocks=1, predictor_heads=2)
    options = {"width": 16, "num_blocks": 1, "num_heads": 2, "patch": 4}
    video = create_encoder("vit_frames", modality="video", grid=2, class_token=False, **options)
    audio = create_encoder("vit_spectrogram", modality="audio", num_rows=2, num_columns=2, **options)
    heads = [create_head("linear", 16, out_features=8) for _ in range(2)]
    model = AVModel(video, audio, *heads, patch_prediction=PatchPrediction(video, audio, 8, objective.needs.masked))
    copy = MomentumModel(model, 0.98)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    frames, sounds = _clips()
    with torch.no_grad():
        before = model(frames, sounds)
    index = _index(len(frames))
    for step in range(steps):
        online = model(frames, sounds, keys=index.key + 1000 * step)
        target = (copy if is_guarded else model)(frames, sounds, needs_patches=True)
        total = objective(online, target, index).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        copy.follow(model)
    with torch.no_grad():
        return before, model(frames, sounds), total.item()


def _findings(embeddings: Embeddings) -> list[str]:
    numbers, diagnosis = embedding_numbers(embeddings.video, embeddings.audio), Diagnosis()
    return [text for _ in range(3) for text in diagnosis.findings(numbers, embeddings.video.shape[1])]


def test_without_momentum_model_and_stop_gradient_it_collapses_and_the_monitor_names_it() -> None:
    before, guarded, _ = _trained(is_guarded=True)
    assert not any("collapsed" in text for text in (*_findings(before), *_findings(guarded)))
    _, collapsed, loss = _trained(is_guarded=False)
    assert loss < 0.1  # the loss alone looks like success
    assert any("collapsed" in text for text in _findings(collapsed))
