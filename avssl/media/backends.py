"""The table of decoding backends. It imports neither torch nor a decoder, so that options are known quickly.

To add a backend: derive a class from :class:`avssl.media.reader.MediaReader` (or
:class:`avssl.media.pyav_backed_reader.PyAVBackedReader`) and add its name to the two lists below.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any, Literal, cast, get_args

from avssl.core.errors import InputError, RunError
from avssl.core.lazy import load

BackendName = Literal["auto", "pyav", "torchcodec", "decord", "torchcodec_cuda"]
"""Name of a backend; ``"auto"`` is the first of :data:`BACKENDS` that loads."""

# Fastest first. Processor time of torchcodec over PyAV per read, for 340 x 256 and 1280 x 720 H.264: a training clip
# 3.5 and 1.6, one frame 1.7 and 1.8, two seconds of audio 1.6 and 2.8 (benchmarks/loader.py measures more).
BACKENDS = {
    "pyav": "avssl.media.pyav.reader:PyAVReader",
    "torchcodec": "avssl.media.torchcodec_reader:TorchCodecReader",
    "decord": "avssl.media.decord_reader:DecordReader",
}
"""Name → ``module:class`` of the reader, fastest first."""
ON_GPU = {"torchcodec_cuda": "avssl.media.torchcodec_cuda_reader:TorchCodecCudaReader"}
"""Readers that decode on a GPU, whose processes cannot be forked; used only where they are chosen."""


def _all() -> dict[str, str]:
    return BACKENDS | ON_GPU


@cache
def load_error(backend: str) -> str | None:
    """Return None if the backend loads, else the reason in one line."""
    try:
        importlib.import_module(_all()[backend].partition(":")[0])
    except (ImportError, OSError, RuntimeError) as error:  # a broken binary wheel raises any of the three
        lines = str(error).strip().splitlines()
        return f"{backend} does not load: {type(error).__name__}: {lines[0] if lines else 'no message'}"
    return None


def available_backends() -> dict[str, str | None]:
    """Return the name of each backend with None if it loads, else the reason why it does not.

    Example:
        >>> available_backends()["pyav"] is None  # it loads
        True
    """
    return {name: load_error(name) for name in _all()}


def resolve_backend(backend: str) -> BackendName:
    """Return the concrete name for ``"auto"``; return any other name as it is.

    Raises:
        ValueError: If there is no backend of this name.
        RuntimeError: If the backend does not load, or none does.
    """
    if backend != "auto" and backend not in _all():
        raise InputError(f"backend must be one of {list(get_args(BackendName))}, got {backend!r}.")
    candidates = list(BACKENDS) if backend == "auto" else [backend]
    for name in candidates:
        if load_error(name) is None:
            return cast(BackendName, name)
    reasons = "; ".join(str(load_error(name)) for name in candidates)
    raise RunError(f"media backend {backend!r} cannot be used: {reasons}. See all with: avssl doctor")


def reader_class(backend: str) -> Any:
    """Import the reader class of a backend."""
    return load(_all()[resolve_backend(backend)])
