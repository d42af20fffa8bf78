"""Read docstrings as the site shows them (an extension of griffe)."""

from __future__ import annotations

import re
from typing import Any

import griffe

ROLE = re.compile(r":(?:meth|class|func|data|mod|attr|obj):`~?([\w.]+)`")


class Docstrings(griffe.Extension):
    """Turn the heading "Example:" into the one that griffe shows as code, and Sphinx's roles into code spans."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute that was read."""
        if obj.docstring is not None:
            text = re.sub(r"^Example:$", "Examples:", obj.docstring.value, flags=re.MULTILINE)
            obj.docstring.value = ROLE.sub(lambda role: f"`{role[1].removeprefix('avssl.')}`", text)
