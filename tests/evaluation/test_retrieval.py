import sys

import numpy as np
import pytest
import torch

from avssl.evaluation import cross_modal_retrieval, retrieval
from avssl.evaluation.retrieval import hit_probability, match_ranks


def embeddings(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def reference_ranks(queries, gallery):
    """Plain loops; no ties in random data."""
    q, g = queries.double().numpy(), gallery.double().numpy()
    ranks = []
    for i in range(len(q)):
        cosines = [q[i] @ g[j] / np.linalg.norm(q[i]) / np.linalg.norm(g[j]) for j in range(len(g))]
        ranks.append(1 + sum(c > cosines[i] for c in cosines))
    return np.array(ranks)


def test_retrieval_matches_loop_reference():
    queries = embeddings(60, 8)
    gallery = queries + embeddings(60, 8, seed=1)
    ranks = reference_ranks(queries, gallery)
    result = retrieval(queries, gallery, ks=(1, 5, 10))
    for k in (1, 5, 10):
        assert result[f"R@{k}"] == pytest.approx((ranks <= k).mean())
        assert result[f"chance_R@{k}"] == pytest.approx(k / 60)
    assert result["median_rank"] == np.median(ranks)
    assert result["gallery_size"] == 60
    assert 0.1 < result["R@1"] < 0.9  # the reference is not trivial


def test_retrieval_of_itself_is_perfect():
    x = embeddings(50, 16)
    result = retrieval(x, 3 * x)
    assert result["R@1"] == 1
    assert result["median_rank"] == 1


@pytest.mark.parametrize("value", [1.0, 0.0, 0.1])
def test_collapsed_embeddings_score_chance(value):
    constant = torch.full((333, 77), value)
    result = retrieval(constant, constant, ks=(1, 5, 400))
    assert result["R@1"] == pytest.approx(1 / 333)
    assert result["R@5"] == pytest.approx(5 / 333)
    assert result["R@400"] == result["chance_R@400"] == 1
    assert result["median_rank"] == 167


def test_collapsed_up_to_rounding_scores_chance():
    x = embeddings(1, 64) + 1e-8 * embeddings(200, 64, seed=1)
    assert retrieval(x, x)["R@1"] == pytest.approx(1 / 200)


def test_ties_count_in_expectation():
    # Item 0 ties with item 1 at the top; item 2 stands behind both.
    queries = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    gallery = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    better, tied = match_ranks(queries, gallery)
    assert better.tolist() == [0, 0, 2]
    assert tied.tolist() == [1, 1, 0]
    assert hit_probability(better, tied, 1).tolist() == [0.5, 0.5, 0]
    assert hit_probability(better, tied, 2).tolist() == [1, 1, 0]
    assert retrieval(queries, gallery)["median_rank"] == 1.5


def test_retrieval_ignores_order_and_scale():
    queries = embeddings(40, 8)
    gallery = queries + embeddings(40, 8, seed=1)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    scale = torch.linspace(0.01, 100, 40)[:, None]
    assert retrieval(queries, gallery) == pytest.approx(retrieval((scale * queries)[order], gallery[order]))


def test_retrieval_is_the_same_in_chunks(monkeypatch):
    queries, gallery = embeddings(40, 8), embeddings(40, 8) + embeddings(40, 8, seed=1)
    whole = match_ranks(queries, gallery)
    monkeypatch.setattr(sys.modules["avssl.evaluation.retrieval"], "_CHUNK", 7)
    parts = match_ranks(queries, gallery)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_cross_modal_retrieval_goes_both_ways():
    video, audio = embeddings(60, 4), embeddings(60, 4) + 2 * embeddings(60, 4, seed=1)
    both = cross_modal_retrieval(video, audio, ks=(1, 10))
    assert both["v2a_R@10"] == retrieval(video, audio)["R@10"]
    assert both["a2v_R@10"] == retrieval(audio, video)["R@10"]
    assert both["v2a_R@10"] != both["a2v_R@10"]
    assert set(both) == {
        *("v2a_R@1", "v2a_R@10", "v2a_median_rank", "a2v_R@1", "a2v_R@10", "a2v_median_rank"),
        *("chance_R@1", "chance_R@10", "gallery_size"),
    }


def test_retrieval_refuses():
    with pytest.raises(ValueError, match=r"pair i in row i, got \(7, 4\) and \(8, 4\)"):
        retrieval(embeddings(7, 4), embeddings(8, 4))
    with pytest.raises(ValueError, match="gallery hold NaN or infinity, first in row 2"):
        retrieval(embeddings(3, 4), torch.tensor([[1.0] * 4, [1.0] * 4, [1.0, 1.0, 1.0, torch.nan]]))
    with pytest.raises(ValueError, match="ks must be at least 1"):
        retrieval(embeddings(3, 4), embeddings(3, 4), ks=(0,))
