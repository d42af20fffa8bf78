"""Patterns of files, as WebDataset writes them: ``shards/{000..010}.tar``, ``{train,val}-*.tar``."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator

from avssl.core.manifest import ManifestError, is_url
from avssl.core.tables import TableError

MAX_FILES = 1_000_000
"""Largest number of files of a pattern."""

_RANGE = re.compile(r"(\d+)\.\.(\d+)", flags=re.ASCII)
_GLOB = re.compile(r"[*?\[]")


def expand_braces(pattern: str) -> Iterator[str]:
    """Yield the texts of a pattern: ``{a,b}`` is one of several texts, ``{008..010}`` a number with leading zeros.

    Raises:
        ManifestError: If a brace is not closed, or there are more than :data:`MAX_FILES`.

    Example:
        >>> list(expand_braces("x-{08..10}.{a,b}"))
        ['x-08.a', 'x-08.b', 'x-09.a', 'x-09.b', 'x-10.a', 'x-10.b']
    """
    for count, text in enumerate(_expand(pattern, pattern)):
        if count >= MAX_FILES:
            raise ManifestError(f"{pattern}: more than {MAX_FILES} files.")
        yield text


def find_files(pattern: str) -> list[str]:
    """Return the paths or URLs of a pattern of braces and of ``*``, ``?`` and ``[...]``, each once.

    Raises:
        ManifestError: If a brace is not closed, or no file matches.
    """
    found = dict.fromkeys(path for text in expand_braces(pattern) for path in _glob(text))
    if not found:
        raise ManifestError(f"{pattern}: no such files.")
    return list(found)


def root_of(pattern: str) -> str:
    """Return the folder, or the URL of a folder, that holds all files of a pattern."""
    return re.split(r"[{*?\[]", pattern, maxsplit=1)[0].rpartition("/")[0] or ("/" if pattern.startswith("/") else ".")


def _expand(text: str, pattern: str) -> Iterator[str]:
    start = text.find("{")
    if start < 0:
        yield text
        return
    parts, stop = _parts(text, start, pattern)
    for part in parts:
        for rest in _expand(text[stop:], pattern):
            yield from (text[:start] + each + rest for each in _expand(part, pattern))


def _parts(text: str, start: int, pattern: str) -> tuple[Iterator[str] | list[str], int]:
    """Return the texts of the brace at a position, and the position behind it."""
    depth, parts, first = 0, [], start + 1
    for place in range(start, len(text)):
        letter = text[place]
        depth += (letter == "{") - (letter == "}")
        if depth == 0 or (depth == 1 and letter == ","):
            parts.append(text[first:place])
            first = place + 1
        if depth == 0:
            numbers = _RANGE.fullmatch(text[start + 1 : place])
            return _numbers(numbers[1], numbers[2]) if numbers else parts, place + 1
    raise ManifestError(f"{pattern}: a brace is not closed. Write such as shards/{{000..010}}.tar.")


def _numbers(first: str, last: str) -> Iterator[str]:
    step = 1 if int(first) <= int(last) else -1
    return (f"{number:0{len(first)}d}" for number in range(int(first), int(last) + step, step))


def _glob(text: str) -> list[str]:
    if not _GLOB.search(text.partition("://")[2] if is_url(text) else text):
        return [text]
    if not is_url(text):
        return sorted(glob.glob(text))
    import fsspec

    try:
        (system, name), root = fsspec.core.url_to_fs(text), root_of(text)
        below = system._strip_protocol(root)
        return [f"{root}/{path.removeprefix(below).lstrip('/')}" for path in sorted(system.glob(name))]
    except (OSError, ImportError, ValueError) as error:
        raise TableError(f"{text}: cannot be listed ({error}).") from error
