"""Locks of places in which nothing can be made."""

import errno
from pathlib import Path

import pytest

from avssl.core.lock import OutputError, locked


def test_a_place_in_which_nothing_can_be_made_is_named(tmp_path, monkeypatch):
    with (
        pytest.raises(OutputError, match=r"x\.csv: nothing can be made there \(No such file.*Name another place"),
        locked(Path("/proc/none/.avssl/x.csv.lock"), Path("/proc/none/x.csv")),
    ):
        raise AssertionError
    monkeypatch.setattr(Path, "mkdir", refused)
    with (
        pytest.raises(OutputError, match=r"x\.csv: nothing can be made there \(Permission denied: "),
        locked(tmp_path / "new" / ".avssl" / "x.csv.lock", tmp_path / "x.csv"),
    ):
        raise AssertionError


def refused(path, *arguments, **options):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))
