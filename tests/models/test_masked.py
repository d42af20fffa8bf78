"""Masked encoding: patches by the keys of clips, skipped in the encoder, and predicted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avssl.core.batch import Embeddings
from avssl.core.needs import MaskedPatches, ObjectiveNeeds
from avssl.models import AVModel, create_encoder, create_head
from avssl.models.masked import PatchPrediction, patch_values, visible_patches
from avssl.models.patch_decoder import grid_positions

NUM_CLIPS, KEYS = 6, torch.arange(6) * 7919 + 3


def _model(pool: str = "mean", head: str = "mlp", **needs: object) -> AVModel:
    torch.manual_seed(0)
    options = {"width": 8, "num_blocks": 2, "num_heads": 2, "patch": 4, "class_token": True, "num_registers": 2}
    options |= {"register_blocks": 1, "pool": pool}
    video = create_encoder("vit_frames", modality="video", grid=4, **options)
    audio = create_encoder("vit_spectrogram", modality="audio", num_rows=2, num_columns=5, **options)
    heads = [create_head(head, 8, out_features=6) for _ in range(2)]
    masked = MaskedPatches(
        **{"ratios": (0.75,), "predicts": "pixels", "width": 14, "num_blocks": 1, "num_heads": 2} | needs
    )
    return AVModel(video, audio, *heads, patch_prediction=PatchPrediction(video, audio, 6, masked))


def _clips() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(NUM_CLIPS, 3, 2, 16, 16, generator=generator), torch.randn(
        NUM_CLIPS, 1, 20, 8, generator=generator
    )


def _tensors(found: Embeddings) -> dict[str, Tensor]:
    both = {"video": found.video_patches, "audio": found.audio_patches}
    parts = {
        f"{side}.{name}": x for side, patches in both.items() for name, x in vars(patches).items() if x is not None
    }
    return parts | {"video": found.video, "audio": found.audio}


def test_masks_follow_the_key_of_the_clip_alone() -> None:
    kept = visible_patches(KEYS, "video", 16, 0.75)
    assert kept.shape == (NUM_CLIPS, 4)
    assert all(len(set(row)) == 4 and row == sorted(row) for row in kept.tolist())
    assert torch.equal(visible_patches(KEYS[[4, 1]], "video", 16, 0.75), kept[[4, 1]])
    assert not torch.equal(visible_patches(KEYS, "audio", 16, 0.75), kept)
    many = visible_patches(torch.arange(4000), "video", 16, 0.75).flatten().bincount()
    assert (many.float() / 1000 - 1).abs().max() < 0.15  # each patch as often
    assert visible_patches(KEYS, "video", 16, 0.99).shape == (NUM_CLIPS, 1)


@pytest.mark.parametrize("pool", ["mean", "class"])
@pytest.mark.parametrize("needs", [{"ratios": (0.75, 0.25, 0.0)}, {"predicts": "latents", "own": True}])
def test_neither_order_nor_chunks_nor_other_clips_change_a_clip(pool: str, needs: dict[str, object]) -> None:
    model, (video, audio) = _model(pool, **needs).train(), _clips()
    found = _tensors(model(video, audio, keys=KEYS))
    order = torch.tensor([3, 5, 0])
    for name, part in _tensors(model(video[order], audio[order], keys=KEYS[order])).items():
        torch.testing.assert_close(part, found[name][order], msg=name)
    for name, part in _tensors(model(video, audio, keys=KEYS, chunk_size=4)).items():
        torch.testing.assert_close(part, found[name], msg=name)
    assert found["video.hidden"].shape == (NUM_CLIPS, 32)
    assert torch.equal(*found["video.hidden"].unflatten(1, (2, 16)).unbind(1))  # the same in both frames


def test_hidden_patches_change_no_embedding_and_only_targets() -> None:
    model, (video, audio) = _model("mean"), _clips()
    found = model(video, audio, keys=KEYS)
    hidden = found.video_patches.hidden.unflatten(1, (2, 4, 4))
    spoilt = video + 50 * hidden.repeat_interleave(4, 2).repeat_interleave(4, 3)[:, None]
    other = model(spoilt, audio, keys=KEYS)
    torch.testing.assert_close(other.video, found.video)
    torch.testing.assert_close(other.video_patches.from_both, found.video_patches.from_both)
    changed = (other.video_patches.values != found.video_patches.values).any(dim=2)
    assert torch.equal(changed, found.video_patches.hidden)
    whole = model(video, audio)  # without keys, every patch is seen
    assert whole.video_patches is None
    assert not torch.allclose(whole.video, found.video)


def test_encoder_blocks_get_visible_patches_only() -> None:
    model, lengths = _model(ratios=(0.75,)), []
    model.video_encoder.block1.register_forward_pre_hook(lambda _, x: lengths.append(tuple(x[0].shape)))
    model(*_clips(), keys=KEYS)
    assert lengths == [(NUM_CLIPS * 2, 1 + 4 + 2, 8)]  # class token, a quarter of 16 patches, registers


def test_values_are_the_pixels_in_the_order_of_the_tokens() -> None:
    model, (video, audio) = _model(), _clips()
    values = patch_values(model.video_encoder.patch_tokens(video), NUM_CLIPS)
    assert values.shape == (NUM_CLIPS, 32, 48)
    assert torch.equal(values[2, 16 + 4 * 1 + 3], video[2, :, 1, 4:8, 12:16].flatten())
    sound = patch_values(model.audio_encoder.patch_tokens(audio), NUM_CLIPS)
    assert torch.equal(sound[1, 5 + 2], audio[1, 0, 8:12, 4:8].T.flatten())  # rows of frequency, columns of time
    projection = model.video_encoder.patches.projection
    tokens = model.video_encoder.patch_tokens(video)
    expected = values.unflatten(1, (2, 16)).flatten(0, 1) @ projection.weight.flatten(1).T + projection.bias
    positions = model.video_encoder.patches.position.flatten(2).transpose(1, 2)
    torch.testing.assert_close(tokens.patches_of(tokens.tokens), expected + positions)


def test_latents_of_the_momentum_model_are_the_head_on_every_patch() -> None:
    model, (video, audio) = _model(predicts="latents").eval(), _clips()
    with torch.no_grad():
        found, expected = model(video, audio, needs_patches=True), model(video, audio, needs_maps=True)
    torch.testing.assert_close(found.video, expected.video)
    torch.testing.assert_close(found.video_patches.values, expected.video_map.flatten(2).transpose(1, 2))
    assert found.audio_patches.values.shape == (NUM_CLIPS, 10, 6)
    assert found.video_patches.hidden is None


@pytest.mark.parametrize("predicts", ["pixels", "latents"])
def test_every_parameter_gets_a_gradient(predicts: str) -> None:
    model = _model(head="mlp_bn", predicts=predicts, own=predicts == "latents", ratios=(0.5, 0.25)).train()
    found = model(*_clips(), keys=KEYS)
    outputs = [x for name, x in _tensors(found).items() if x.is_floating_point() and x.requires_grad]
    sum(x.square().sum() for x in outputs).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_positions_differ_and_do_not_depend_on_the_grid() -> None:
    small, large = grid_positions((2, 3, 4), 14), grid_positions((3, 3, 4), 14)
    assert small.shape == (24, 14)
    assert len({tuple(row) for row in small.tolist()}) == 24
    assert torch.equal(large[:24], small)
    torch.testing.assert_close(small[0], torch.tensor([0.0, 0, 1, 1] * 3 + [0, 0]))


def test_unfit_encoders_and_needs_are_errors() -> None:
    model = _model()
    small = create_encoder("small_audio", modality="audio", width=8)
    needs = model.patch_prediction.needs
    with pytest.raises(ValueError, match=r"audio encoder SmallAudioEncoder cannot skip patches.* vit_spectrogram"):
        PatchPrediction(model.video_encoder, small, 6, needs)
    with pytest.raises(ValueError, match=r"video_dropout \(0\.5\) drops features of the whole map: set it to 0"):
        AVModel(
            model.video_encoder,
            model.audio_encoder,
            model.video_head,
            model.audio_head,
            patch_prediction=model.patch_prediction,
            video_dropout=0.5,
        )
    with pytest.raises(ValueError, match="one view, and no other needs"):
        ObjectiveNeeds(masked=needs, maps=True)
    with pytest.raises(ValueError, match=r"mask_ratios \(0\.75,\) hide none of the 1 patches of the video encoder"):
        model.patch_prediction.check_input(model.video_encoder, torch.empty(1, 3, 2, 4, 4))


def test_blocks_that_both_modalities_share_skip_the_patches_of_each() -> None:
    pytest.importorskip("timm")
    config = ("depth=1", "embed_dim=16", "num_heads=2", "img_size=16", "patch_size=8")
    video = create_encoder("timm", modality="video", backbone="vit_tiny_patch16_224", config=config)
    audio = create_encoder("shared_vit", modality="audio", trunk=video, patch=8, num_columns=3, num_rows=1)
    heads = [create_head("mlp", 16, out_features=6) for _ in range(2)]
    needs = MaskedPatches((0.5,), "pixels", width=14, num_blocks=1, num_heads=2)
    model = AVModel(video, audio, *heads, patch_prediction=PatchPrediction(video, audio, 6, needs)).train()
    clips, sound = _clips()
    found = model(clips, sound, keys=KEYS)
    assert found.video_patches.values.shape == found.video_patches.from_both.shape == (NUM_CLIPS, 2 * 4, 3 * 64)
    assert found.audio_patches.values.shape == (NUM_CLIPS, 3, 64)  # 20 columns are filled up to three patches
    assert torch.equal(found.audio_patches.values[1, 2].view(8, 8)[:4], sound[1, 0, 16:])
    assert not found.audio_patches.values[1, 2].view(8, 8)[4:].any()
    other = model(clips, sound + 50 * found.audio_patches.hidden.repeat_interleave(8, 1)[:, None, :20, None], keys=KEYS)
    torch.testing.assert_close(other.audio, found.audio)
    convolutions = create_encoder("timm", modality="video", backbone="resnet18")
    with pytest.raises(ValueError, match="cannot be run on tokens alone"):
        PatchPrediction(convolutions, audio, 6, needs)
