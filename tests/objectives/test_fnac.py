"""FNAC against loops in double precision, closed forms, InfoNCE in the warm-up, invariances, and input that it refuses.

Two ranks against one process are in test_two_ranks.py, exact continuation in test_resume.py.
"""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.objectives import FNAC, InfoNCE, foreground

WARM: dict[str, Any] = {"temperature": 0.2, "warmup_epochs": 0}


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def _pair(seed: int, num_clips: int = 5, cells: tuple[int, ...] = (2, 3, 2)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_clips, 4, *cells, generator=generator), torch.randn(num_clips, 4, generator=generator)


def _result(video_map: Tensor, audio: Tensor, epoch: int = 0, **options: Any) -> LossTerms:
    objective = FNAC(**{"max_over": "cells"} | options)
    objective.on_epoch_start(epoch)
    return objective(Embeddings(video_map.mean((2, 3, 4)), audio, video_map), None, _index(len(audio)))


def _softmax(scores: np.ndarray) -> np.ndarray:
    exponentials = np.exp(scores)
    return exponentials / exponentials.sum(1, keepdims=True)


def _reference(video_map: Tensor, audio: Tensor, per_frame: bool, temperature: float = 0.2) -> dict[str, float]:
    """The module's formula with loops over clips, frames and cells."""
    maps, sounds = video_map.double().numpy(), audio.double().numpy()
    num_clips, num_features, num_times = maps.shape[:3]
    maps = (maps / np.linalg.norm(maps, axis=1, keepdims=True)).reshape(num_clips, num_features, num_times, -1)
    sounds = sounds / np.linalg.norm(sounds, axis=1, keepdims=True)
    scores, image, sounding = np.zeros((num_clips,) * 2), np.zeros_like(sounds), np.zeros_like(sounds)
    for i in range(num_clips):
        cosines = np.array([sounds @ maps[i, :, t] for t in range(num_times)])  # (T, N, C)
        scores[i] = cosines.max(2).mean(0) if per_frame else cosines.max((0, 2))
        own = cosines[:, i]
        for t in range(num_times):
            low, high = (own[t].min(), own[t].max()) if per_frame else (own.min(), own.max())
            for cell, cosine in zip(maps[i, :, t].T, own[t], strict=True):
                image[i] += cell / own.size
                if (cosine - low) / (high - low) > 0.6:
                    sounding[i] += cell / own.size
    v2a, a2v = _softmax(scores / temperature), _softmax(scores.T / temperature)
    of_audio = _softmax(sounds @ sounds.T / temperature)
    return {
        "base": -np.log(v2a.diagonal()).mean() - np.log(a2v.diagonal()).mean(),
        "audio": np.abs(of_audio - v2a).mean(),
        "image": np.abs(_softmax(image @ image.T / temperature) - v2a).mean(),
        "foreground": np.abs(of_audio - _softmax(sounding @ sounding.T / temperature)).mean(),
    }


@pytest.mark.parametrize("max_over", ["cells", "space"])
def test_fnac_matches_loop_reference(max_over: str) -> None:
    video_map, audio = _pair(0)
    expected = _reference(video_map, audio, per_frame=max_over == "space")
    result = _result(video_map, audio, max_over=max_over, audio_weight=3, image_weight=5, foreground_weight=7, **WARM)
    for name, value in expected.items():
        assert result.terms[f"loss_{name}"].item() == pytest.approx(value, rel=1e-4), name
    total = expected["base"] + 3 * expected["audio"] + 5 * expected["image"] + 7 * expected["foreground"]
    assert result.total.item() == pytest.approx(total, rel=1e-4)


def test_fnac_is_twice_log_n_when_embeddings_coincide() -> None:
    """Every affinity is uniform then, so that no distance is left."""
    same = torch.ones(6, 4)
    result = _result(same[..., None, None, None].expand(-1, -1, 1, 2, 2), same, **WARM)
    assert result.total.item() == pytest.approx(2 * math.log(6), rel=1e-5)


def test_distances_have_a_closed_form_for_orthogonal_sounds_and_equal_pictures() -> None:
    """Sounds tell the clips apart, pictures do not: both cells are (1, 1) / sqrt 2, halfway between the two sounds.

    The scores of a row are equal, so are the products of pictures, and equal cosines have no foreground.
    """
    audio = torch.eye(2)
    result = _result(torch.ones(2, 2, 1, 1, 2), audio, temperature=0.5, warmup_epochs=0)
    distance = 1 / (1 + math.exp(-1 / 0.5)) - 0.5
    assert result.terms["loss_audio"].item() == pytest.approx(distance, rel=1e-5)
    assert result.terms["loss_image"].item() == pytest.approx(0, abs=1e-6)
    assert result.terms["loss_foreground"].item() == pytest.approx(distance, rel=1e-5)
    assert result.total.item() == pytest.approx(2 * math.log(2) + 200 * distance, rel=1e-5)


def test_foreground_is_the_sum_of_the_cells_that_sound_over_all_cells() -> None:
    cosines = torch.tensor([[1.0, 0.9, 0.5, 0.0]])
    cells = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)[:, :, None, None]  # (1, 2, 1, 1, 4)
    found = foreground(cells, torch.tensor([[1.0, 0.0]]), 0.6, "cells")
    torch.testing.assert_close(found, cells[:, :, 0, 0, :2].sum(dim=2) / 4)


def test_foreground_is_scaled_in_the_frame_or_in_the_clip() -> None:
    cosines = torch.tensor([[[1.0, 0.0], [0.3, 0.1]]])  # two frames of two cells
    cells = torch.stack([cosines, (1 - cosines**2).sqrt()], dim=1)[:, :, :, None]
    sound = torch.tensor([[1.0, 0.0]])
    torch.testing.assert_close(foreground(cells, sound, 0.6, "cells")[0, 0], torch.tensor(1 / 4))
    torch.testing.assert_close(foreground(cells, sound, 0.6, "space")[0, 0], torch.tensor(1.3 / 4))


def test_warmup_is_ez_vsls_loss_and_ends_in_time() -> None:
    video_map, audio = _pair(1)
    online = Embeddings(video_map.mean((2, 3, 4)), audio, video_map)
    plain = InfoNCE(0.2, "max", "space")(online, None, _index(5))
    objective = FNAC(0.2, max_over="space", warmup_epochs=2)
    totals = []
    for number in range(4):
        objective.on_epoch_start(number)
        result = objective(online, None, _index(5))
        totals.append(result.total)
        assert {name: result.terms[name] for name in plain.terms if name != "loss"} == {
            name: value for name, value in plain.terms.items() if name != "loss"
        }
    torch.testing.assert_close(totals[0], 2 * plain.total)
    assert totals[0] == totals[1] < totals[2] == totals[3]


def test_end_of_the_warmup_survives_a_checkpoint() -> None:
    """A run that resumes within a pass is not told again that the pass starts."""
    video_map, audio = _pair(2)
    before, after = FNAC(**WARM), FNAC(**WARM)
    before.on_epoch_start(0)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    online = Embeddings(video_map.mean((2, 3, 4)), audio, video_map)
    assert after(online, None, _index(5)).total < before(online, None, _index(5)).total
    after.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(after(online, None, _index(5)).total, before(online, None, _index(5)).total)


def test_fnac_ignores_scale_and_the_order_of_clips_and_cells() -> None:
    video_map, audio = _pair(3)
    expected = _result(video_map, audio, **WARM).total
    torch.testing.assert_close(_result(video_map * 3, audio / 9, **WARM).total, expected)
    order = torch.tensor([2, 0, 4, 3, 1])
    torch.testing.assert_close(_result(video_map[order], audio[order], **WARM).total, expected)
    torch.testing.assert_close(_result(video_map.flip(2, 3, 4), audio, **WARM).total, expected)


def test_clips_that_are_alike_keep_a_high_score_with_each_other() -> None:
    """Clips 0 and 1 sound and look nearly alike. EZ-VSL's loss drives picture 0 from sound 1, suppression less so."""
    audio = F.normalize(torch.tensor([[1.0, 0.2, 0.0], [1.0, -0.2, 0.0], [0.0, 0.0, 1.0]]), dim=1)

    def score_after(epochs: int, weight: str) -> float:
        pictures = audio.clone()[..., None, None, None].requires_grad_()
        optimizer = torch.optim.SGD([pictures], lr=0.05)
        others = dict.fromkeys(["audio_weight", "image_weight", "foreground_weight"], 0.0)
        for _ in range(100):
            result = _result(pictures, audio, temperature=0.1, warmup_epochs=epochs, **(others | {weight: 20.0}))
            optimizer.zero_grad()
            result.total.backward()
            optimizer.step()
        return F.cosine_similarity(pictures[0, :, 0, 0, 0], audio[1], dim=0).item()

    with_base_alone = score_after(1, "audio_weight")
    assert with_base_alone < 0.7
    for weight in ("audio_weight", "image_weight"):
        assert score_after(0, weight) > with_base_alone + 0.1


def test_fnac_is_float32_under_autocast() -> None:
    video_map, audio = _pair(5)
    with torch.autocast("cpu", torch.bfloat16):
        total = _result(video_map, audio, **WARM).total
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, _result(video_map, audio, **WARM).total)


def test_fnac_refuses_wrong_options_and_input() -> None:
    video_map, audio = _pair(6)
    with pytest.raises(ValueError, match=r"image_weight \(-1\) must be >= 0"):
        FNAC(image_weight=-1, max_over="cells")
    with pytest.raises(ValueError, match=r"foreground_threshold \(1\) must be in \[0, 1\)"):
        FNAC(foreground_threshold=1, max_over="cells")
    with pytest.raises(ValueError, match=r"warmup_epochs \(-2\) must be >= 0"):
        FNAC(warmup_epochs=-2, max_over="cells")
    with pytest.raises(ValueError, match='must be "cells" or "space"'):
        FNAC(max_over="time")
    with pytest.raises(ValueError, match=r"temperature \(0\) must be >= 1e-06"):
        FNAC(temperature=0, max_over="cells")
    with pytest.raises(ValueError, match="FNAC takes one view of each clip, got 5 embeddings of 4 clips"):
        FNAC(max_over="cells")(Embeddings(audio, audio, video_map), None, _index(4))
    with pytest.raises(ValueError, match=r"needs Embeddings\.video_map"):
        FNAC(max_over="cells")(Embeddings(audio, audio), None, _index(5))
