"""Peaks and boxes of heat maps as plain numbers for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avssl.core.batch import Heatmap
from avssl.localization.drawing.boxes import box_threshold, hot_box
from avssl.localization.drawing.composition import layers_of
from avssl.localization.drawing.panel import Look
from avssl.localization.drawing.scale import Scale, color_limits
from avssl.localization.heatmap import heatmap_readout


def readout(
    maps: Mapping[str, Heatmap],
    frame_hw: tuple[int, int],
    scale: Scale = "video",
    look: Look = Look(),  # noqa: B008
) -> dict[str, Any]:
    """Return the peaks and boxes over time of maps that are drawn together.

    Args:
        maps: Maps by the name of their audio.
        frame_hw: Height and width of the upright frame in pixels.
        scale: Color scale of the drawing.
        look: Options of the drawing.

    Returns:
        ``frame`` (``width`` and ``height``), ``scale`` (cosines of the ``lowest`` and the ``highest`` color),
        ``box`` (its ``share`` of the scale and that ``cosine``, or None), and ``maps``: one for each audio, or for each
        head of each audio (``head``, from 1), with ``peaks`` as in :func:`heatmap_readout`. With boxes, each peak has a
        ``box``: left, top, right and bottom in pixels, or None.

    Raises:
        InputError: If an option is out of range, or ``look.heads`` is set and the maps have one head.

    Example:
        >>> heatmap = Heatmap(torch.tensor([[[0.0, 0.5]]]), torch.tensor([1.5]).double(), torch.tensor([0.5]))
        >>> found = readout({"own": heatmap}, frame_hw=(100, 200), scale="absolute")
        >>> found["scale"], found["maps"][0]["peaks"]
        ({'lowest': 0.0, 'highest': 1.0}, [{'second': 1.5, 'x': 150.0, 'y': 50.0, 'confidence': 0.5}])
    """
    layers = layers_of(maps, look)
    low, high = color_limits(*(layer for of_sound in layers.values() for layer in of_sound), scale=scale)
    box = None
    if look.box_share is not None:
        box = {"share": look.box_share, "cosine": box_threshold((low, high), look.box_share)}
    return {
        "frame": {"width": frame_hw[1], "height": frame_hw[0]},
        "scale": {"lowest": low, "highest": high},
        "box": box,
        "maps": [
            {"sound": sound, **({"head": head} if look.heads else {}), "peaks": _peaks(layer, frame_hw, box)}
            for sound, of_sound in layers.items()
            for head, layer in enumerate(of_sound, start=1)
        ],
    }


def _peaks(layer: Heatmap, frame_hw: tuple[int, int], box: Mapping[str, float] | None) -> list[dict[str, Any]]:
    peaks: list[dict[str, Any]] = [*heatmap_readout(layer, frame_hw)]
    if box is not None:
        for peak, heat in zip(peaks, layer.values, strict=True):
            found = hot_box(heat, box["cosine"], frame_hw)
            peak["box"] = None if found is None else [round(float(side), 1) for side in found]
    return peaks
