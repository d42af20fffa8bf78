"""Fonts for the characters of a figure: any script for which one is installed, and escapes for the others.

matplotlib draws a box for a character that its font lacks. Names of files and classes may be of any script, so each
text gets the installed fonts that hold its characters, and a character that none holds is written as ``\\u65e5``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_LOGGER = logging.getLogger(__name__)

FAMILY = "DejaVu Sans"
"""Font of all figures; it comes with matplotlib."""


def make_legible(figure: Any) -> None:
    """Give every text of a matplotlib figure the fonts that hold its characters, and escape those that none holds."""
    from matplotlib.text import Text
    from matplotlib.ticker import FuncFormatter

    for artist in figure.findobj(Text):
        text = artist.get_text()
        if not (text.isascii() and text.isprintable()):
            artist.set_fontfamily([FAMILY, *fonts_for(frozenset(text))[0]])
            artist.set_text(legible(text))
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()  # sets the labels of the ticks again when they are drawn
        if isinstance(formatter, FuncFormatter) and not isinstance(formatter.func, _Legible):
            formatter.func = _Legible(formatter.func)


@dataclass(frozen=True)
class _Legible:
    """A formatter of ticks whose labels are legible."""

    label: Callable[..., str]

    def __call__(self, *position: Any) -> str:
        return legible(self.label(*position))


def legible(text: str) -> str:
    """Return a text with escapes for the letters that no font holds."""
    lacking = fonts_for(frozenset(text))[1]
    return "".join(_escaped(letter) if letter in lacking else letter for letter in text)


@cache
def fonts_for(letters: frozenset[str]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the further font families that hold letters, fewest first, and the letters that no font holds.

    Warns once of each letter that no font holds.
    """
    missing = {letter for letter in letters if not letter.isspace() and ord(letter) not in _letters_of(_default_file())}
    families = []
    while missing:
        best, held = max(
            ((family, {letter for letter in missing if ord(letter) in _letters_of(file)}) for family, file in _fonts()),
            key=lambda found: len(found[1]),
            default=("", set()),
        )
        if not held:
            break
        families.append(best)
        missing -= held
    if missing:
        _warn_of(missing)
    return tuple(families), frozenset(missing)


def text_width(text: str) -> float:
    """Return the width of a text in letters of usual width: those of East Asia take more."""
    import unicodedata

    return sum(1.7 if unicodedata.east_asian_width(letter) in "WF" else 1.0 for letter in text)


def _escaped(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_WARNED: set[str] = set()


def _warn_of(missing: Iterable[str]) -> None:
    new = sorted(set(missing) - _WARNED)
    if new and not _WARNED:
        shown = " ".join(map(_escaped, new[:5])) + (" ..." if len(new) > 5 else "")
        _LOGGER.warning(
            "no installed font has the characters %s: images show them as such escapes. Install a font that has them, "
            "such as the package fonts-noto-cjk for East Asian scripts.",
            shown,
        )
    _WARNED.update(new)


def _fonts() -> Iterator[tuple[str, Path]]:
    """Yield family and file of every installed font that may stand in, upright ones of regular weight first."""
    import matplotlib
    from matplotlib.font_manager import fontManager

    own = Path(matplotlib.get_data_path())  # beside DejaVu only fonts of formulas, and one of placeholders
    entries = [entry for entry in fontManager.ttflist if own not in Path(entry.fname).parents]
    for entry in sorted(
        entries, key=lambda e: (e.style != "normal", e.weight not in (400, "normal", "regular"), e.name)
    ):
        yield entry.name, Path(entry.fname)


def _default_file() -> Path:
    from matplotlib.font_manager import findfont

    return Path(findfont(FAMILY))


@cache
def _letters_of(file: Path) -> frozenset[int]:
    """Return the code points that a font file holds; none if it cannot be drawn at any size, as color bitmaps."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(str(file))
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # a file that FreeType cannot read
        return frozenset()
