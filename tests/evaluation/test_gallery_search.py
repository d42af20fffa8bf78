import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from avssl.evaluation.gallery_search import gallery_level, query_cosines, top_moments


def test_cosines_are_those_of_scikit_learn_whatever_the_scale_and_the_blocks(monkeypatch):
    monkeypatch.setattr("avssl.evaluation.gallery_search._BLOCK_ROWS", 7)
    generator = np.random.default_rng(0)
    gallery = generator.normal(size=(50, 6)).astype(np.float32)
    query = generator.normal(size=6).astype(np.float32)
    expected = cosine_similarity(query[None], gallery)[0]
    np.testing.assert_allclose(query_cosines(query, gallery), expected, atol=1e-6)
    np.testing.assert_allclose(query_cosines(9 * query, 0.1 * gallery), expected, atol=1e-6)


def test_cosines_refuse_what_cannot_be_compared():
    for query, gallery in ((np.zeros(3), np.zeros((2, 4))), (np.zeros(3), np.zeros((0, 3))), (np.zeros((1, 3)),) * 2):
        with pytest.raises(ValueError, match=r"need a query \(C,\) and a gallery"):
            query_cosines(query, gallery)
    gallery = np.ones((4, 3), dtype=np.float32)
    gallery[2, 1] = np.nan
    with pytest.raises(ValueError, match="first in row 2 of the gallery"):
        query_cosines(np.ones(3, dtype=np.float32), gallery)


def test_the_level_counts_spreads_from_the_middle_that_few_hits_do_not_move():
    noise = np.random.default_rng(0).normal(0.1, 0.05, 20_000)
    level = gallery_level(noise)
    assert level.mean == pytest.approx(0.1, abs=0.002)
    assert level.median == pytest.approx(0.1, abs=0.002)
    assert level.z(0.2) == pytest.approx(2, abs=0.1)  # on Fisher's scale nearly the same for small cosines
    with_hits = gallery_level(np.concatenate([noise, np.full(1500, 0.9)]))
    assert with_hits.spread == pytest.approx(0.05, rel=0.12)  # their standard deviation is 0.21
    assert with_hits.mean > 0.15


def test_the_scale_is_fishers():
    level = gallery_level(np.tanh(np.array([-2.0, -1.0, 0.0, 1.0, 2.0])))
    assert level.median == 0
    assert level.spread == pytest.approx(1.4826, abs=1e-5)
    assert level.z(np.tanh(1.4826)) == pytest.approx(1, abs=1e-5)
    assert 4 < level.z(1.0) < 5  # an exact match, held at 7.25


@pytest.mark.parametrize("dimensions", [16, 64, 512])
@pytest.mark.parametrize("count", [100, 3000])
def test_the_best_of_random_vectors_is_as_good_as_chance_says(dimensions, count):
    generator, best = np.random.default_rng(0), []
    for _ in range(40):
        vectors = generator.normal(size=(count, dimensions)).astype(np.float32)
        cosines = query_cosines(generator.normal(size=dimensions).astype(np.float32), vectors)
        level = gallery_level(cosines)
        best.append(level.z(float(cosines.max())))
    assert np.mean(best) == pytest.approx(level.best_by_chance, abs=0.35)
    assert level.z(1.0) > level.best_by_chance + 2  # whatever their dimensions, an exact match stands out


def test_where_all_are_equal_no_number_is_made_up():
    level = gallery_level(np.full(4, 0.5))
    assert (level.median, level.spread) == (0.5, 0.0)
    assert np.isnan(level.z(0.9))
    assert gallery_level(np.array([0.3])).best_by_chance == pytest.approx(0)


def moments(cosines, files, start, k, length=2.0):
    start = np.asarray(start, dtype=float)
    return top_moments(np.asarray(cosines), np.array(files, dtype=object), start, start + length, k)


def test_windows_that_share_time_are_one_moment():
    #          0    1    2    3    4     rows
    cosines = [0.7, 0.9, 0.8, 0.6, 0.75]
    files = ["a", "a", "a", "a", "b"]
    starts = [0.0, 1.0, 2.0, 3.0, 1.0]
    assert moments(cosines, files, starts, 5) == [1, 4, 3]  # 0 and 2 overlap the best; 3 only touches it
    assert moments(cosines, files, starts, 2) == [1, 4]
    assert moments(cosines, files, starts, 5, length=1.0) == [1, 2, 4, 0, 3]


def test_moments_match_a_loop_over_pairs():
    generator = np.random.default_rng(3)
    cosines, starts = generator.normal(size=60), generator.integers(0, 20, 60)
    files = [f"{number}" for number in generator.integers(0, 3, 60)]
    left, expected = set(range(60)), []
    while left:
        best = max(left, key=lambda row: cosines[row])
        expected.append(best)
        left -= {row for row in left if files[row] == files[best] and abs(starts[row] - starts[best]) < 2}
    assert moments(cosines, files, starts, 60) == expected


def test_equal_cosines_keep_the_order_of_the_table_and_k_is_checked():
    assert moments([0.5, 0.5, 0.5], ["c", "a", "b"], [0, 0, 0], 2) == [0, 1]
    with pytest.raises(ValueError, match=r"k \(0\) must be at least 1"):
        moments([0.5], ["a"], [0], 0)
