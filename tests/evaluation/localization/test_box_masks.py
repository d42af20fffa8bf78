import numpy as np
import pytest

from avssl.evaluation import ciou, flickr_truth, is3_truth, vggss_truth


def test_flickr_consensus_by_hand():
    truth = flickr_truth([(0, 0, 128, 128), (64, 64, 256, 256), (64, 64, 65, 256)])
    assert truth.shape == (224, 224)
    assert truth.dtype == np.float32
    # int(224 * 128 / 256) = 112, half-open; int(224 * 64 / 256) = 56; int(224 * 65 / 256) = 56: the third is empty.
    assert truth[111, 111] == 1
    assert truth[112, 112] == 0.5
    assert truth[55, 55] == 0.5
    assert truth[56, 56] == 1
    assert truth[0, 112] == 0
    assert truth.sum() == (112**2 + (224 - 56) ** 2) / 2
    thrice = flickr_truth([(0, 0, 256, 256)] * 3)
    assert (thrice == 1).all()


def test_flickr_consensus_matches_loop_reference():
    random = np.random.default_rng(0)
    boxes = [sorted(random.integers(0, 257, 2)) + sorted(random.integers(0, 257, 2)) for _ in range(3)]
    boxes = [(a, c, b, d) for a, b, c, d in boxes]
    expected = np.zeros((224, 224))
    for left, top, right, bottom in boxes:
        for y in range(int(224 * top / 256), int(224 * bottom / 256)):
            for x in range(int(224 * left / 256), int(224 * right / 256)):
                expected[y, x] += 0.5
    expected[expected > 1] = 1
    assert np.array_equal(flickr_truth(boxes), expected)
    shares = [tuple(v / 256 for v in box) for box in boxes]
    assert np.array_equal(flickr_truth(shares, picture_size=1), expected)


def test_vggss_cuts_and_truncates():
    truth = vggss_truth([(-0.2, 0.0, 0.25, 0.5), (0.9, 0.9, 1.3, 2.0), (0.1, 0.0, 0.2, 0.1)])
    assert truth.dtype == bool
    # 0.25 * 224 = 56, 0.5 * 224 = 112; 0.9 * 224 = 201.6 -> 201; the third lies inside the first.
    assert truth[:112, :56].all()
    assert truth[201:, 201:].all()
    assert truth.sum() == 56 * 112 + 23**2


def test_boxes_without_area_are_empty_and_score_zero():
    for boxes in ([], [(0.5, 0.2, 0.5, 0.9)], [(0.7, 0.2, 0.5, 0.9)], [(1.1, 0, 1.2, 1)], [(-0.5, 0, -0.1, 1)]):
        truth = vggss_truth(boxes)
        assert not truth.any()
        assert ciou(np.random.default_rng(0).random((7, 7)), truth, "ezvsl") == 0


def test_is3_boxes_come_back_from_shares_of_the_picture():
    for v in range(225):
        direct = is3_truth([(0, 0, v, 1)])
        assert direct.sum() == v
        assert np.array_equal(is3_truth([(0, 0, v / 224, 1 / 224)], picture_size=1), direct)
    assert 224 * (61 / 224) < 61  # why that needs care
    assert is3_truth([(10.9, 0, 20.9, 2)])[0].nonzero()[0].tolist() == list(range(10, 20))


def test_other_sizes_scale():
    assert flickr_truth([(0, 0, 128, 256)], size=4).tolist() == [[0.5, 0.5, 0, 0]] * 4
    assert vggss_truth([(0.25, 0, 0.5, 0.26)], size=4).tolist()[0] == [False, True, False, False]
    assert is3_truth([(112, 0, 224, 224)], size=4).tolist() == [[False, False, True, True]] * 4


def test_boxes_refuse():
    with pytest.raises(ValueError, match=r"a box must be four finite numbers .* got \(1, 2, 3\)"):
        vggss_truth([(1, 2, 3)])
    with pytest.raises(ValueError, match="four finite numbers"):
        flickr_truth([(1, 2, 3, float("nan"))])
