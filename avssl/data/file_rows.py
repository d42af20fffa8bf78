"""Rows of files that a user names, one row for each whole file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.names import name_to_text
from avssl.core.user_files import MissingFileError


def rows_of_files(files: Sequence[Path | str]) -> Manifest:
    """Return one row for each file, in their order; ids are paths relative to the folder that holds them all.

    A file that is named twice has one row. Nothing is opened.

    Raises:
        InputError: If there is no file, or a name is that of a folder.
        MissingFileError: If there is nothing at one of the paths.
    """
    if not files:
        raise InputError("name at least one file.")
    for file in files:
        if os.path.isdir(file):
            raise InputError(f"{file}: is a folder; name its files.")
        if not os.path.lexists(file):
            raise MissingFileError(f"{file}: no such file.")
    paths = list(dict.fromkeys(os.path.normpath(file) for file in files))
    if any(os.path.isabs(path) or path.split(os.sep)[0] == os.pardir for path in paths):
        paths = list(dict.fromkeys(map(os.path.abspath, paths)))
    root = os.path.commonpath([os.path.dirname(path) for path in paths])
    names = [name_to_text(os.path.relpath(path, root or os.curdir)) for path in paths]
    return Manifest.from_columns({"id": names, "path": names}, root or os.curdir)
