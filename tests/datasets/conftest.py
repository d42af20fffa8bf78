"""Loads the scripts of ``datasets/`` from their files, as they are no package, and makes small fake downloads."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from avssl.core.manifest import Manifest, read_manifest
from avssl.core.tables import parse_table

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets"


@dataclass
class Ran:
    """What a script printed and wrote."""

    status: int
    out: str
    error: str
    manifest: Manifest | None
    missing: list[dict[str, str]]

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        """The cells of some columns, row by row; None where empty."""
        assert self.status == 0, self.error
        assert self.manifest is not None
        return [tuple(self.manifest.value(row, name) for name in columns) for row in range(len(self.manifest))]

    def truth(self, row: int) -> dict[str, Any]:
        """The truth file of a row."""
        return json.loads(self.manifest.truth_file(row).read_text())


@pytest.fixture
def run(monkeypatch, capsys, root):
    """``run("kinetics", "--strict")``: calls the script as a user does, with the root and these words."""
    monkeypatch.syspath_prepend(SCRIPTS)
    before = sys.modules.copy()  # a package may have the name of a script: vggsounder
    for script in SCRIPTS.glob("*.py"):
        sys.modules.pop(script.stem, None)

    def call(script: str, *words: str, out: str = "manifest.csv") -> Ran:
        status = importlib.import_module(script).main([str(root), *words])
        printed = capsys.readouterr()
        manifest, missing = root / out, (root / out).with_suffix(".missing.csv")
        return Ran(
            status,
            printed.out,
            printed.err,
            read_manifest(manifest) if manifest.exists() else None,
            parse_table(missing.read_bytes(), str(missing), {}).to_pylist() if missing.exists() else [],
        )

    yield call
    for script in SCRIPTS.glob("*.py"):
        sys.modules.pop(script.stem, None)
    sys.modules.update({script.stem: before[script.stem] for script in SCRIPTS.glob("*.py") if script.stem in before})


@pytest.fixture
def root(tmp_path) -> Path:
    """A folder whose name has a space, as some have."""
    folder = tmp_path / "a dataset"
    folder.mkdir()
    return folder


@pytest.fixture
def touch(root):
    """``touch(*paths)`` makes empty files below the root."""

    def call(*paths: str) -> None:
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()

    return call


@pytest.fixture
def write(root):
    """``write(path, text)`` makes a text file below the root."""

    def call(path: str, text: str) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")

    return call
