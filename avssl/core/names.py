"""File names as text of a table, and text of strangers as something to print.

A file system holds any bytes, a table only UTF-8. A name that is not UTF-8 stands in a table as ``bytes:`` and its
bytes, percent-encoded: ``bytes:caf%E9.mp4``. Every other name stands there as it is.
"""

from __future__ import annotations

import os
import unicodedata
from urllib.parse import quote_from_bytes, unquote_to_bytes

_BYTES = "bytes:"
_DIRECTING = {"Cc", "Cs", "Zl", "Zp"}  # control characters, single surrogates, line and paragraph separators
_OVERRIDES = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}  # turn around what follows


def name_to_text(name: str | os.PathLike[str]) -> str:
    """Return a file's name, or a path, as the text of a table; :func:`name_from_text` returns the name."""
    raw = os.fsencode(name)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        return _BYTES + quote_from_bytes(raw)
    return _BYTES + quote_from_bytes(raw) if text.startswith(_BYTES) else text


def name_from_text(text: str) -> str:
    """Return the file name, or path, behind the text of a table."""
    if text.startswith(_BYTES):
        return os.fsdecode(unquote_to_bytes(text.removeprefix(_BYTES)))
    return os.fsdecode(text.encode())  # UTF-8 whatever the locale is


def leaves_folder(text: str) -> bool:
    """Return True if a path of a table does not stay inside the folder that it is relative to, on this system."""
    path = name_from_text(text)
    drive, rest = os.path.splitdrive(path)
    first = os.path.normpath(path).split(os.sep)[0]
    return bool(drive) or rest.startswith(("/", os.sep)) or first == os.pardir


def printable(text: str) -> str:
    """Return text in one line that cannot steer a terminal: control characters and such become ``\\\\x1b``."""
    if text.isprintable():
        return text
    return "".join(map(_shown, text))


def _shown(letter: str) -> str:
    if unicodedata.category(letter) in _DIRECTING or letter in _OVERRIDES:
        return letter.encode("unicode_escape").decode()
    return letter
