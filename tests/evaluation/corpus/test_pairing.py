import numpy as np
import pytest

from avssl.evaluation.corpus import match_ranks


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def vectors():
    return unit(np.random.default_rng(0).normal(size=(500, 32)))


def test_own_pairs_that_match_best_rank_first(vectors):
    assert match_ranks(vectors, vectors, np.arange(500)) == pytest.approx(np.ones(500))
    assert match_ranks(vectors, -vectors, np.arange(500)) == pytest.approx(np.zeros(500))


def test_unrelated_streams_rank_uniformly(vectors):
    ranks = match_ranks(vectors, np.roll(vectors, 1, axis=0), np.arange(500))
    assert ranks.mean() == pytest.approx(0.5, abs=0.03)


def test_a_small_case_by_hand():
    """Row 0 matches the audio of row 2 better than its own, and row 1 is of its own recording."""
    video = unit(np.array([[1, 0], [1, 0], [0, 1], [-1, 0]]))
    audio = unit(np.array([[1, 1], [1, 0], [1, 0.5], [-1, 0]]))
    # Of rows 2 and 3: audio 2 is nearer to video 0 than its own, and video 2 is as near to audio 0 as its own.
    assert match_ranks(video, audio, np.array([0, 0, 1, 2]))[0] == pytest.approx((0.5 + 0.75) / 2)


def test_without_another_recording_there_is_no_rank(vectors):
    assert np.isnan(match_ranks(vectors, vectors, np.zeros(500, dtype=int))).all()
