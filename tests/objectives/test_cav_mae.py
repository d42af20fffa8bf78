"""CAV-MAE and the loss of masked patches, against loops, ViTMAE of transformers, closed forms and invariances."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, Patches
from avssl.objectives import CavMae, create_objective, info_nce, masked_patch_loss


def _patches(seed: int, length: int = 5, size: int = 4) -> Patches:
    generator = torch.Generator().manual_seed(seed)
    values, prediction = torch.randn(2, 3, length, size, generator=generator)
    hidden = torch.rand(3, length, generator=generator) < 0.6
    return Patches(3 * values + 1, hidden, from_both=prediction)


def _online() -> Embeddings:
    video, audio = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(9))
    return Embeddings(video, audio, video_patches=_patches(0), audio_patches=_patches(1, 7, 6))


def _index(count: int = 3) -> BatchIndex:
    return BatchIndex(*(torch.arange(count) for _ in range(3)))


def _fields(patches: Patches) -> tuple[Tensor, Tensor, Tensor]:
    return patches.from_both, patches.values, patches.hidden


@pytest.mark.parametrize("normalize", [True, False])
def test_masked_patch_loss_matches_loops_in_numpy(normalize: bool) -> None:
    prediction, target, mask = (x.double().numpy() for x in _fields(_patches(3)))
    errors = []
    for clip, patch in zip(*np.nonzero(mask), strict=True):
        wanted = target[clip, patch]
        if normalize:
            wanted = (wanted - wanted.mean()) / np.sqrt(wanted.var(ddof=1) + 1e-6)
        errors.append(np.mean((prediction[clip, patch] - wanted) ** 2))
    assert 0 < len(errors) < mask.size
    loss = masked_patch_loss(*_fields(_patches(3)), normalize=normalize)
    assert loss.item() == pytest.approx(np.mean(errors), rel=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_masked_patch_loss_is_that_of_vit_mae(normalize: bool) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMAEConfig(
        image_size=8,
        patch_size=4,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        decoder_hidden_size=8,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=1,
        decoder_intermediate_size=8,
        norm_pix_loss=normalize,
    )
    theirs = transformers.ViTMAEForPreTraining(config)
    pixels = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    found = theirs(pixels)
    assert 0 < found.mask.mean() < 1
    loss = masked_patch_loss(found.logits, theirs.patchify(pixels), found.mask.bool(), normalize)
    torch.testing.assert_close(loss, found.loss, rtol=1e-5, atol=1e-6)


def test_masked_patch_loss_has_closed_forms_and_invariances() -> None:
    prediction, target, mask = _fields(_patches(4))
    assert masked_patch_loss(target, target, mask, normalize=False) == 0
    # A constant prediction of a standardized patch of 4 numbers: their population variance, 3/4 of the unbiased one.
    assert masked_patch_loss(0 * target, target, mask).item() == pytest.approx(0.75, rel=1e-5)
    loss = masked_patch_loss(prediction, target, mask)
    scale = torch.rand(3, 5, 1) + 0.5
    torch.testing.assert_close(masked_patch_loss(prediction, target * scale + 7, mask), loss)
    spoilt = torch.where(mask[..., None], prediction, 1e6)
    assert torch.equal(masked_patch_loss(spoilt, target, mask), loss)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(masked_patch_loss(prediction[:, order], target[:, order], mask[:, order]), loss)
    assert masked_patch_loss(prediction, target, torch.zeros_like(mask)) == 0


def test_unfit_patches_are_errors() -> None:
    prediction, target, mask = _fields(_patches(4))
    with pytest.raises(ValueError, match=r"got \(3, 4, 4\), \(3, 5, 4\) and \(3, 5\)"):
        masked_patch_loss(prediction[:, 1:], target, mask)
    with pytest.raises(ValueError, match=r"mask must be bool, True for patches that count, got torch\.float32"):
        masked_patch_loss(prediction, target, mask.float())
    with pytest.raises(ValueError, match="a single number has no variance"):
        masked_patch_loss(prediction[..., :1], target[..., :1], mask)
    with pytest.raises(ValueError, match=r"patches and their predictions must be \(B, L, P\)"):
        Patches(target, mask, from_both=prediction[:, 1:])


def test_total_is_the_weighted_sum_of_contrast_and_reconstruction() -> None:
    online = _online()
    sides = online.video_patches, online.audio_patches
    losses = [masked_patch_loss(*_fields(side)) for side in sides]
    contrast = info_nce(online.video, online.audio, 0.05)
    result = CavMae()(online, None, _index())
    torch.testing.assert_close(result.total, 0.01 * contrast + losses[0] + losses[1])
    torch.testing.assert_close(result.terms["loss_contrast"], contrast)
    hidden = sum(int(side.hidden.sum()) for side in sides)
    assert result.terms["hidden_share"].item() == pytest.approx(hidden / (3 * 12))
    other = create_objective("cav_mae", contrast_weight=2.0, reconstruction_weight=0.0, temperature=0.5)
    torch.testing.assert_close(other(online, None, _index()).total, 2 * info_nce(online.video, online.audio, 0.5))


def test_wrong_options_and_missing_patches_are_errors() -> None:
    with pytest.raises(ValueError, match=r"mask_ratios \(\) must be shares below 1"):
        CavMae(mask_ratios=())
    with pytest.raises(ValueError, match=r"mask_ratios \(0\.75, 1\.0\) must all be in \[0, 1\)"):
        CavMae(mask_ratios=(0.75, 1.0))
    with pytest.raises(ValueError, match=r"decoder_heads \(5\) must divide decoder_width \(512\)"):
        CavMae(decoder_heads=5)
    with pytest.raises(ValueError, match="must not both be 0"):
        CavMae(contrast_weight=0.0, reconstruction_weight=0.0)
    video, audio = torch.randn(2, 3, 6)
    with pytest.raises(ValueError, match=r"CavMae needs Embeddings\.video_patches .* give the model patch_prediction"):
        CavMae()(Embeddings(video, audio), None, _index())
    with pytest.raises(ValueError, match="takes one view of each clip, got 3 embeddings of 2 clips"):
        CavMae()(_online(), None, _index(2))
