"""Local views: small frames, short audio, draws of their own, and one pass of the model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from avssl.config import ConfigError, config_from_dict
from avssl.core.batch import Batch, BatchIndex, Embeddings
from avssl.core.draws import clip_key
from avssl.core.needs import ObjectiveNeeds
from avssl.models import ObjectiveHeads
from avssl.training.build import build_model, build_transform
from avssl.transforms import LocalViews, VideoAugment
from avssl.transforms.planes import planes_to_rgb

NUM_CLIPS = 3
SETTINGS = {
    "transform": {"video": {"size": 32}},
    "local_views": {"size": 16, "scale": [0.1, 0.2], "audio_share": 0.25},
    "model": {"video": {"width": 8}, "audio": {"width": 8}},
}


def raw_batch(planes: bool = False) -> Batch:
    generator = torch.Generator().manual_seed(3)
    luma = torch.randint(0, 256, (NUM_CLIPS, 2, 1 if planes else 3, 40, 40), dtype=torch.uint8, generator=generator)
    chroma = torch.randint(0, 256, (NUM_CLIPS, 2, 2, 20, 20), dtype=torch.uint8, generator=generator)
    audio = 0.1 * torch.randn(NUM_CLIPS, 32000, generator=generator)
    rows = torch.arange(NUM_CLIPS)
    index = BatchIndex(rows, rows, clip_key(0, 0, rows * 1234567))
    return Batch(luma, audio, index, torch.full((NUM_CLIPS, 2), 40), chroma if planes else None)


def transform_of(local_views: int):
    transform = build_transform(config_from_dict(SETTINGS), ObjectiveNeeds(local_views=local_views)).train()
    transform.standardize.set_statistics(*torch.tensor([[0.0], [1.0]]).expand(2, 64))
    return transform


@pytest.mark.parametrize("planes", [False, True])
def test_local_views_are_small_and_leave_the_full_ones_as_they_are(planes: bool) -> None:
    batch = raw_batch(planes)
    output, plain = transform_of(4)(batch), transform_of(0)(batch)
    assert torch.equal(output.video, plain.video)
    assert torch.equal(output.audio, plain.audio)
    assert (plain.local_video, plain.local_audio) == (None, None)
    assert output.local_video.shape == (4 * NUM_CLIPS, 3, 2, 16, 16)
    assert len(output.local_audio) == 4 * NUM_CLIPS
    steps = output.local_audio.shape[2] / output.audio.shape[2]
    assert steps == pytest.approx(0.25, abs=0.02)
    if planes:
        rgb = replace(batch, video=planes_to_rgb(batch.video, batch.chroma), chroma=None)
        assert torch.equal(transform_of(4)(rgb).local_video, output.local_video)


def test_each_local_view_of_a_clip_depends_on_its_key_alone() -> None:
    batch, transform = raw_batch(), transform_of(2)
    output = transform(batch)
    first, second = output.local_video.chunk(2)
    assert not torch.equal(first, second)
    alone = Batch(batch.video[1:2], batch.audio[1:2], BatchIndex(*(x[1:2] for x in vars(batch.index).values())),
                  batch.valid_hw[1:2])  # fmt: skip
    single = transform(alone)
    torch.testing.assert_close(single.local_video[:, :], output.local_video[[1, 1 + NUM_CLIPS]])
    torch.testing.assert_close(single.local_audio[:, :], output.local_audio[[1, 1 + NUM_CLIPS]])


def test_windows_are_parts_of_the_waveform_at_all_times() -> None:
    local = LocalViews(VideoAugment(16), size=8, audio_share=0.25)
    waveform = torch.arange(100.0).expand(500, 100)
    windows = local.window(waveform, clip_key(0, 0, torch.arange(500) * 7919), 3)
    assert windows.shape == (500, 25)
    assert torch.equal(windows - windows[:, :1], torch.arange(25.0).expand(500, 25))
    assert set(windows[:, 0].int().tolist()) == set(range(76))
    whole = LocalViews(VideoAugment(16), audio_share=1.0).window(waveform, torch.arange(500), 0)
    assert torch.equal(whole, waveform)


def test_model_embeds_local_views_in_the_same_call() -> None:
    model = build_model(config_from_dict(SETTINGS)).eval()
    model.objective_heads = ObjectiveHeads(model.embedding_size, prototypes=5, predictor_hidden=8).eval()
    views = transform_of(2)(raw_batch())
    with torch.no_grad():
        out = model(views.video, views.audio, local_video=views.local_video, local_audio=views.local_audio)
        torch.testing.assert_close(out.local.video, model.embed_video(views.local_video))
        torch.testing.assert_close(out.local.audio, model.embed_audio(views.local_audio))
        assert out.local.video_scores.shape == (2 * NUM_CLIPS, 1, 5)
        assert torch.equal(out.video, model(views.video, views.audio).video)
    model.train()
    out = model(views.video, views.audio, local_video=views.local_video, local_audio=views.local_audio)
    assert out.local.video.requires_grad
    assert isinstance(out.detach().local, Embeddings)
    assert not out.detach().local.video.requires_grad


def test_impossible_local_views_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"local_views.scale \(0.5, 0.2\) must be \(low, high\)"):
        build_transform(config_from_dict({"local_views": {"scale": [0.5, 0.2]}}), ObjectiveNeeds(local_views=1))
    with pytest.raises(ConfigError, match=r"local_views.audio_share \(0.0\) must be"):
        build_transform(config_from_dict({"local_views": {"audio_share": 0}}), ObjectiveNeeds(local_views=1))
    batch = transform_of(1)(raw_batch())
    with pytest.raises(ValueError, match="local_video and local_audio must both hold whole views of 3 clips"):
        replace(batch, local_audio=None)
