"""Backgrounds of SoundingShapes: a color, three scales of texture, and still clutter."""

from __future__ import annotations

import numpy as np

from avssl.synthetic.scene import SceneSettings, generator


def _smooth_noise(cells: int, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Return (H, W, 3) float32 in [-1, 1]: random values on a cells x cells grid, interpolated linearly."""
    grid = rng.uniform(-1.0, 1.0, (cells, cells, 3)).astype(np.float32)
    for axis, size in enumerate((height, width)):
        at = np.linspace(0.0, cells - 1.001, size, dtype=np.float32)
        low = at.astype(int)
        part = (at - low).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        grid = np.take(grid, low, axis) * (1.0 - part) + np.take(grid, low + 1, axis) * part
    return grid


def _paint_clutter(image: np.ndarray, rng: np.random.Generator) -> None:
    """Paint one still ellipse or box of random position, size, angle and color."""
    long, short, angle = rng.uniform(3.0, 14.0), rng.uniform(1.5, 6.0), rng.uniform(0, np.pi)
    cy, cx = rng.uniform(0, image.shape[0]), rng.uniform(0, image.shape[1])
    reach = long + short
    top, left = max(int(cy - reach), 0), max(int(cx - reach), 0)
    part = image[top : int(cy + reach) + 1, left : int(cx + reach) + 1]
    y, x = np.ogrid[: part.shape[0], : part.shape[1]]
    x, y = (x + left - cx).astype(np.float32), (y + top - cy).astype(np.float32)
    u, v = (np.cos(angle) * x + np.sin(angle) * y) / long, (np.cos(angle) * y - np.sin(angle) * x) / short
    distance = np.maximum(np.abs(u), np.abs(v)) if rng.random() < 0.5 else np.hypot(u, v)
    alpha = np.clip((1.0 - distance) * short, 0.0, 1.0)[..., None] * rng.uniform(0.25, 0.6)
    part += alpha * (rng.uniform(0.15, 0.85, 3) - part)


def render_background(settings: SceneSettings, seed: int, height: int, width: int) -> np.ndarray:
    """Render a still background, (height, width, 3) float32 in [0, 1]: a color, three scales of texture and clutter."""
    rng = generator("background", seed)
    image = np.empty((height, width, 3), dtype=np.float32)
    image[:] = rng.uniform(0.3, 0.7, 3)
    for cells, strength in ((3, 0.18), (9, 0.07), (32, 0.03)):
        image += np.float32(settings.background_contrast * strength) * _smooth_noise(cells, height, width, rng)
    for _ in range(settings.clutter):
        _paint_clutter(image, rng)
    return np.clip(image, 0.0, 1.0)
