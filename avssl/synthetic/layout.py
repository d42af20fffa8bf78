"""Places of the objects of a scene."""

from __future__ import annotations

import numpy as np

from avssl.synthetic.scene import SceneSettings


def draw_homes(settings: SceneSettings, radii: np.ndarray, reach: float, rng: np.random.Generator) -> np.ndarray:
    """Draw (O, 2) centers: of 24 random layouts, the one with the largest minimum gap.

    Args:
        settings: Size of the frame.
        radii: (O,) half sizes in pixels.
        reach: Least distance of a center from the edge of the frame, in radii.
        rng: Random generator.
    """
    low = reach * radii[:, None]
    high = np.array([settings.width, settings.height]) - low
    layouts = low + rng.random((24, len(radii), 2)) * np.maximum(high - low, 1.0)
    gaps = np.linalg.norm(layouts[:, :, None] - layouts[:, None], axis=-1) - (radii[:, None] + radii[None])
    gaps[:, np.eye(len(radii), dtype=bool)] = np.inf
    return layouts[np.argmax(gaps.min((1, 2)))] if len(radii) > 1 else layouts[0]
