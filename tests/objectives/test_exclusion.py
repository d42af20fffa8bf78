"""Which negatives are left out, against loops, and what that does to the loss."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import InfoNCE
from avssl.objectives.exclusion import Exclusion

GROUPS = torch.tensor([0, 0, 1, 2, 1, 3, 4])
OPTIONS = [
    {"same_file": True},
    {"near_duplicates": 0.3},
    {"hardest": 0.4},
    {"same_file": True, "near_duplicates": 0.3, "hardest": 0.4},
]


def _index(groups: Tensor = GROUPS) -> BatchIndex:
    rows = torch.arange(len(groups))
    return BatchIndex(rows, groups, rows)


def _pair(seed: int = 0, num_clips: int = len(GROUPS)) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    video, audio = torch.randn(2, num_clips, 4, generator=generator)
    return video.requires_grad_(), audio.requires_grad_()


def _loop_excluded(
    scores: list[list[float]],
    targets: Tensor,
    same_file: bool = False,
    near_duplicates: float | None = None,
    hardest: float = 0.0,
) -> list[set[int]]:
    excluded = []
    for i, row in enumerate(scores):
        out = set()
        for j in range(len(row)):
            same = same_file and GROUPS[i] == GROUPS[j]
            near = near_duplicates is not None and F.cosine_similarity(targets[i], targets[j], dim=0) > near_duplicates
            if j != i and (same or near):
                out.add(j)
        left = sorted((j for j in range(len(row)) if j != i and j not in out), key=lambda j: -row[j])
        excluded.append(out | set(left[: math.floor(hardest * (len(row) - 1))]))
    return excluded


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("chunk_size", [None, 3])
def test_loss_matches_loops_over_what_is_left(options: dict[str, float], chunk_size: int | None) -> None:
    video, audio = _pair()
    objective = InfoNCE(0.3, chunk_size=chunk_size, **_prefixed(options), pooling="pooled")
    result = objective(Embeddings(video, audio), None, _index())
    v, a = (F.normalize(x.detach().double(), dim=1) for x in (video, audio))
    loss, count = 0.0, 0
    for rows, columns in ((v, a), (a, v)):
        scores = (rows @ columns.T).tolist()
        excluded = _loop_excluded(scores, columns, **options)
        count += sum(map(len, excluded))
        for i, row in enumerate(scores):
            terms = [math.exp(row[j] / 0.3) for j in range(len(row)) if j not in excluded[i]]
            loss += (math.log(sum(terms)) - row[i] / 0.3) / (2 * len(row))
    assert result.total.item() == pytest.approx(loss, rel=1e-5)
    num_pairs = 2 * len(GROUPS) * (len(GROUPS) - 1)
    assert 0 < count < num_pairs
    assert result.terms["excluded_share"].item() == pytest.approx(count / num_pairs)


def _prefixed(options: dict[str, float]) -> dict[str, float]:
    return {f"exclude_{name}": value for name, value in options.items()}


@pytest.mark.parametrize("options", OPTIONS)
def test_chunked_equals_whole_in_value_gradient_and_terms(options: dict[str, float]) -> None:
    results = []
    for chunk_size in (None, 2):
        video, audio = _pair(1)
        result = InfoNCE(0.2, chunk_size=chunk_size, **_prefixed(options), pooling="pooled")(
            Embeddings(video, audio), None, _index()
        )
        results.append((result, *torch.autograd.grad(result.total, (video, audio))))
    (whole, *expected), (chunked, *got) = results
    torch.testing.assert_close(chunked.total, whole.total)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert chunked.terms.keys() == whole.terms.keys()
    for name, value in whole.terms.items():
        torch.testing.assert_close(chunked.terms[name], value, msg=name)


def test_two_clips_of_a_file_are_compared_with_the_third_alone() -> None:
    video, audio = _pair(2, 3)
    index = _index(torch.tensor([0, 0, 1]))
    total = InfoNCE(0.2, exclude_same_file=True, pooling="pooled")(Embeddings(video, audio), None, index).total
    scores = F.normalize(video, dim=1) @ F.normalize(audio, dim=1).T / 0.2
    rows = [F.cross_entropy(side[i][[i, 2]][None], torch.tensor([0])) for side in (scores, scores.T) for i in (0, 1)]
    rows += [F.cross_entropy(side[2:], torch.tensor([2])) for side in (scores, scores.T)]
    torch.testing.assert_close(total, torch.stack(rows).mean())


def test_near_duplicates_are_found_on_the_target_side() -> None:
    audio = torch.randn(4, 8, generator=torch.Generator().manual_seed(3))
    copied = audio[[0, 1, 2, 3, 0]] * torch.tensor([1.0, 1, 1, 1, 7])[:, None]
    columns = Exclusion(near_duplicates=0.99).among(copied, torch.arange(5))
    assert columns.mask(torch.zeros(5, 5)).nonzero().tolist() == [[0, 4], [4, 0]]
    assert columns.mask(torch.zeros(2, 5), start=3).nonzero().tolist() == [[1, 0]]


def test_a_row_without_negatives_has_no_loss_and_no_gradient() -> None:
    for chunk_size in (None, 2):
        video, audio = _pair(4, 4)
        index = _index(torch.zeros(4, dtype=torch.int64))
        objective = InfoNCE(0.2, chunk_size=chunk_size, exclude_same_file=True, exclude_hardest=0.5, pooling="pooled")
        result = objective(Embeddings(video, audio), None, index)
        result.total.backward()
        assert result.total.item() == 0
        assert result.terms["excluded_share"].item() == pytest.approx(1.0)
        assert video.grad.abs().max() == 0


def test_nothing_is_excluded_by_default() -> None:
    assert not Exclusion()
    assert Exclusion().among(torch.ones(2, 3), torch.zeros(2, dtype=torch.int64)) is None
