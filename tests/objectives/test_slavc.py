"""SLAVC against loops, closed forms and refusals; ranks and resume: test_two_ranks.py, test_resume.py."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import SLAVC, info_nce, slavc_scores

TAU = 0.3


def _embeddings(seed: int, num_clips: int = 3) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(num_clips, *shape, generator=generator)

    which, where = draw(4, 2, 2, 3), draw(4, 2, 2, 3)
    return Embeddings(draw(4), draw(4) * 3, which * 2, None, where / 5, draw(4))


def _index(count: int = 3) -> BatchIndex:
    return BatchIndex(*(torch.arange(count) for _ in range(3)))


def _cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    dot = sum(a * b for a, b in zip(x.tolist(), y.tolist(), strict=True))
    return dot / math.sqrt(sum(a * a for a in x.tolist()) * sum(b * b for b in y.tolist()))


def _loop_scores(pictures: Embeddings, sounds: Embeddings) -> list[list[float]]:
    """score[i][j] from probabilities, cell by cell."""
    num, (num_times, height, width) = len(pictures.video), pictures.video_map.shape[2:]
    cells = [(h, w) for h in range(height) for w in range(width)]
    table = []
    for i in range(num):
        row = []
        for j in range(num):
            score = 0.0
            for t in range(num_times):

                def exp_cosine(name: str, audio: str, k: int, h: int, w: int, i: int = i, t: int = t) -> float:
                    return math.exp(_cosine(getattr(pictures, name)[i, :, t, h, w], getattr(sounds, audio)[k]) / TAU)

                total = 0.0
                where_sum = sum(exp_cosine("video_where_map", "audio_where", j, *cell) for cell in cells)
                for cell in cells:
                    which_sum = sum(exp_cosine("video_map", "audio", k, *cell) for k in range(num))
                    which = exp_cosine("video_map", "audio", j, *cell) / which_sum
                    total += which * exp_cosine("video_where_map", "audio_where", j, *cell) / where_sum
                score += math.log(total) / num_times
            row.append(score)
        table.append(row)
    return table


def _loop_cross_entropy(table: list[list[float]]) -> float:
    return sum(math.log(sum(map(math.exp, row))) - row[i] for i, row in enumerate(table)) / len(table)


def test_slavc_matches_loop_reference() -> None:
    online, target = _embeddings(1), _embeddings(2)
    expected = [_loop_scores(online, target), _loop_scores(target, online)]
    got = slavc_scores(online.video_map, target.audio, online.video_where_map, target.audio_where, TAU)
    torch.testing.assert_close(got, torch.tensor(expected[0]), rtol=1e-5, atol=1e-5)
    result = SLAVC(TAU)(online, target, _index())
    assert result.total.item() == pytest.approx(sum(map(_loop_cross_entropy, expected)) / 2, rel=1e-5)
    for name, table in zip(("accuracy_v2a", "accuracy_a2v"), expected, strict=True):
        hits = [row.index(max(row)) == i for i, row in enumerate(table)]
        assert result.terms[name].item() == pytest.approx(sum(hits) / 3)


def test_slavc_is_log_n_when_sounds_coincide() -> None:
    """Which sound is not known then, wherever it is: the probabilities of places sum to 1."""
    online = _embeddings(1, num_clips=5)
    same = replace(online, audio=torch.ones(5, 4), audio_where=torch.ones(5, 4))
    assert SLAVC(TAU)(same, same, _index(5)).total.item() == pytest.approx(math.log(5), rel=1e-6)


def test_slavc_of_one_cell_is_info_nce_of_a_picture() -> None:
    """Where there is one place, a cell's probability is InfoNCE's, and its logarithm normalized already."""
    online, target = _embeddings(1), _embeddings(2)
    one = replace(online, video_map=online.video[:, :, None, None, None], video_where_map=torch.ones(3, 4, 1, 1, 1))
    scores = slavc_scores(one.video_map, target.audio, one.video_where_map, target.audio_where, TAU)
    cosines = F.normalize(online.video, dim=1) @ F.normalize(target.audio, dim=1).T
    torch.testing.assert_close(scores, (cosines / TAU).log_softmax(dim=1))
    # Both directions of InfoNCE: rows of pictures, and rows of "pictures" that are the sounds.
    turned = slavc_scores(
        target.audio[:, :, None, None, None], online.video, one.video_where_map, target.audio_where, TAU
    )
    both = sum(F.cross_entropy(x, torch.arange(3)) for x in (scores, turned)) / 2
    torch.testing.assert_close(both, info_nce(online.video, target.audio, TAU))


def test_slavc_finds_the_cell_by_both_heads() -> None:
    """By hand: two sounds, two cells. Cell 0 fits its sound, and the second head looks at cell 0 or at cell 1."""
    unit = torch.eye(2)
    which_map = torch.stack([unit, unit])[:, :, None, None]  # (2, D, 1, 1, 2): cell c is the unit vector c
    where_map = which_map
    looks_at_own, elsewhere = unit, unit.flip(0)
    good = slavc_scores(which_map, unit, where_map, looks_at_own, 0.5).diagonal()
    bad = slavc_scores(which_map, unit, where_map, elsewhere, 0.5).diagonal()
    p = 1 / (1 + math.exp(-2))
    assert good.tolist() == pytest.approx([math.log(p * p + (1 - p) ** 2)] * 2, rel=1e-4)
    assert bad.tolist() == pytest.approx([math.log(2 * p * (1 - p))] * 2, rel=1e-4)


def test_slavc_averages_scores_over_time() -> None:
    online, target = _embeddings(1), _embeddings(2)
    parts = [
        slavc_scores(
            online.video_map[:, :, t : t + 1],
            target.audio,
            online.video_where_map[:, :, t : t + 1],
            target.audio_where,
            TAU,
        )
        for t in range(2)
    ]
    whole = slavc_scores(online.video_map, target.audio, online.video_where_map, target.audio_where, TAU)
    torch.testing.assert_close(whole, (parts[0] + parts[1]) / 2)


def test_slavc_ignores_scale_the_order_of_cells_and_autocast() -> None:
    online, target, objective = _embeddings(1), _embeddings(2), SLAVC(TAU)
    total = objective(online, target, _index()).total
    scaled = replace(
        online, video_map=online.video_map * 50, audio=online.audio / 7, audio_where=online.audio_where * 9
    )
    torch.testing.assert_close(objective(scaled, target, _index()).total, total)
    order = torch.tensor([1, 0])
    moved = replace(
        online, video_map=online.video_map[:, :, :, order], video_where_map=online.video_where_map[:, :, :, order]
    )
    torch.testing.assert_close(objective(moved, target, _index()).total, total)
    # One of the maps alone: other cells are then asked where, and the loss differs.
    torn = replace(online, video_map=online.video_map[:, :, :, order])
    assert not torch.isclose(objective(torn, target, _index()).total, total)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(objective(online, target, _index()).total, total)


def test_slavc_is_finite_where_probabilities_vanish() -> None:
    """Opposite directions at a temperature of 0.005: probabilities of e^-400, and e^-400 of them."""
    maps = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[:, :, None, None, None].repeat(1, 1, 1, 1, 2)
    maps[:, :, 0, 0, 1] *= -1
    maps.requires_grad_()
    sounds = torch.tensor([[-1.0, 0.1], [1.0, 0.1]])
    scores = slavc_scores(maps, sounds, maps, -sounds, 0.005)
    assert scores.isfinite().all()
    scores.sum().backward()
    assert maps.grad.isfinite().all()


def test_slavc_gives_targets_no_gradient_and_every_online_part_one() -> None:
    online, target = _embeddings(1), _embeddings(2).detach()
    parts = ("video_map", "audio", "video_where_map", "audio_where")
    for name in parts:
        getattr(online, name).requires_grad_()
    SLAVC(TAU)(online, target, _index()).total.backward()
    assert all(getattr(online, name).grad.abs().sum() > 0 for name in parts)


def test_slavc_refuses_what_does_not_fit() -> None:
    online, target, objective = _embeddings(1), _embeddings(2), SLAVC(TAU)
    with pytest.raises(ValueError, match="needs the embeddings of a momentum model"):
        objective(online, None, _index())
    with pytest.raises(ValueError, match="one view of each clip, got 3 embeddings and 3 targets of 2 clips"):
        objective(online, target, _index(2))
    with pytest.raises(ValueError, match=r"where_heads=HeadPair\(\.\.\.\), and call it with needs_maps=True"):
        objective(online, replace(target, video_where_map=None), _index())
    with pytest.raises(ValueError, match=r"the same order, B > 0, got video_map \(3, 4, 2, 2, 3\) and audio \(2, 4\)"):
        slavc_scores(online.video_map, target.audio[:2], online.video_where_map, target.audio_where, TAU)
    with pytest.raises(ValueError, match="same clips and cells"):
        slavc_scores(online.video_map[:, :, :1], target.audio, online.video_where_map, target.audio_where, TAU)
    with pytest.raises(ValueError, match=r"temperature \(0\) must be >= 1e-06"):
        SLAVC(0)
