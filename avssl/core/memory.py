"""Errors of a machine that has no memory left."""

from __future__ import annotations

import errno

from avssl.core.errors import AvsslError

_ON_GPU = ("CUDA", "CUBLAS", "CUDNN", "GPU", "HIP")
_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "ALLOC_FAILED")


def is_memory_shortage(error: BaseException) -> bool:
    """Return True for errors of torch, numpy, pyarrow or the system that there is no memory left."""
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    is_torchs = isinstance(error, RuntimeError) and not isinstance(error, AvsslError)  # OutOfMemoryError is one, too
    return is_torchs and any(word.lower() in str(error).lower() for word in _WORDS)


def is_on_gpu(error: BaseException) -> bool:
    """Return True if it is a GPU's memory that a shortage is about."""
    return type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in _ON_GPU)
