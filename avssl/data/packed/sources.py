"""Tell which sources are archives, and list their rows: tars of WebDataset and Hugging Face datasets."""

from __future__ import annotations

import re
from pathlib import Path

from avssl.core.manifest import is_url
from avssl.data.packed.arrow_sets import PREFIX, is_saved, read_named, read_saved
from avssl.data.packed.patterns import root_of
from avssl.data.packed.samples import PackedRows
from avssl.data.packed.tars import read_tars

_TAR = re.compile(r"\.(tar|tgz|tar\.\w+)\}?$", flags=re.IGNORECASE)


def is_packed(source: Path | str) -> bool:
    """Return True if a source is a tar, a pattern of tars, a saved Hugging Face dataset, or ``hf:NAME``."""
    text = str(source)
    return is_named(text) or bool(_TAR.search(text)) or (not is_url(text) and is_saved(text))


def is_named(source: Path | str) -> bool:
    """Return True for ``hf:NAME``, which is no path."""
    return str(source).startswith(PREFIX)


def read_packed(source: Path | str, *, progress: bool = False) -> PackedRows:
    """List the rows of a source for which :func:`is_packed` is true.

    Raises:
        ManifestError: If it is missing, in another format, or has no media.
        RunError: If ``hf:NAME`` needs a package that is not installed.
    """
    text = str(source)
    if is_named(text):
        return read_named(text)
    return read_tars(text, progress=progress) if _TAR.search(text) else read_saved(text)


def packed_root(source: Path | str) -> str:
    """Return the folder or URL that the rows' paths are relative to."""
    text = str(source)
    if is_named(text):
        return "/"
    return root_of(text) if _TAR.search(text) else text
