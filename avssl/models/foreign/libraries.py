"""Imports of optional libraries, with an error that says how to install them."""

from __future__ import annotations

import importlib
import os
import warnings
from types import ModuleType
from typing import Any

from avssl.core.errors import InputError

_EXTRAS = {"timm": "timm", "transformers": "hf", "peft": "hf", "huggingface_hub": "hub", "torchvision": "timm"}
"""The extra of avssl that installs each library."""


class LibraryError(InputError):
    """An optional library that is not installed, or does not load."""


def library(name: str) -> Any:
    """Import an optional library, or a module of it.

    Raises:
        LibraryError: If it does not load; has the line of pip that installs it.
    """
    top = name.partition(".")[0]
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside of the libraries, which their users cannot change
            module: ModuleType = importlib.import_module(name)
    except ImportError as error:
        extra = _EXTRAS[top]
        raise LibraryError(
            f"this backbone needs {top}, which does not load ({error}). Install it: pip install 'avssl[{extra}]'"
        ) from error
    return module
