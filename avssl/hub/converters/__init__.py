"""Convert checkpoints of other projects into models of this one.

A new layout costs its file, one line in the table here and one test file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from avssl.core.checkpoint_names import HUB, local_text, parse_hub
from avssl.core.hub_client import download
from avssl.hub.converters.avid_cma import read_ablation, read_avid_cma
from avssl.hub.converters.cav_mae import read_cav_mae, read_cav_mae_sync
from avssl.hub.converters.dense_av import read_dense_av
from avssl.hub.converters.foreign import Conversion as Conversion
from avssl.hub.converters.foreign import ConvertError as ConvertError
from avssl.hub.converters.statistics import read_statistics as read_statistics
from avssl.hub.converters.torchvision_weights import load_torchvision as load_torchvision

Layout = Literal["avid-cma", "avid-cma-ablation", "cav-mae", "cav-mae-sync", "dense-av"]
"""Checkpoints that :func:`read_checkpoint` reads."""
_LAYOUTS: dict[str, Callable[[Path], Conversion]] = {
    "avid-cma": read_avid_cma,
    "avid-cma-ablation": read_ablation,
    "cav-mae": read_cav_mae,
    "cav-mae-sync": read_cav_mae_sync,
    "dense-av": read_dense_av,
}
_HUB_FILES = ("model.safetensors", "config.json")
NEED_STATISTICS = ("avid-cma", "avid-cma-ablation")
"""Layouts whose authors do not publish the statistics of the spectrogram with the program."""


def read_checkpoint(layout: str, path: Path | str) -> Conversion:
    """Read a checkpoint of another project, in one of :data:`Layout`. Code in the file is never run.

    Args:
        layout: Format of the checkpoint.
        path: File, folder, or ``hf-hub:owner/name`` with ``model.safetensors`` and ``config.json``.

    Raises:
        HubError: If a repository cannot be downloaded.
        ConvertError: If there is no such layout, or the file has another one; names the first key that is missing,
            unknown or of another shape.
    """
    if layout not in _LAYOUTS:
        raise ConvertError(f"{layout!r} is not a known layout. Known: {', '.join(_LAYOUTS)}.")
    is_hub = str(path).startswith(HUB)
    return _LAYOUTS[layout](download(parse_hub(str(path)), _HUB_FILES) if is_hub else Path(local_text(path)))
