"""Similarities of clips from the cosines of their moments, against loops and known answers."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from avssl.evaluation import AGGREGATIONS, cross_modal_retrieval, moment_retrieval, moment_similarity, retrieval
from avssl.evaluation.retrieval import match_ranks, ranks_of_scores


def moments(seed: int, num_clips: int = 6, length: int = 4) -> torch.Tensor:
    return torch.randn(num_clips, length, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_similarities_match_loops_in_numpy(aggregation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    video, audio = moments(0), 5 * moments(1, num_clips=5)
    expected = np.empty((6, 5))
    for i, v in enumerate(video.double().numpy()):
        for j, a in enumerate(audio.double().numpy()):
            cosines = v @ a.T / np.linalg.norm(v, axis=1)[:, None] / np.linalg.norm(a, axis=1)
            entries = cosines.diagonal() if aggregation.startswith("diagonal") else cosines
            expected[i, j] = entries.mean() if aggregation.endswith("mean") else entries.max()
    np.testing.assert_allclose(moment_similarity(video, audio, aggregation), expected, atol=1e-6)
    monkeypatch.setattr(
        sys.modules["avssl.evaluation.moment_retrieval"], "_CHUNK_ELEMENTS", 100
    )  # a query or two at a time
    np.testing.assert_allclose(moment_similarity(video, audio, aggregation), expected, atol=1e-6)


def test_only_the_diagonal_knows_the_order_in_time() -> None:
    first, second = torch.eye(3)[[0, 1]], torch.eye(3)[[1, 0]]  # the same two moments, in another order
    clips = torch.stack([first, second])
    for aggregation, own in (("mean", 0.5), ("max", 0.5), ("diagonal_mean", 1.0), ("diagonal_max", 1.0)):
        found = moment_retrieval(clips, clips, aggregation, ks=(1,))
        assert found["v2a_R@1"] == found["a2v_R@1"] == own
        assert (found["chance_R@1"], found["gallery_size"]) == (0.5, 2)


def test_a_single_moment_is_retrieval_by_cosine() -> None:
    video, audio = moments(2, 30, 1), moments(3, 30, 1)
    expected = cross_modal_retrieval(video[:, 0], audio[:, 0])
    for aggregation in AGGREGATIONS:
        assert moment_retrieval(video, audio, aggregation) == pytest.approx(expected)
    better, tied = ranks_of_scores(torch.nn.functional.cosine_similarity(video, audio[:, 0][None], dim=2).double())
    assert torch.equal(torch.stack([better, tied]), torch.stack(match_ranks(video[:, 0], audio[:, 0])))
    assert retrieval(video[:, 0], audio[:, 0])["R@1"] == expected["v2a_R@1"]


def test_collapsed_moments_score_chance() -> None:
    same = torch.ones(7, 3, 2)
    for aggregation in AGGREGATIONS:
        assert moment_retrieval(same, same, aggregation, ks=(1,))["v2a_R@1"] == pytest.approx(1 / 7)


def test_unfit_input_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"aggregation \('median'\) must be one of mean, max"):
        moment_similarity(moments(0), moments(0), "median")
    with pytest.raises(ValueError, match=r"must have the same moments, got \(6, 4, 3\) and \(6, 5, 3\)"):
        moment_similarity(moments(0), moments(0, length=5), "mean")
    with pytest.raises(ValueError, match=r"\(N, N\) with the match of query i in column i, got \(2, 3\)"):
        ranks_of_scores(torch.zeros(2, 3))
    with pytest.raises(ValueError, match="NaN or infinity"):
        ranks_of_scores(torch.full((2, 2), torch.nan))
