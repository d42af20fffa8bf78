"""The blocked search against one loop over all pairs in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import avssl.objectives.neighbors as neighbors
from avssl.objectives import neighbor_precision, positive_sets

AGREEMENTS = ("consensus", "union", "video", "audio")


def _memories(num_rows: int, num_clusters: int = 0, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_rows)
    video, audio = torch.randn(2, num_rows, 16, generator=generator).unbind()
    if not num_clusters:
        return video, audio
    centers = torch.randn(num_clusters, 16, generator=generator)
    cluster = torch.arange(num_rows) % num_clusters
    return centers[cluster] + spread * video, centers[cluster] + spread * audio


def _loop_reference(video: Tensor, audio: Tensor, num_positives: int, agreement: str) -> list[list[int]]:
    found = []
    for i in range(len(video)):
        scores = []
        for j in range(len(video)):
            cosines = [float(torch.cosine_similarity(x[i].double(), x[j].double(), dim=0)) for x in (video, audio)]
            score = {"consensus": min(cosines), "union": max(cosines), "video": cosines[0], "audio": cosines[1]}
            scores.append((-score[agreement], j))
        best = sorted(pair for pair in scores if pair[1] != i)[:num_positives]
        found.append(sorted(j for _, j in best))
    return found


def _agreements(video: Tensor, audio: Tensor, agreement: str) -> Tensor:
    v, a = (torch.nn.functional.normalize(x.double(), dim=1) for x in (video, audio))
    scores = {"consensus": torch.minimum, "union": torch.maximum}.get(agreement, lambda x, y: x)(v @ v.T, a @ a.T)
    scores = {"video": v @ v.T, "audio": a @ a.T}.get(agreement, scores)
    return scores.fill_diagonal_(-2)


@pytest.mark.parametrize("agreement", AGREEMENTS)
@pytest.mark.parametrize("num_positives", [1, 3, 23])
def test_positive_sets_match_loop_reference(agreement: Any, num_positives: int) -> None:
    video, audio = _memories(24)
    found = positive_sets(3 * video, audio, num_positives, agreement)
    assert found.dtype == torch.int64
    assert found.tolist() == _loop_reference(video, audio, num_positives, agreement)


@pytest.mark.parametrize("agreement", AGREEMENTS)
@pytest.mark.parametrize("spread", [1.0, 0.02])
def test_blocks_bundles_and_low_precision_change_nothing(
    agreement: Any, spread: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    # At 0.02 the cosines within a cluster of 200 differ by less than bfloat16 can tell.
    monkeypatch.setattr(neighbors, "_MIN_BLOCK_ROWS", 77)
    monkeypatch.setattr(neighbors, "BLOCK_ELEMENTS", {})
    video, audio = _memories(2003, num_clusters=10, spread=spread)
    scores = _agreements(video, audio, agreement)
    found = positive_sets(video, audio, 8, agreement)
    assert (found.diff(dim=1) > 0).all()
    # The same cosines, to float32's resolution.
    best = scores.gather(1, found).sort(dim=1, descending=True).values
    torch.testing.assert_close(best, scores.topk(8).values, rtol=0, atol=5e-7)


def test_positive_sets_by_hand() -> None:
    # Directions in degrees. By sight 0 is near 1, by sound near 2; together nearest to 3.
    video = torch.tensor([0.0, 5.0, 90.0, 30.0]).deg2rad()
    audio = torch.tensor([0.0, 90.0, 5.0, 30.0]).deg2rad()
    memories = [torch.stack([angle.cos(), angle.sin()], dim=1) for angle in (video, audio)]
    nearest = {agreement: positive_sets(*memories, 1, agreement)[0].item() for agreement in AGREEMENTS}
    assert nearest == {"consensus": 3, "video": 1, "audio": 2, "union": 1}


def test_an_instance_is_never_its_own_positive_even_among_copies() -> None:
    video, audio = (x[:1].expand(60, -1).contiguous() for x in _memories(60))
    found = positive_sets(video, audio, 20, "audio")
    assert not (found == torch.arange(60)[:, None]).any()
    assert all(len(set(row)) == 20 for row in found.tolist())


def test_positive_sets_follow_a_permutation_of_the_rows() -> None:
    video, audio = _memories(50)
    order = torch.randperm(50)
    found = positive_sets(video[order], audio[order], 5, "consensus")
    assert torch.equal(order[found].sort(dim=1).values, positive_sets(video, audio, 5, "consensus")[order])


def test_queries_are_rows_of_the_whole_search() -> None:
    video, audio = _memories(50)
    whole = positive_sets(video, audio, 5, "union")
    parts = [neighbors.top_agreements(video, audio, 5, "union", slice(s, s + 17)) for s in (0, 17, 34, 51)]
    assert torch.equal(torch.cat(parts), whole)


def test_positive_sets_reject_mismatched_input() -> None:
    with pytest.raises(ValueError, match=r"same instances.*\(7, 4\) and \(8, 4\)"):
        positive_sets(torch.ones(7, 4), torch.ones(8, 4), 2, "consensus")
    with pytest.raises(ValueError, match=r"num_positives \(8\) must be at least 1 and below the 8 rows"):
        positive_sets(torch.ones(8, 4), torch.ones(8, 4), 8, "consensus")
    with pytest.raises(ValueError, match=r"agreement \('both'\) must be"):
        positive_sets(torch.ones(8, 4), torch.ones(8, 4), 2, "both")  # type: ignore[arg-type]


def test_neighbor_precision_by_hand() -> None:
    positives = torch.tensor([[1, 2], [0, 3], [0, 1], [0, 1]])
    # 0: 1 yes, 2 no; 1: 0 yes, 3 unknown; 2: no, no; 3 has no label.
    assert neighbor_precision(positives, torch.tensor([5, 5, 6, -1])).item() == pytest.approx(2 / 5)
    assert neighbor_precision(positives, torch.full((4,), -1)).isnan()
    with pytest.raises(ValueError, match=r"\(4, 2\) and \(3,\)"):
        neighbor_precision(positives, torch.zeros(3, dtype=torch.int64))
