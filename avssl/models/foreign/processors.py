"""Settings of the input in the processor files of transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avssl.models.foreign.weights import WeightFolder, WeightsError

_FILTERS = {2: "bilinear", 3: "bicubic"}
"""Filters of PIL by number."""


def video_preprocessing(folder: WeightFolder) -> dict[str, Any]:
    """Return the input of a video processor as settings of a spec; empty if the folder has no processor.

    Raises:
        WeightsError: If it resizes in a way that is not known here.
    """
    return _preprocessing(folder, ("video_preprocessor_config.json",), "video_processor")


def image_preprocessing(folder: WeightFolder) -> dict[str, Any]:
    """Return the input of an image processor, as :func:`video_preprocessing`."""
    return _preprocessing(folder, ("preprocessor_config.json",), "image_processor")


def _preprocessing(folder: WeightFolder, files: tuple[str, ...], part: str) -> dict[str, Any]:
    own: dict[str, Any] = {}
    for file in files:
        own |= folder.read(file)
    own |= folder.read("processor_config.json").get(part, {})
    found: dict[str, Any] = {}
    for ours, theirs in (("mean", "image_mean"), ("std", "image_std"), ("num_frames", "num_frames")):
        if own.get(theirs) is not None:
            found[ours] = own[theirs]
    if "resample" in own:
        if own["resample"] not in _FILTERS:
            raise WeightsError(
                f"{folder.name}: resizes frames by filter {own['resample']} of PIL, which is not known here."
            )
        found["interpolation"] = _FILTERS[own["resample"]]
    size, crop = own.get("size"), own.get("crop_size")
    if size is None:
        return found
    short = size if isinstance(size, int) else size.get("shortest_edge")
    if short is not None and own.get("do_center_crop", True):
        found |= {"size": _side(crop, short, folder), "resize_short": short}
    elif isinstance(size, Mapping) and "height" in size:
        found["size"] = _side(size, size["height"], folder)
    else:
        raise WeightsError(f"{folder.name}: its processor resizes to {size}, but frames here are squares.")
    return found


def _side(size: Any, default: int, folder: WeightFolder) -> int:
    """Return the side of a square."""
    if isinstance(size, Mapping):
        if size.get("height") != size.get("width"):
            raise WeightsError(f"{folder.name}: its processor makes {dict(size)} frames, but frames here are squares.")
        return int(size["height"])
    return int(size if size is not None else default)
