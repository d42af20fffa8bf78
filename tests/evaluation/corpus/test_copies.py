import numpy as np
import pytest

from avssl.evaluation.corpus import CopyPair, find_copies, nearest_neighbors, originals

WINDOWS = 6


def unit(x):
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def clips():
    """Thirty unrelated clips of six windows that drift, and special ones: name to (6, 16) of video and audio."""
    draws = np.random.default_rng(0)

    def noise(scale=1.0, count=1):
        return scale * draws.normal(size=(count, 16))

    def drifting(start=None, count=WINDOWS):
        return np.cumsum(np.concatenate([noise() if start is None else start, noise(0.3, count - 1)]), axis=0)

    made = {f"clip{number}": (drifting(), drifting()) for number in range(30)}
    video, audio = made["clip0"]
    made["encoded"] = (video + noise(0.05, WINDOWS), audio)
    made["cropped"] = (made["clip1"][0] + noise(0.5), made["clip1"][1])
    made["shorter"] = (made["clip2"][0][1:], made["clip2"][1][1:] + noise(0.02, WINDOWS - 1))
    made["again"] = (video, audio + noise(0.05, WINDOWS))
    whole = drifting(count=2 * WINDOWS), drifting(count=2 * WINDOWS)
    made["segment a"], made["segment b"] = [
        tuple(x[part] for x in whole) for part in (slice(WINDOWS), slice(WINDOWS, None))
    ]
    made["same music"] = (drifting(), made["clip3"][1])
    return made


@pytest.fixture(scope="module")
def pairs(clips):
    windows = np.split(
        np.arange(sum(len(v) for v, _ in clips.values())), np.cumsum([len(v) for v, _ in clips.values()])
    )
    windows = windows[: len(clips)]
    vectors = {
        name: unit(np.concatenate([clip[i] for clip in clips.values()])) for i, name in enumerate(("video", "audio"))
    }
    recordings = np.repeat(np.arange(len(clips)), [len(v) for v, _ in clips.values()])
    joint = unit(np.concatenate([vectors["video"], vectors["audio"]], axis=1))
    found = find_copies(vectors, nearest_neighbors(joint, recordings, 10), windows, recordings)
    names = list(clips)
    return {frozenset((names[pair.one], names[pair.other])): pair for pair in found}


def test_copies_are_found_and_nothing_else(pairs):
    """Neither segments of one recording nor clips with the same music are copies."""
    expected = [
        ("clip0", "encoded"),
        ("clip0", "again"),
        ("encoded", "again"),
        ("clip1", "cropped"),
        ("clip2", "shorter"),
    ]
    assert set(pairs) == {frozenset(pair) for pair in expected}


def test_the_change_is_that_of_the_better_stream(pairs):
    assert pairs[frozenset(("clip1", "cropped"))].change == pytest.approx(0, abs=1e-3)
    assert 0 < pairs[frozenset(("clip2", "shorter"))].change < 0.1


def test_the_longest_clip_of_a_group_is_the_original():
    pairs = [CopyPair(0, 1, 0.0), CopyPair(1, 2, 0.0), CopyPair(3, 4, 0.0)]
    assert originals(pairs, np.array([5, 5, 9, 4, 4, 1])).tolist() == [2, 2, -1, -1, 3, -1]
    assert originals([], np.array([1, 1])).tolist() == [-1, -1]
