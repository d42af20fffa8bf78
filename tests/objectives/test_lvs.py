"""LVS against loops with plain sigmoids, closed forms, invariances, and input that it refuses.

Two ranks against one process are in test_two_ranks.py, exact continuation in test_resume.py.
"""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import LVS, TriMap, lvs_scores

WIDE = {"temperature": 0.2, "positive_threshold": 0.3, "negative_threshold": 0.1, "threshold_width": 0.2}


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def _pair(seed: int, num_clips: int = 4, cells: tuple[int, ...] = (2, 3, 2)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_clips, 5, *cells, generator=generator), torch.randn(num_clips, 5, generator=generator)


def _loss(video_map: Tensor, audio: Tensor, **options: float) -> Tensor:
    online = Embeddings(video_map.mean((2, 3, 4)), audio, video_map)
    return LVS(**options)(online, None, _index(len(audio))).total


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _reference(video_map: Tensor, audio: Tensor, symmetric: bool = False) -> float:
    """The formula of the module, term by term, with the options WIDE."""
    maps, sounds = video_map.double(), audio.double()
    num_clips, num_times = len(audio), video_map.shape[2]

    def mean(i: int, j: int, negative: bool) -> float:
        result = 0.0
        for t in range(num_times):
            above = below = 0.0
            for cell in maps[i, :, t].flatten(1).T:
                cosine = F.cosine_similarity(cell, sounds[j], dim=0).item()
                weight = 1 - _sigmoid((cosine - 0.1) / 0.2) if negative else _sigmoid((cosine - 0.3) / 0.2)
                above, below = above + weight * cosine, below + weight
            result += above / below / num_times
        return result

    def loss(i: int, others: list[float]) -> float:
        terms = [math.exp(score / 0.2) for score in [mean(i, i, False), *others, mean(i, i, True)]]
        return -math.log(terms[0] / sum(terms))

    rows = range(num_clips)
    v2a = sum(loss(i, [mean(i, j, False) for j in rows if j != i]) for i in rows) / num_clips
    a2v = sum(loss(i, [mean(j, i, False) for j in rows if j != i]) for i in rows) / num_clips
    return (v2a + a2v) / 2 if symmetric else v2a


@pytest.mark.parametrize("symmetric", [False, True])
def test_lvs_matches_loop_reference(symmetric: bool) -> None:
    video_map, audio = _pair(0)
    total = _loss(video_map, audio, **WIDE, symmetric=symmetric)
    assert total.item() == pytest.approx(_reference(video_map, audio, symmetric), rel=1e-5)


def test_others_of_a_clip_are_its_picture_with_their_sounds() -> None:
    """All sounds alike: a picture cannot tell them apart, however much the pictures differ."""
    video_map, _ = _pair(1, cells=(1, 1, 1))
    video_map[:, 0] = video_map[:, 0].abs() + 1
    sound = torch.eye(5)[0].expand(4, 5)
    assert _loss(video_map, sound).item() == pytest.approx(math.log(5), rel=1e-5)
    assert _loss(sound[:, :, None, None, None], video_map[..., 0, 0, 0]).item() != pytest.approx(math.log(5), abs=0.05)


@pytest.mark.parametrize("num_clips", [1, 3])
def test_lvs_is_log_of_n_and_the_hard_negative_when_embeddings_coincide(num_clips: int) -> None:
    """The own pair counts once: N pairs and one hard negative."""
    same = torch.ones(num_clips, 5)
    total = _loss(same[:, :, None, None, None].expand(-1, -1, 2, 3, 3), same)
    assert total.item() == pytest.approx(math.log(num_clips + 1), rel=1e-5)


def test_lvs_has_a_closed_form_for_cells_of_cosine_one_and_zero() -> None:
    """Orthogonal sounds, one cell that sounds and one that does not: P = 1 of the own pair, 0 of others, N = 0."""
    sounds = torch.eye(3)
    silent = torch.roll(sounds, 1, dims=1)  # the cell of another clip's sound
    maps = torch.stack([sounds, silent], dim=2)[:, :, None, None]
    online = Embeddings(sounds, sounds, maps)
    result = LVS(temperature=0.5)(online, None, _index(3))
    # The picture with the sound of its silent cell has P = 1 as well, with the third sound 0.
    expected = math.log(2 * math.exp(2) + 2) - 2
    assert result.total.item() == pytest.approx(expected, rel=1e-4)
    assert result.terms["cosine_positive"].item() == pytest.approx(1, abs=1e-4)
    assert result.terms["cosine_negative"].item() == pytest.approx(0.5, abs=1e-4)
    assert result.terms["cosine_hard"].item() == pytest.approx(0, abs=1e-4)


def test_cells_between_the_thresholds_count_as_neither() -> None:
    tri_map = TriMap()
    cosines = torch.tensor([0.9, 0.55, 0.5, 0.0])
    assert tri_map.positive_mean(cosines).item() == pytest.approx(0.9, abs=0.02)
    assert tri_map.negative_mean(cosines).item() == pytest.approx(0.0, abs=0.03)


def test_lvs_ignores_scale_and_the_order_of_clips_cells_and_frames() -> None:
    video_map, audio = _pair(2)
    expected = _loss(video_map, audio, **WIDE)
    scaled = video_map * torch.rand(4, 1, 2, 3, 2).add(0.1)
    torch.testing.assert_close(_loss(scaled, audio / 9, **WIDE), expected)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(_loss(video_map[order], audio[order], **WIDE), expected)
    torch.testing.assert_close(_loss(video_map.flip(2, 3, 4), audio, **WIDE), expected)


def test_a_still_video_is_its_frame() -> None:
    video_map, audio = _pair(3, cells=(1, 3, 3))
    still = video_map.expand(-1, -1, 4, -1, -1)
    torch.testing.assert_close(_loss(still, audio, **WIDE), _loss(video_map, audio, **WIDE))


def test_masks_are_of_each_frame() -> None:
    """In one frame the sound is there and in the other it is not: P is the mean of the two, not the best cell's."""
    sound = torch.eye(3)[:1]
    maps = torch.stack([sound, torch.eye(3)[1:2]], dim=2)[..., None, None]  # (1, 3, 2, 1, 1)
    scores, hard = lvs_scores(maps, sound, TriMap())
    assert (scores.item(), hard.item()) == (0.5, 0.5)


def test_gradients_are_finite_where_every_mask_vanishes() -> None:
    audio = F.normalize(torch.randn(3, 4), dim=1)
    maps = -audio[:, :, None, None, None].expand(-1, -1, 1, 2, 2) + 1e-3 * torch.randn(3, 4, 1, 2, 2)
    maps.requires_grad_()
    total = _loss(maps, audio, threshold_width=0.002)  # sigmoid(-825) is 0 in float32
    total.backward()
    assert total.isfinite()
    assert maps.grad.isfinite().all()
    assert maps.grad.abs().max() > 0


def test_training_brings_the_sounding_cell_up_and_the_silent_ones_down() -> None:
    maps, audio = _pair(4, num_clips=6, cells=(1, 3, 3))
    maps.requires_grad_()
    optimizer = torch.optim.Adam([maps], lr=0.1)
    for _ in range(60):
        online = Embeddings(maps.mean((2, 3, 4)), audio, maps)
        result = LVS()(online, None, _index(6))
        optimizer.zero_grad()
        result.total.backward()
        optimizer.step()
    assert result.terms["accuracy_v2a"] == 1
    assert result.terms["cosine_positive"] > 0.7
    assert result.terms["cosine_hard"] < 0.3


def test_lvs_is_float32_under_autocast() -> None:
    video_map, audio = _pair(5)
    with torch.autocast("cpu", torch.bfloat16):
        total = _loss(video_map, audio, **WIDE)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, _loss(video_map, audio, **WIDE))


def test_lvs_refuses_wrong_options_and_input() -> None:
    video_map, audio = _pair(6)
    with pytest.raises(ValueError, match=r"negative_threshold \(0\.4\) must not be above positive_threshold \(0\.3\)"):
        LVS(positive_threshold=0.3)
    with pytest.raises(ValueError, match=r"positive_threshold \(1.2\) must be in \[-1, 1\]"):
        LVS(positive_threshold=1.2)
    with pytest.raises(ValueError, match=r"threshold_width \(0\) must be > 0"):
        LVS(threshold_width=0)
    with pytest.raises(ValueError, match=r"temperature \(-1\) must be >= 1e-06"):
        LVS(temperature=-1)
    with pytest.raises(ValueError, match=r"must hold the same clips in the same order.*got video_map \(3, 5"):
        lvs_scores(video_map[:3], audio, TriMap())
    online = Embeddings(audio, audio, video_map)
    with pytest.raises(ValueError, match="LVS takes one view of each clip, got 4 embeddings of 2 clips"):
        LVS()(online, None, _index(2))
    with pytest.raises(ValueError, match=r"LVS needs Embeddings\.video_map"):
        LVS()(Embeddings(audio, audio), None, _index(4))
