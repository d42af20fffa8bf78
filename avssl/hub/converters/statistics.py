"""Spectrogram statistics in a separate file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avssl.core.data_files import read_arrays
from avssl.core.user_files import FileError
from avssl.hub.converters.foreign import ConvertError

MAX_STATISTICS_BYTES = 2**20


def read_statistics(path: Path | str, num_bins: int) -> tuple[Tensor, Tensor]:
    """Read mean and standard deviation of each frequency bin, in dB, from an ``.npz`` with ``mean`` and ``std``.

    Args:
        path: The file; only arrays are read, never objects.
        num_bins: F of the spectrogram.

    Returns:
        Two (F,) float32 tensors.

    Raises:
        ConvertError: If it is not such a file, has another number of bins, or a value is out of range.
    """
    try:
        arrays = read_arrays(path, MAX_STATISTICS_BYTES)
        mean, std = (torch.from_numpy(arrays[name].astype(np.float32)) for name in ("mean", "std"))
    except (FileError, KeyError, TypeError, ValueError) as error:
        raise ConvertError(f"{path}: not an .npz with the arrays mean and std: {error}") from error
    for name, value in (("mean", mean), ("std", std)):
        if max(value.shape, default=0) != value.numel() or value.numel() != num_bins:
            raise ConvertError(f"{path}: {name} is {tuple(value.shape)}, but the spectrogram has {num_bins} bins.")
        if not bool(value.isfinite().all()) or (name == "std" and bool((value <= 0).any())):
            raise ConvertError(f"{path}: {name} must be finite{' and above 0' if name == 'std' else ''} in every bin.")
    return mean.flatten(), std.flatten()
