"""Texts of any script are drawn with an installed font, or as escapes, and never as boxes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager

from avssl.reports import fonts
from avssl.reports.figures import contact_sheet, figure_image, new_figure, text_image
from avssl.reports.html_page import encode_figure

NAME = "日本 vidéo.mp4"


@pytest.fixture(autouse=True)
def only_fonts_of_matplotlib(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", [e for e in manager.ttflist if "mpl-data" in e.fname])
    fonts.fonts_for.cache_clear()
    fonts._WARNED.clear()
    yield
    fonts.fonts_for.cache_clear()
    fonts._WARNED.clear()


@pytest.fixture
def installed(tmp_path: Path) -> None:
    """A font with the two letters of 日本 as squares, and nothing else."""
    pen = TTGlyphPen(None)
    for step, point in enumerate(((100, 0), (100, 800), (900, 800), (900, 0))):
        (pen.moveTo if step == 0 else pen.lineTo)(point)
    pen.closePath()
    square, empty = pen.glyph(), TTGlyphPen(None).glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "sun", "book"])
    builder.setupCharacterMap({ord("日"): "sun", ord("本"): "book"})
    builder.setupGlyf({".notdef": empty, "sun": square, "book": square})
    builder.setupHorizontalMetrics(dict.fromkeys((".notdef", "sun", "book"), (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Two Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(tmp_path / "squares.ttf")
    font_manager.fontManager.addfont(tmp_path / "squares.ttf")


def texts(figure: object) -> list[str]:
    figure_image(figure)  # type: ignore[arg-type]
    return [text.get_text() for text in figure.texts]  # type: ignore[attr-defined]


def test_letters_of_an_installed_font_are_drawn_with_it(installed: None, caplog: pytest.LogCaptureFixture) -> None:
    assert fonts.fonts_for(frozenset(NAME)) == (("Two Squares",), frozenset())
    figure = new_figure(300, 40, dpi=100)
    figure.text(0.1, 0.5, NAME)
    assert texts(figure) == [NAME]
    alone, two = (text_image(name, 100, 20) for name in ("日", "日本"))
    assert int((two < 128).sum()) > 1.5 * int((alone < 128).sum()) > 0  # two filled squares
    assert not caplog.records


def test_others_are_escaped_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    figure = new_figure(400, 60, dpi=100)
    figure.text(0.1, 0.2, NAME)
    figure.text(0.1, 0.6, "한국 🎹 plain")
    assert texts(figure) == [r"\u65e5\u672c vidéo.mp4", r"\ud55c\uad6d \U0001f3b9 plain"]
    (record,) = caplog.records
    assert r"no installed font has the characters \u65e5 \u672c: images show them" in record.getMessage()
    assert torch.equal(text_image("日", 80, 20), text_image(r"\u65e5", 80, 20))


def test_every_way_to_make_an_image_draws_the_escapes() -> None:
    """No warning of a missing glyph, which would be an error here."""
    figure = new_figure(300, 200, dpi=100)
    axes = figure.add_subplot()
    axes.plot([0, 1], label="日")
    axes.set_title("本")
    axes.set_xticks([0, 1], ["हि", "ع"])
    axes.legend()
    figure.tight_layout()
    assert encode_figure(figure).startswith(b"\x89PNG")
    assert axes.get_title() == r"\u672c"
    assert axes.get_legend().get_texts()[0].get_text() == r"\u65e5"
    images = [torch.zeros(3, 20, 60, dtype=torch.uint8)]
    assert contact_sheet(images, 1, captions=["日"]).shape[0] == 3


def test_scripts_of_the_usual_font_and_controls() -> None:
    assert fonts.fonts_for(frozenset("Größe Привет Ωμέγα\n")) == ((), frozenset())
    assert fonts.fonts_for(frozenset("a\x1b"))[1] == frozenset("\x1b")


def test_wide_letters_take_more_room() -> None:
    assert fonts.text_width("日本") == pytest.approx(3.4)
    assert fonts.text_width("ab") == 2
