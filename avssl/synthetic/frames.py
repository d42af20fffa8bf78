"""Render the frames of a scene, and the mask and box of every object in every frame."""

from __future__ import annotations

import numpy as np

from avssl.synthetic.scene import Scene, SceneSettings, generator


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
            times, strengths = item.events(settings.num_frames / settings.video_fps)
            for time in times[np.argsort(strengths, kind="stable")]:  # the louder of two wins the frame
                seconds[min(int(time * settings.video_fps + 1e-9), settings.num_frames - 1), i] = time
    return seconds


def _margin(settings: SceneSettings) -> int:
    """Return the reach of the camera plus one pixel."""
    return int(np.ceil(settings.camera_shake_pixels)) + 1


def _background(scene: Scene, margin: int) -> np.ndarray:
    """Render the background, larger than a frame by ``margin`` pixels on every side."""
    height, width = scene.settings.height + 2 * margin, scene.settings.width + 2 * margin
    return scene.world.draw_background(scene.settings, scene.split, scene.background_seed, height, width)


def _camera(scene: Scene) -> np.ndarray:
    """Return the (T, 2) whole-pixel displacement of the camera, smoothed noise."""
    settings = scene.settings
    if not settings.camera_shake_pixels:
        return np.zeros((settings.num_frames, 2), dtype=int)
    rng = generator("camera", scene.background_seed)
    walk = rng.uniform(-1.0, 1.0, (settings.num_frames + 2, 2))
    smooth = (walk[:-2] + walk[1:-1] + walk[2:]) / 3.0 * 1.7
    return np.rint(np.clip(smooth, -1, 1) * settings.camera_shake_pixels).astype(int)


def render_frames(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Render the frames and visible masks of a scene.

    Returns:
        frames: (T, H, W, 3) uint8 RGB.
        masks: (T, O, H, W) bool, the pixels at least half covered by each object and by no closer
            one; objects are in the order of ``scene.objects``.

    Example:
        >>> settings = SceneSettings(width=64, height=48, duration_seconds=0.5, object_weights=(0.0, 1.0))
        >>> frames, masks = render_frames(draw_scene(settings, seed=0, split="train", index=7))
        >>> frames.shape, masks.shape
        ((8, 48, 64, 3), (8, 2, 48, 64))
    """
    settings = scene.settings
    num_frames, height, width = settings.num_frames, settings.height, settings.width
    camera, margin = _camera(scene), _margin(settings)
    background = _to_uint8(_background(scene, margin), scene)
    frames = np.empty((num_frames, height, width, 3), dtype=np.uint8)
    for t, (sy, sx) in enumerate(camera + margin):
        frames[t] = background[sy : sy + height, sx : sx + width]
    masks = np.zeros((num_frames, len(scene.objects), height, width), dtype=bool)
    seconds = frame_seconds(scene)
    for i, item in enumerate(scene.objects):
        corner, alpha, color = item.draw(seconds[:, i])
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
