"""Cross-modal MoCo against loops, closed forms, and its queue by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import MoCo


def _index(rows: list[int], groups: list[int] | None = None) -> BatchIndex:
    row = torch.tensor(rows)
    return BatchIndex(row, torch.tensor(groups or rows), row)


def _embeddings(seed: int, num_clips: int = 3) -> Embeddings:
    video, audio = torch.randn(2, num_clips, 4, generator=torch.Generator().manual_seed(seed))
    return Embeddings(video * 3, audio / 2)


def _cosine(x: torch.Tensor, y: torch.Tensor) -> float:
    return F.cosine_similarity(x.double(), y.double(), dim=0).item()


@pytest.mark.parametrize("same_file", [False, True])
def test_moco_matches_loop_reference(same_file: bool) -> None:
    objective = MoCo(4, queue_size=5, temperature=0.3, exclude_same_file=same_file)
    # Two steps of 3 clips through 5 places: clip 10, the oldest, is gone.
    past = [(_embeddings(1), _index([10, 11, 12])), (_embeddings(2), _index([13, 14, 15], [5, 5, 15]))]
    for target, index in past:
        objective.update(target, target, index)
    queue = [(t.video[i], t.audio[i], index.row[i], index.group[i]) for t, index in past for i in range(3)][1:]
    online, target, index = _embeddings(3), _embeddings(4), _index([14, 20, 21], [5, 5, 21])
    expected = 0.0
    for i in range(3):
        for query, key, side in ((online.video[i], target.audio[i], 1), (online.audio[i], target.video[i], 0)):
            left = [
                past_clip[side]
                for past_clip in queue
                if past_clip[2] != index.row[i] and not (same_file and past_clip[3] == index.group[i])
            ]
            assert len(left) < 5 or i > 0
            positive = math.exp(_cosine(query, key) / 0.3)
            negatives = sum(math.exp(_cosine(query, other) / 0.3) for other in left)
            expected -= math.log(positive / (positive + negatives)) / 6
    assert objective(online, target, index).total.item() == pytest.approx(expected, rel=1e-5)


def test_moco_has_a_closed_form_when_embeddings_coincide() -> None:
    same = Embeddings(torch.ones(2, 4), torch.ones(2, 4))
    objective = MoCo(4, queue_size=8)
    assert objective(same, same, _index([0, 1])).total.item() == 0  # nothing in the queue yet
    for rows in ([2, 3], [4, 5], [6, 7]):
        objective.update(same, same, _index(rows))
    result = objective(same, same, _index([0, 1]))
    assert result.total.item() == pytest.approx(math.log(7), rel=1e-6)
    assert result.terms["queue_share"].item() == pytest.approx(6 / 8)
    assert result.terms["cosine_positive"].item() == pytest.approx(1)
    assert result.terms["cosine_negative"].item() == pytest.approx(1)


def test_moco_queue_wraps_and_lets_the_oldest_go() -> None:
    objective = MoCo(4, queue_size=4)
    for seed, rows in enumerate(([0, 1, 2], [3, 4, 5])):
        objective.update(_embeddings(9), _embeddings(seed), _index(rows))
    assert objective.queue_row.tolist() == [4, 5, 2, 3]
    assert objective.position == 2
    torch.testing.assert_close(objective.video_queue[1], F.normalize(_embeddings(1).video[2], dim=0))
    torch.testing.assert_close(objective.audio_queue[2], F.normalize(_embeddings(0).audio[2], dim=0))


def test_moco_ignores_scale_and_gives_targets_no_gradient() -> None:
    objective = MoCo(4, queue_size=4)
    objective.update(_embeddings(0), _embeddings(0), _index([7, 8, 9]))
    online, target = _embeddings(1), _embeddings(2)
    for x in (online.video, online.audio, target.video, target.audio):
        x.requires_grad_()
    result = objective(online, target, _index([0, 1, 2]))
    result.total.backward()
    scaled = Embeddings(online.video * 100, online.audio / 100)
    torch.testing.assert_close(objective(scaled, target, _index([0, 1, 2])).total, result.total)
    assert online.video.grad.abs().sum() > 0
    assert target.video.grad is None
    assert target.audio.grad is None
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(objective(online, target, _index([0, 1, 2])).total, result.total)


def test_moco_queue_survives_a_round_trip() -> None:
    objective, other = MoCo(4, queue_size=4), MoCo(4, queue_size=4)
    objective.update(_embeddings(0), _embeddings(0), _index([7, 8, 9]))
    other.load_state_dict(objective.state_dict())
    arguments = _embeddings(1), _embeddings(2), _index([0, 1, 2])
    assert torch.equal(objective(*arguments).total, other(*arguments).total)


def test_moco_refuses_mismatched_input() -> None:
    objective = MoCo(4, queue_size=2)
    with pytest.raises(ValueError, match="needs the embeddings of a momentum model"):
        objective(_embeddings(0), None, _index([0, 1, 2]))
    with pytest.raises(ValueError, match=r"one view of each clip, \(2, 4\) embeddings .* got \(3, 4\) and \(3, 4\)"):
        objective(_embeddings(0), _embeddings(1), _index([0, 1]))
    with pytest.raises(ValueError, match=r"queue_size \(2\) must be at least the 3 clips"):
        objective.update(_embeddings(0), _embeddings(1), _index([0, 1, 2]))
    with pytest.raises(ValueError, match=r"queue_size \(0\) must be >= 1"):
        MoCo(4, queue_size=0)
