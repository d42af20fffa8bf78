"""Tests of the novelty of vectors."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from avssl.evaluation.novelty import fit_novelty


def rows(count, seed, size=6):
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(size, size, generator=torch.Generator().manual_seed(9))
    return torch.randn(count, size, generator=generator) @ mixing


def test_scores_match_sklearns_probabilistic_pca():
    """Its log-likelihood is -1/2 of the distance, up to a constant."""
    fitted, asked = rows(20, 0), rows(7, 1)
    novelty = fit_novelty(fitted, rows(5, 2), 0.1)
    assert len(novelty.variances) == 5
    reference = PCA(n_components=5, svd_solver="full").fit(fitted.double().numpy())
    likelihood = reference.score_samples(asked.double().numpy())
    mine = novelty.scores(asked).numpy()
    np.testing.assert_allclose(mine - mine[0], -2 * (likelihood - likelihood[0]), rtol=1e-4, atol=1e-4)


def test_false_alarms_are_as_promised():
    """Over fits and fresh rows of the same kind, the share above the threshold stays at the promise."""
    shares = []
    for seed in range(60):
        novelty = fit_novelty(rows(60, 3 * seed), rows(99, 3 * seed + 1), 0.05)
        shares.append(float((novelty.scores(rows(200, 3 * seed + 2)) > novelty.threshold).double().mean()))
    assert np.mean(shares) == pytest.approx(0.05, abs=0.012)


def test_few_held_out_rows_promise_less():
    novelty = fit_novelty(rows(40, 0), rows(9, 1), 0.005)
    assert float(novelty.false_alarms) == pytest.approx(0.1)
    assert float(novelty.threshold) == pytest.approx(float(novelty.scores(rows(9, 1)).max()), rel=1e-5)


def test_a_dead_channel_does_not_break_the_distance():
    fitted = rows(40, 0)
    fitted[:, 2] = 0
    scores = fit_novelty(fitted, fitted[:10], 0.1).scores(fitted)
    assert bool(scores.isfinite().all())


def test_distant_rows_are_novel():
    novelty = fit_novelty(rows(60, 0), rows(99, 1), 0.01)
    assert bool((novelty.scores(rows(20, 2) + 100) > novelty.threshold).all())


@pytest.mark.parametrize(
    ("fitted", "held", "share", "match"),
    [
        (rows(4, 0), rows(4, 1), 0.1, "at least 8"),
        (rows(9, 0), rows(4, 1, 5), 0.1, r"\(N, D\)"),
        (rows(9, 0) * float("nan"), rows(4, 1), 0.1, "finite"),
        (rows(9, 0), rows(4, 1), 1.0, "in \\(0, 1\\)"),
    ],
)
def test_bad_rows_are_errors(fitted, held, share, match):
    with pytest.raises(ValueError, match=match):
        fit_novelty(fitted, held, share)
