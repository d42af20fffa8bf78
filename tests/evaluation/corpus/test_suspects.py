import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from avssl.evaluation.corpus import match_ranks, nearest_neighbors, suspects


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def scored():
    """Three hundred clips of ten kinds; twenty sound like another kind, and twenty like one music."""
    draws = np.random.default_rng(0)
    kinds = unit(draws.normal(size=(11, 24)))  # the last one is the music
    shown = draws.integers(10, size=300)
    heard = shown.copy()
    heard[:20] = (heard[:20] + draws.integers(1, 10, size=20)) % 10
    heard[20:40] = 10
    video, audio = (unit(kinds[kind] + 0.1 * draws.normal(size=(300, 24))) for kind in (shown, heard))
    clips = np.arange(300)
    match = match_ranks(video, audio, clips)
    return match, suspects(video, match, clips, nearest_neighbors(audio, clips, 10))


def auroc(scores, first, stop):
    """Return the AUROC of clips against the ordinary ones."""
    chosen = np.r_[first:stop, 40:300]
    return roc_auc_score((chosen < stop) & (chosen >= first), scores[chosen])


def test_planted_suspects_rank_first(scored):
    match, found = scored
    assert auroc(-match, 0, 20) > 0.95
    assert auroc(found.off_screen, 0, 20) > 0.95
    assert auroc(found.voice_over, 20, 40) > 0.95


def test_a_voice_over_is_told_from_a_sound_that_belongs_elsewhere(scored):
    _, found = scored
    truth = np.arange(40) >= 20
    assert roc_auc_score(truth, found.voice_over[:40]) > 0.95


def test_scores_lie_between_zero_and_one(scored):
    _, found = scored
    for scores in (found.off_screen, found.voice_over, found.look):
        assert scores.min() >= 0
        assert scores.max() <= 1


def test_clips_without_neighbors_or_match_are_scored_as_chance():
    video = unit(np.random.default_rng(0).normal(size=(2, 4)))
    clips = np.zeros(2, dtype=int)
    found = suspects(video, np.full(2, np.nan), clips, nearest_neighbors(video, clips, 3))
    assert found.off_screen.tolist() == [0.25, 0.25]
    assert found.voice_over.tolist() == [0.125, 0.125]
