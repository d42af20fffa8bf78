"""Photographs of single objects with an alpha mask, and the photographs of places behind them.

A photograph without an alpha channel is cut out if it was taken before an even ground. Drawings, and what is too small,
too thin or too transparent to be a thing in a scene, are not used.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from avssl.core.errors import InputError
from avssl.media import MediaLimits, read_image

MAX_SIDE = 512
"""Longest side of a photograph in memory, in pixels."""
_MIN_SIDE = 40
_MIN_FILL = 0.08
"""Least area, as a share of the square of the longest side: a violin has 0.17, a flash of lightning 0.05."""
_MAX_SOFT = 0.5
"""Largest share of the visible pixels that are half transparent."""
_MAX_FLAT = 0.5
"""Largest share of opaque pixels of exactly the color of their neighbor: photographs have noise, drawings have not."""
_GROUND_RANGE = 24.0
_GROUND_SHARE = 0.85
"""An even ground: the share of the pixels at the edge within this range, of 255, of their median color."""
_OBJECT_RANGE = 28.0
"""Least difference of an object from an even ground."""
_MIN_CONTRAST = 10.0
"""Least standard deviation of a material, of 255; less is a plain color."""


@dataclass(frozen=True, eq=False)
class Photograph:
    """An object that was cut out of a photograph."""

    name: str
    kind: str
    rgba: np.ndarray
    """(h, w, 4) uint8, cropped to what is visible."""

    def sized(self, longest: int) -> Image.Image:
        """Return the photograph with a longest side of so many pixels."""
        height, width = self.rgba.shape[:2]
        scale = longest / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return Image.fromarray(self.rgba).resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True, eq=False)
class Backdrop:
    """A photograph of a place."""

    name: str
    rgb: np.ndarray
    """(h, w, 3) uint8."""


class UnusableError(InputError):
    """An image or sound that cannot be used in a scene; the message is the reason, as a short phrase."""


def read_photograph(path: Path, name: str, kind: str, limits: MediaLimits | None = None) -> Photograph:
    """Read a photograph, cut out.

    Raises:
        UnusableError: If it is a drawing, or cannot be a thing in a scene.
        MediaError: If it is damaged, no image, or over a limit.
    """
    rgba = read_image(path, limits=limits, has_alpha=True).permute(1, 2, 0).numpy()
    if rgba[..., 3].min() == 255:
        ground = _even_ground(rgba)
        rgba = _cut_out(_shrunk(rgba), ground)
    solid = rgba[..., 3] >= 128
    rows, columns = np.flatnonzero(solid.any(1)), np.flatnonzero(solid.any(0))
    longest = max(len(rows), len(columns))
    if longest < _MIN_SIDE:
        raise UnusableError("image too small")
    if solid.sum() < _MIN_FILL * longest**2:
        raise UnusableError("too thin or transparent")
    rgba = rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    visible = rgba[..., 3] > 20
    if (visible & (rgba[..., 3] < 235)).sum() > _MAX_SOFT * visible.sum():
        raise UnusableError("too thin or transparent")
    if _flat_share(rgba) > _MAX_FLAT:
        raise UnusableError("drawing, or a sound of one")
    return Photograph(name, kind, _shrunk(rgba))


def read_backdrop(path: Path, name: str, limits: MediaLimits | None = None) -> Backdrop:
    """Read the photograph of a place. Raises MediaError as :func:`read_photograph`."""
    rgb = read_image(path, limits=limits).permute(1, 2, 0).numpy()
    return Backdrop(name, _shrunk(rgb))


def texture(photograph: Photograph) -> Backdrop | None:
    """Return the inside of a photograph, a material without an outline; None if it is plain or too little is opaque."""
    opaque = photograph.rgba[..., 3] == 255
    if not opaque.any():
        return None
    opaque = np.pad(opaque, 1)
    depth = ndimage.distance_transform_cdt(opaque, "chessboard")[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    reach = int(depth.max()) - 2
    if reach < _MIN_SIDE:
        return None
    part = photograph.rgba[y - reach : y + reach, x - reach : x + reach, :3]
    return Backdrop(f"{photograph.name}#texture", part.copy()) if part.std(axis=(0, 1)).max() > _MIN_CONTRAST else None


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """Return an image with a longest side of MAX_SIDE at most."""
    height, width = pixels.shape[:2]
    scale = MAX_SIDE / max(height, width)
    if scale >= 1:
        return np.ascontiguousarray(pixels)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0))


def _flat_share(rgba: np.ndarray) -> float:
    opaque = rgba[..., 3] > 250
    pairs = opaque[:, 1:] & opaque[:, :-1]
    equal = (rgba[:, 1:, :3] == rgba[:, :-1, :3]).all(-1) & pairs
    return float(equal.sum() / max(pairs.sum(), 1))


def _even_ground(rgba: np.ndarray) -> np.ndarray:
    """Return the color of the ground, (3,).

    Raises:
        UnusableError: If it is not even.
    """
    edges = (rgba[:3], rgba[-3:], rgba[:, :3], rgba[:, -3:])
    ring = np.concatenate([edge[..., :3].reshape(-1, 3) for edge in edges]).astype(np.float32)
    ground = np.median(ring, axis=0)
    if (np.abs(ring - ground).max(1) < _GROUND_RANGE).mean() < _GROUND_SHARE:
        raise UnusableError("photograph without alpha before an uneven ground")
    return ground


def _cut_out(rgba: np.ndarray, ground: np.ndarray) -> np.ndarray:
    """Return a photograph with its even ground made transparent.

    Raises:
        UnusableError: If nothing stands before it.
    """
    rgb = rgba[..., :3].astype(np.float32)
    difference = ndimage.uniform_filter(np.abs(rgb - ground).max(2), 3)
    parts, _ = ndimage.label(difference < _OBJECT_RANGE)
    edges = np.unique(np.concatenate([parts[0], parts[-1], parts[:, 0], parts[:, -1]]))
    inside = ~np.isin(parts, edges[edges > 0])  # holes of the color of the ground stay, such as eyes
    parts, count = ndimage.label(ndimage.binary_opening(inside))
    if not count:
        raise UnusableError("too thin or transparent")
    areas = np.bincount(parts.ravel())[1:]
    inside = np.isin(parts, 1 + np.flatnonzero(areas > 0.05 * areas.max()))  # without dust and marks
    # The edge of the blurred mask lies half a pixel inside: no rim of the ground stays.
    alpha = np.clip(2.0 * ndimage.gaussian_filter(inside.astype(np.float32), 1.0) - 1.0, 0.0, 1.0)
    return np.dstack([rgba[..., :3], np.rint(255 * alpha).astype(np.uint8)])
