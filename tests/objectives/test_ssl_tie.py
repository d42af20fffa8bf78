"""SSL-TIE against loops, closed forms, the transform that makes its views, invariances, and input that it refuses.

Two ranks against one process are in test_two_ranks.py, exact continuation in test_resume.py.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.affine import Affine, RandomAffine
from avssl.core.batch import Batch, BatchIndex, Embeddings, LossTerms
from avssl.core.draws import clip_key
from avssl.objectives import LVS, SSLTIE, InfoNCE
from avssl.objectives.ssl_tie import equivariance, own_cosines
from avssl.transforms import ClipTransform, LogSpectrogram, VideoAugment, VideoEval

STILL: dict[str, Any] = {"max_degrees": 0.0, "scale": (1.0, 1.0)}


def _index(num_clips: int) -> BatchIndex:
    row = torch.arange(num_clips)
    return BatchIndex(row, row, clip_key(0, 0, row * 977))


def _pair(seed: int, num_rows: int, cells: tuple[int, ...] = (2, 6, 6)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_rows, 4, *cells, generator=generator), torch.randn(num_rows, 4, generator=generator)


def _embeddings(video_map: Tensor, audio: Tensor) -> Embeddings:
    return Embeddings(video_map.mean((2, 3, 4)), audio, video_map)


def _result(video_map: Tensor, audio: Tensor, **options: Any) -> LossTerms:
    return SSLTIE(**options)(_embeddings(video_map, audio), None, _index(len(audio) // 2))


def _at(picture: Tensor, y: float, x: float) -> float:
    """Bilinear, between the middles of cells; beyond them the nearest."""
    size = len(picture)
    y, x = (min(max(v, 0.0), size - 1.0) for v in (y, x))
    top, left = min(int(y), size - 2), min(int(x), size - 2)
    return sum(
        picture[top + i, left + j].item() * (1 - abs(y - top - i)) * (1 - abs(x - left - j))
        for i in (0, 1)
        for j in (0, 1)
    )


def test_equivariance_matches_loop_reference() -> None:
    """Every cell of the second map, followed by hand to the place of the first picture that it shows."""
    first, second = torch.randn(2, 3, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    affine = Affine(torch.tensor([0.3, -0.5, 0.1]), torch.tensor([0.6, 0.8, 1.0]))
    expected = 0.0
    for clip, (angle, scale) in enumerate(zip(affine.angle.tolist(), affine.scale.tolist(), strict=True)):
        squares = []
        for row in range(6):
            for column in range(6):
                down, right = row - 2.5, column - 2.5  # from the middle, in cells
                from_left = (right * math.cos(angle) - down * math.sin(angle)) / scale
                from_top = (right * math.sin(angle) + down * math.cos(angle)) / scale
                if max(abs(from_left), abs(from_top)) > 3:
                    continue
                for time in range(2):
                    turned = _at(first[clip, time], from_top + 2.5, from_left + 2.5)
                    squares.append((turned - second[clip, time, row, column].item()) ** 2)
        expected += sum(squares) / len(squares) / 3
    assert equivariance(first, second, affine).item() == pytest.approx(expected, rel=1e-4)


def test_ssl_tie_is_lvs_and_the_difference_of_maps_when_nothing_turns() -> None:
    video_map, audio = _pair(1, 6)
    result = _result(video_map, audio, equivariance_weight=3, threshold_width=0.3, **STILL)
    views = [_embeddings(video_map[rows], audio[rows]) for rows in (slice(3), slice(3, 6))]
    contrast = sum(LVS(threshold_width=0.3)(view, None, _index(3)).total for view in views) / 2
    maps = [own_cosines(view.video_map, view.audio) for view in views]
    difference = F.mse_loss(*maps)
    torch.testing.assert_close(result.terms["loss_contrast"], contrast)
    torch.testing.assert_close(result.terms["loss_equivariance"], difference)
    torch.testing.assert_close(result.total, contrast + 3 * difference)


@pytest.mark.parametrize("contrast", ["pooled", "max", "both"])
def test_the_contrastive_loss_may_be_info_nce(contrast: str) -> None:
    video_map, audio = _pair(2, 6)
    result = _result(video_map, audio, contrast=contrast, temperature=0.2, equivariance_weight=0)
    views = [_embeddings(video_map[rows], audio[rows]) for rows in (slice(3), slice(3, 6))]
    expected = sum(InfoNCE(0.2, contrast, "space")(view, None, _index(3)).total for view in views) / 2
    torch.testing.assert_close(result.total, expected)


def test_ssl_tie_is_log_n_and_one_when_embeddings_coincide() -> None:
    """Constant maps stay constant when they turn."""
    same = torch.ones(6, 4)
    result = _result(same[..., None, None, None].expand(-1, -1, 1, 5, 5), same)
    assert result.total.item() == pytest.approx(math.log(3 + 1), rel=1e-5)
    assert result.terms["loss_equivariance"].item() == pytest.approx(0, abs=1e-10)


class _CellByCell(torch.nn.Module):
    """A model that is equivariant by itself: every pixel is embedded alone."""

    def forward(self, video: Tensor) -> Tensor:
        return torch.cat([video, torch.ones_like(video[:, :1])], dim=1)


def _smooth_batch(num_clips: int) -> Batch:
    """Pictures of broad blobs, so that interpolation hardly changes them."""
    places = (torch.arange(48) + 0.5) / 48
    number = torch.arange(num_clips)[:, None, None]
    x, y = 0.35 + 0.1 * (number % 4), 0.3 + 0.12 * (number % 3)
    blob = torch.exp(-12 * ((places[:, None] - y) ** 2 + (places - x) ** 2))
    video = torch.stack([255 * blob, 255 * (1 - blob), 120 + 100 * blob], dim=1)[:, None].to(torch.uint8)
    audio = 0.1 * torch.randn(num_clips, 1600, generator=torch.Generator().manual_seed(3))
    return Batch(video, audio, _index(num_clips), torch.full((num_clips, 2), 48))


def test_transform_and_objective_turn_alike_without_telling_each_other() -> None:
    """An equivariant model has no difference where both draw the same turn, and one where they do not."""
    objective, batch = SSLTIE(), _smooth_batch(8)
    augment = VideoAugment(48, brightness=0, contrast=0, saturation=0, hue=0)
    parts = augment, VideoEval(48), LogSpectrogram(16_000, window_length=512)
    views = ClipTransform(*parts, num_views=objective.needs.num_views, view_warp=objective.needs.view_warp)(batch)
    video_map = _CellByCell()(views.video)
    sound = torch.tensor([1.0, -0.5, 0.25, 2.0]).expand(16, 4)
    online = Embeddings(video_map.mean((2, 3, 4)), sound, video_map)
    right = objective(online, None, batch.index).terms["loss_equivariance"]
    other_keys = BatchIndex(batch.index.row, batch.index.group, batch.index.key.flip(0))
    wrong = objective(online, None, other_keys).terms["loss_equivariance"]
    unturned = SSLTIE(**STILL)(online, None, batch.index).terms["loss_equivariance"]
    assert right < 2e-3  # of half a pixel at edges
    assert min(wrong, unturned) > 50 * right


def test_ssl_tie_ignores_scale_and_the_order_of_clips() -> None:
    video_map, audio = _pair(4, 8)
    index, objective = _index(4), SSLTIE(threshold_width=0.3)
    expected = objective(_embeddings(video_map, audio), None, index).total
    torch.testing.assert_close(objective(_embeddings(video_map * 3, audio / 9), None, index).total, expected)
    order = torch.tensor([2, 0, 3, 1])
    both = torch.cat([order, order + 4])
    moved = BatchIndex(index.row[order], index.group[order], index.key[order])
    torch.testing.assert_close(objective(_embeddings(video_map[both], audio[both]), None, moved).total, expected)


def test_the_margin_of_a_shrunk_picture_says_nothing() -> None:
    affine = Affine(torch.zeros(1), torch.full((1,), 0.5))
    first, second = torch.randn(2, 1, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    before = equivariance(first, second, affine)
    margin = torch.ones(8, 8, dtype=torch.bool)
    margin[2:6, 2:6] = False
    assert torch.equal(equivariance(first, second.masked_fill(margin, 9.0), affine), before)
    assert not torch.equal(equivariance(first, second.masked_fill(~margin, 9.0), affine), before)


def test_gradients_reach_the_maps_of_both_views() -> None:
    video_map, audio = _pair(6, 4)
    video_map.requires_grad_()
    difference = (
        _result(video_map, audio, equivariance_weight=1).total - _result(video_map, audio, equivariance_weight=0).total
    )
    difference.backward()
    assert all(view.abs().max() > 1e-4 for view in video_map.grad.split(2))


def test_a_map_of_one_cell_gives_a_finite_loss() -> None:
    video_map, audio = _pair(7, 4, cells=(1, 2, 2))
    assert _result(video_map, audio, scale=(0.1, 0.2)).total.isfinite()


def test_what_it_asks_of_the_transform() -> None:
    objective = SSLTIE(max_degrees=10, scale=(0.8, 0.9))
    assert (objective.needs.num_views, objective.needs.view_warp) == (2, RandomAffine(10, (0.8, 0.9)))
    assert LVS().needs.view_warp is None


def test_ssl_tie_refuses_wrong_options_and_input() -> None:
    video_map, audio = _pair(8, 4)
    with pytest.raises(ValueError, match=r"contrast \('nce'\) must be one of \"lvs\", \"pooled\""):
        SSLTIE(contrast="nce")
    with pytest.raises(ValueError, match=r"equivariance_weight \(-1\) must be >= 0"):
        SSLTIE(equivariance_weight=-1)
    with pytest.raises(ValueError, match=r"max_degrees \(-3\) must be >= 0"):
        SSLTIE(max_degrees=-3)
    with pytest.raises(ValueError, match=r"threshold_width \(0\) must be > 0"):
        SSLTIE(threshold_width=0)
    with pytest.raises(ValueError, match="SSLTIE takes 2 views of each clip, got 4 embeddings of 4 clips"):
        SSLTIE()(_embeddings(video_map, audio), None, _index(4))
    with pytest.raises(ValueError, match=r"needs Embeddings\.video_map"):
        SSLTIE(contrast="pooled")(Embeddings(audio, audio), None, _index(2))
    with pytest.raises(ValueError, match=r"must be \(B, T, H, W\) of one shape, got \(2, 1, 3, 3\) and \(2, 1, 4, 4\)"):
        equivariance(torch.zeros(2, 1, 3, 3), torch.zeros(2, 1, 4, 4), RandomAffine().draw(torch.arange(2)))
