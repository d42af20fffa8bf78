"""The appearance of the twelve object kinds of SoundingShapes: a shape and a texture each.

A kind is defined by its outline and its texture. Colors, size, position and angle are random for
every object, so none of them is a shortcut to the kind.

Shapes are signed distances (negative inside) over local coordinates in which an object has about
unit radius; textures are values in [0, 1] that mix the object's two colors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Field = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _soft_sign(wave: np.ndarray) -> np.ndarray:
    """Return a square wave with soft edges, in [0, 1]; hard edges would alias at 128 pixels."""
    return 0.5 + 0.5 * np.tanh(4.0 * wave)


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.maximum(0.866 * x + 0.5 * y, -0.866 * x + 0.5 * y), -y) - 0.55


def _hexagon(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(0.866 * x + 0.5 * y, y) - 0.88


def _gear(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.hypot(x, y) - (0.84 + 0.13 * np.tanh(3.0 * np.cos(8.0 * np.arctan2(y, x))))


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return 0.7 * (np.hypot(x, y) - (0.68 + 0.36 * np.cos(5.0 * np.arctan2(y, x))))


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.hypot(x, y) - 1.0, 0.72 - np.hypot(x - 0.55, y))


def _dots(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return _soft_sign(2.0 * np.cos(7.5 * x) * np.cos(7.5 * y) - 0.7)


SHAPES: dict[str, tuple[Field, Field]] = {
    "disc": (lambda x, y: np.hypot(x, y) - 0.95, lambda x, y: _soft_sign(np.sin(11.0 * np.hypot(x, y)))),
    "square": (lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.82, lambda x, y: _soft_sign(np.sin(9.0 * x))),
    "triangle": (_triangle, _dots),
    "star": (_star, lambda x, y: np.clip(1.1 - np.hypot(x, y), 0.0, 1.0)),
    "cross": (
        lambda x, y: np.maximum(np.minimum(np.abs(x), np.abs(y)) - 0.34, np.maximum(np.abs(x), np.abs(y)) - 0.96),
        lambda x, y: _soft_sign(2.0 * np.sin(8.0 * x) * np.sin(8.0 * y)),
    ),
    "ring": (
        lambda x, y: np.abs(np.hypot(x, y) - 0.72) - 0.26,
        lambda x, y: _soft_sign(np.sin(6.0 * np.arctan2(y, x))),
    ),
    "crescent": (_crescent, lambda x, y: np.clip(0.5 + 0.6 * y, 0.0, 1.0)),
    "hexagon": (
        _hexagon,
        lambda x, y: _soft_sign(4.0 * np.minimum(np.abs(np.sin(4.5 * x)), np.abs(np.sin(4.5 * y))) - 1.2),
    ),
    "capsule": (
        lambda x, y: np.hypot(x, np.maximum(np.abs(y) - 0.55, 0.0)) - 0.45,
        lambda x, y: _soft_sign(np.sin(9.0 * (y + np.abs(x)))),
    ),
    "gear": (_gear, lambda x, y: _soft_sign(4.0 * (np.hypot(x, y) - 0.45))),
    "diamond": (lambda x, y: (1.45 * np.abs(x) + np.abs(y) - 1.05) / 1.76, lambda x, y: _soft_sign(3.0 * x)),
    "hourglass": (
        lambda x, y: np.maximum(np.abs(y) - 0.9, 0.76 * (np.abs(x) - 0.85 * np.abs(y) - 0.12)),
        lambda x, y: _soft_sign(np.sin(9.0 * y + 2.0 * np.sin(5.0 * x))),
    ),
}
"""Kind → (signed distance, texture); both take local coordinates of one shape."""

KINDS: tuple[str, ...] = tuple(SHAPES)
"""Names of the object kinds, the classes of object recognition: disc, square, triangle, star, cross, ring, crescent,
hexagon, capsule, gear, diamond, hourglass."""
