"""Render the frames of a scene, and the mask and box of every object in every frame."""

from __future__ import annotations

import numpy as np

from avssl.synthetic.scene import Scene, SceneObject, SceneSettings, generator
from avssl.synthetic.shapes import SHAPES


def frame_seconds(scene: Scene) -> np.ndarray:
    """Return (T, O), the time at which each object is drawn in each frame.

    Frame k is shown in [k / fps, (k + 1) / fps) and drawn at k / fps, except that an object
    whose impact falls into that span is drawn at the impact. So a contact is visible in the
    frame in which it is audible, whatever the frame rate.
    """
    settings = scene.settings
    starts = np.arange(settings.num_frames) / settings.video_fps
    seconds = np.repeat(starts[:, None], len(scene.objects), axis=1)
    for i, item in enumerate(scene.objects):
        if item.motion.is_impact:
            times, strengths = item.motion.events(settings.num_frames / settings.video_fps)
            for time in times[np.argsort(strengths, kind="stable")]:  # the louder of two wins the frame
                seconds[min(int(time * settings.video_fps + 1e-9), settings.num_frames - 1), i] = time
    return seconds


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


def render_background(settings: SceneSettings, seed: int) -> np.ndarray:
    """Render the still background, larger than a frame by the camera's reach plus one pixel on every side.

    Returns:
        (H', W', 3) float32 in [0, 1]: a color, three scales of texture and clutter.
    """
    rng = generator("background", seed)
    margin = _margin(settings)
    height, width = settings.height + 2 * margin, settings.width + 2 * margin
    image = np.empty((height, width, 3), dtype=np.float32)
    image[:] = rng.uniform(0.3, 0.7, 3)
    for cells, strength in ((3, 0.18), (9, 0.07), (32, 0.03)):
        image += np.float32(settings.background_contrast * strength) * _smooth_noise(cells, height, width, rng)
    for _ in range(settings.clutter):
        _paint_clutter(image, rng)
    return np.clip(image, 0.0, 1.0)


def _margin(settings: SceneSettings) -> int:
    return int(np.ceil(settings.camera_shake_pixels)) + 1


def _camera(scene: Scene) -> np.ndarray:
    """Return the (T, 2) whole-pixel displacement of the camera, smoothed noise."""
    settings = scene.settings
    if not settings.camera_shake_pixels:
        return np.zeros((settings.num_frames, 2), dtype=int)
    rng = generator("camera", scene.background_seed)
    walk = rng.uniform(-1.0, 1.0, (settings.num_frames + 2, 2))
    smooth = (walk[:-2] + walk[1:-1] + walk[2:]) / 3.0 * 1.7
    return np.rint(np.clip(smooth, -1, 1) * settings.camera_shake_pixels).astype(int)


def _draw_object(item: SceneObject, seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw one object in all frames: corner (T, 2) int as (y, x), alpha (T, P, P), color (T, P, P, 3)."""
    pose = item.motion.pose(seconds)
    cx = item.home_xy[0] + item.radius * pose.dx
    cy = item.home_xy[1] + item.radius * pose.dy
    half = int(np.ceil(1.1 * item.radius * pose.scale.max())) + 1
    corner = np.stack([np.floor(cy).astype(int) - half, np.floor(cx).astype(int) - half], axis=1)
    offsets = np.arange(2 * half + 1, dtype=np.float32) + 0.5
    size = (item.radius * pose.scale).astype(np.float32)[:, None, None]
    dy = (offsets[None, :, None] + (corner[:, 0] - cy).astype(np.float32)[:, None, None]) / size
    dx = (offsets[None, None, :] + (corner[:, 1] - cx).astype(np.float32)[:, None, None]) / size
    angle = (item.angle + pose.angle).astype(np.float32)[:, None, None]
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = cos * dx + sin * dy, cos * dy - sin * dx
    shape, texture = SHAPES[item.kind]
    distance = shape(x, y) * size  # in pixels
    alpha = np.clip(0.5 - distance, 0.0, 1.0)
    outline = np.clip(2.0 + distance, 0.0, 1.0)[..., None]  # the last 1.5 pixels inside
    mixing = texture(x, y)[..., None]
    color = item.colors[0] + mixing * (item.colors[1] - item.colors[0])
    return corner, alpha, color + outline * (item.colors[2] - color)


def render_frames(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Render the frames and visible masks of a scene.

    Returns:
        frames: (T, H, W, 3) uint8 RGB.
        masks: (T, O, H, W) bool, the pixels at least half covered by each object and by no closer
            one; objects are in the order of ``scene.objects``.
    """
    settings = scene.settings
    num_frames, height, width = settings.num_frames, settings.height, settings.width
    background = _to_uint8(render_background(settings, scene.background_seed), scene)
    camera, margin = _camera(scene), _margin(settings)
    frames = np.empty((num_frames, height, width, 3), dtype=np.uint8)
    for t, (sy, sx) in enumerate(camera + margin):
        frames[t] = background[sy : sy + height, sx : sx + width]
    masks = np.zeros((num_frames, len(scene.objects), height, width), dtype=bool)
    seconds = frame_seconds(scene)
    for i, item in enumerate(scene.objects):
        corner, alpha, color = _draw_object(item, seconds[:, i])
        color = _to_uint8(color, scene).astype(np.float32)
        solid: np.ndarray = np.asarray(alpha >= 0.5)
        size = alpha.shape[1]
        for t, (y, x) in enumerate(corner - camera):
            top, left, bottom, right = max(y, 0), max(x, 0), min(y + size, height), min(x + size, width)
            if top >= bottom or left >= right:
                continue
            part = np.s_[t, top - y : bottom - y, left - x : right - x]
            behind = frames[t, top:bottom, left:right]
            behind[:] = behind + alpha[part][..., None] * (color[part] - behind) + 0.5
            masks[t, :, top:bottom, left:right] &= ~solid[part]  # objects behind are hidden
            masks[t, i, top:bottom, left:right] = solid[part]
    return frames, masks


def _to_uint8(values: np.ndarray, scene: Scene) -> np.ndarray:
    """Convert values in [0, 1] to pixels, with the scene's look applied."""
    gain, offset = scene.look
    return (np.clip(values * np.float32(gain) + np.float32(offset), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def boxes(masks: np.ndarray) -> np.ndarray:
    """Return the (T, O, 4) int16 half-open boxes (left, top, right, bottom) of (T, O, H, W) masks; -1 if hidden."""
    columns: np.ndarray = np.asarray(masks.any(axis=2))
    rows: np.ndarray = np.asarray(masks.any(axis=3))
    width, height = masks.shape[3], masks.shape[2]
    box = np.stack(
        [columns.argmax(2), rows.argmax(2), width - columns[..., ::-1].argmax(2), height - rows[..., ::-1].argmax(2)],
        axis=-1,
    ).astype(np.int16)
    box[~masks.any(axis=(2, 3))] = -1
    return box
