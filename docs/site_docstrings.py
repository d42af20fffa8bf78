"""Read docstrings as the site shows them (an extension of griffe)."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from typing import Any, get_type_hints

import griffe

ROLE = re.compile(r":(?:meth|class|func|data|mod|attr|obj):`~?([\w.]+)`")


DERIVED = "avssl.config.derived"
"""Module of the classes that are made when it is imported, whose source shows no fields."""


class Docstrings(griffe.Extension):
    """Turn the heading "Example:" into the one that griffe shows as code, and Sphinx's roles into code spans."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute that was read."""
        if isinstance(obj, griffe.Class) and obj.parent is not None and obj.parent.path == DERIVED:
            made = getattr(importlib.import_module(DERIVED), obj.name, None)
            if made is not None:
                obj.docstring = griffe.Docstring(_with_fields(made), parent=obj)
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub(lambda role: f"`{role[1].removeprefix('avssl.')}`", text)


def _with_fields(made: Any) -> str:
    """Return the docstring of a dataclass with a list of its fields, from their metadata."""
    lines = [inspect.cleandoc(made.__doc__ or ""), "", "Attributes:"]
    types = get_type_hints(made)
    for field in dataclasses.fields(made):
        kind = inspect.formatannotation(types[field.name]).replace("typing.", "")
        lines.append(f"    {field.name} ({kind}): {field.metadata['help']} Default: `{field.default!r}`.")
    return "\n".join(lines)
