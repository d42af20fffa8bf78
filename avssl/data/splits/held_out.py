"""Which rows a run keeps for looking at itself: chosen once, by their files' names alone."""

from __future__ import annotations

import numpy as np

from avssl.core.draws import mix_int, text_key
from avssl.core.manifest import Manifest


def held_out_rows(manifest: Manifest, most: int) -> np.ndarray:
    """Rows to keep out of training: whole files, so that no segment of a held-out file is trained on.

    Files are taken in the order of a hash of their names, as many as fit. The choice is a function
    of the rows' files alone: not of the seed, the order of the rows or the machine.

    Args:
        manifest: All rows.
        most: Largest number of rows, >= 0.

    Returns:
        (N,) bool, at most ``most`` of them True; a file with more rows than are left is passed over.
    """
    files = manifest["source_path" if "source_path" in manifest else "path"]
    names, file_of_row, counts = np.unique(files.astype(str), return_inverse=True, return_counts=True)
    keys = np.array([mix_int(text_key(f"held out\0{name}")) for name in names], dtype=np.int64)
    keep, left = np.zeros(len(names), dtype=bool), most
    for file in np.argsort(keys, kind="stable"):
        if left == 0:
            break
        if counts[file] <= left:
            keep[file] = True
            left -= int(counts[file])
    return keep[file_of_row]
