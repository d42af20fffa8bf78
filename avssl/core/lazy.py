"""Imports on first use, so that tables of names and the command line's help load without torch."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def load(path: str) -> Any:
    """Import what ``"package.module:Name"`` names."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def make_lazy(package: str) -> None:
    """Make a package import each of its public names when the name is first used.

    The public names are the imports under ``if TYPE_CHECKING:`` in the package's ``__init__.py``, so that type checkers
    and this function read one list. Call it as ``make_lazy(__name__)`` at the end of that file.
    """
    module = sys.modules[package]
    module.__dict__["_public"] = _type_checking_imports(Path(str(module.__file__)))
    module.__class__ = _LazyPackage


class _LazyPackage(ModuleType):
    _public: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        if name not in self._public:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        self.__dict__[name] = value = load(self._public[name])
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        # Importing package.info_nce would hide the public function of the same name behind the module.
        if not (isinstance(value, ModuleType) and name in self._public):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._public})


def _type_checking_imports(file: Path) -> dict[str, str]:
    """Return the path of each name that the file imports under ``if TYPE_CHECKING:``."""
    return {
        alias.asname or alias.name: f"{statement.module}:{alias.name}"
        for block in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
