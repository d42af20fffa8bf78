import errno

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from avssl.reports.plots import draw_curves, draw_similarities


def painted(picture, color):
    """Pixels of a color."""
    return int((np.abs(picture[..., :3] - np.array(color) / 255).max(axis=2) < 0.01).sum())


def test_similarities_are_drawn_bright_where_they_are_large(tmp_path):
    """Half the matrix is 1 and half 0; a stage without a number stays white."""
    matrix = np.zeros((4, 4))
    matrix[:2, :2] = 1
    matrix[3] = matrix[:, 3] = np.nan
    draw_similarities(
        {"one $x^2": matrix, "two": matrix},
        list("abcd"),
        {"A": 2, "B": 2},
        tmp_path / "x.png",
        "$ a_b",
        {"two": [(0, 2)]},
    )
    picture = imread(tmp_path / "x.png")
    assert picture.shape[:2] == (456 + 80, 2 * 456)
    bright = painted(picture, (252, 253, 191))  # the ends of the color map
    dark = painted(picture, (0, 0, 4))
    assert bright > 3000
    assert 0.8 < dark / bright < 1.6  # five cells of each map, and four


def test_outline_of_a_block_is_drawn(tmp_path):
    for name, blocks in (("with", {"t": [(0, 3)]}), ("without", None)):
        draw_similarities({"t": np.eye(4)}, list("abcd"), {"A": 4}, tmp_path / f"{name}.png", "", blocks)
    pictures = [imread(tmp_path / f"{name}.png") for name in ("with", "without")]
    assert not np.array_equal(*pictures)


def test_curves_have_a_line_each_and_the_baseline_in_black(tmp_path):
    curves = {"random": ([10, 20], [0.2, 0.4], [0.0, 0.1]), "margin": ([10, 20], [0.3, 0.6], [0.1, 0.1])}
    pictures = []
    for number, baseline in enumerate(("random", "")):
        path = tmp_path / f"{number}.png"
        draw_curves(curves, path, x_label="labels", y_label="accuracy", title="a_b $", baseline=baseline)
        pictures.append(imread(path))
    assert pictures[0].shape[:2] == (560, 900)
    for picture, has_second_color in zip(pictures, (False, True), strict=True):
        assert painted(picture, (31, 119, 180)) > 300
        assert (painted(picture, (255, 127, 14)) > 300) == has_second_color  # or else the first curve is black


@pytest.mark.parametrize("count", [3, 30])
def test_numbers_are_written_where_they_are_legible(tmp_path, count, monkeypatch):
    written = []
    monkeypatch.setattr("avssl.reports.plots._write_numbers", lambda axis, matrix: written.append(matrix.shape))
    draw_similarities({"t": np.eye(count)}, ["x"] * count, {"A": count}, tmp_path / "x.png", "")
    assert bool(written) == (count == 3)


def test_a_full_disk_is_named_and_the_earlier_plot_stays(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    path.write_bytes(b"earlier")

    def full(self, file, format):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(OSError, match=r"free\): make room: '.*curves\.png'"):
        draw_curves({"a": ([1, 2], [0.0, 1.0], [0.0, 0.0])}, path, x_label="x", y_label="y")
    assert path.read_bytes() == b"earlier"
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]
