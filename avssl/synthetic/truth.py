"""Ground truth of a synthetic clip: one NPZ file of plain arrays (nothing is pickled)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avssl.core.data_files import read_arrays
from avssl.core.errors import InputError
from avssl.core.whole_file import whole_file
from avssl.synthetic.frames import boxes
from avssl.synthetic.scene import Scene


@dataclass(frozen=True)
class Truth:
    """The exact content of a clip: T frames, O objects (far to near), E events.

    Example:
        >>> truth = read_truth("corpus/truth/train/000000.npz")  # of 2 s at 16 frames per second
        >>> truth.frame_at(0.5), truth.masks.shape[0], truth.sounding_mask(0.5).shape
        (8, 32, (48, 48))
        >>> [kind for kind, sounds in zip(truth.kinds, truth.sounding) if sounds] == truth.heard_kinds
        True
    """

    video_fps: float
    """Frame k is shown in [k / fps, (k + 1) / fps)."""
    masks: np.ndarray
    """(T, O, H, W) bool, the visible pixels of each object."""
    boxes: np.ndarray
    """(T, O, 4) int16 half-open (left, top, right, bottom) of the masks; -1 if hidden."""
    kinds: list[str]
    """O object kinds."""
    actions: list[str]
    """O actions."""
    sounding: np.ndarray
    """(O,) bool: True for audible objects. All False for off-screen, mismatched and silent clips."""
    heard_kinds: list[str]
    """Kinds of the audible objects, visible or not."""
    nuisance: str
    """"none", "off_screen", "mismatched", "silent" or "near_duplicate"."""
    event_seconds: np.ndarray
    """(E,) float64 ascending: times of all objects' events, audible or not."""
    event_object: np.ndarray
    """(E,) int64 index of the object."""
    event_strength: np.ndarray
    """(E,) float64 in [0, 1]: loudness of the hit; 0 for a swell without a hit."""

    def frame_at(self, seconds: float) -> int:
        """Return the frame shown at a time."""
        return min(max(int(seconds * self.video_fps + 1e-9), 0), len(self.masks) - 1)

    def sounding_mask(self, seconds: float) -> np.ndarray:
        """Return the (H, W) bool union of the sounding objects' visible pixels at a time."""
        return self.masks[self.frame_at(seconds)][self.sounding].any(axis=0)

    def sounding_events(self) -> np.ndarray:
        """Return the times of the events of sounding objects."""
        return self.event_seconds[self.sounding[self.event_object]]


def scene_truth(scene: Scene, masks: np.ndarray) -> Truth:
    """Return the truth of a scene from its rendered masks (T, O, H, W)."""
    settings = scene.settings
    events = [item.events(settings.num_frames / settings.video_fps) for item in scene.objects]
    seconds = np.concatenate([times for times, _ in events])
    owner = np.concatenate([np.full(len(times), i) for i, (times, _) in enumerate(events)]).astype(np.int64)
    strength = np.concatenate([strengths for _, strengths in events])
    order = np.argsort(seconds, kind="stable")
    return Truth(
        video_fps=settings.video_fps,
        masks=masks,
        boxes=boxes(masks),
        kinds=[item.kind for item in scene.objects],
        actions=[item.action for item in scene.objects],
        sounding=np.isin(np.arange(len(scene.objects)), scene.sounding),
        heard_kinds=[item.kind for item in scene.heard],
        nuisance=scene.nuisance,
        event_seconds=seconds[order],
        event_object=owner[order],
        event_strength=strength[order],
    )


def write_truth(path: Path, truth: Truth) -> None:
    """Write the NPZ file; masks are packed to bits."""
    values = {name: value for name, value in vars(truth).items() if name != "masks"}
    arrays: dict[str, Any] = {
        name: np.asarray(value, dtype=np.str_) if name in _TEXTS else np.asarray(value)
        for name, value in values.items()
    }
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, masks=np.packbits(truth.masks, axis=-1), width=truth.masks.shape[-1], **arrays)


_TEXTS = ("kinds", "actions", "heard_kinds", "nuisance")
_MAX_BYTES = 2**27
"""Largest size of all arrays of a clip, with masks as bits: 300 frames of six objects of 1024 x 576 pixels."""


def read_truth(path: Path | str) -> Truth:
    """Read the truth of a clip; raise ValueError if the file is not such a truth file.

    Example:
        >>> manifest = avssl.read_manifest("corpus/manifest.csv")
        >>> truth = read_truth(f"corpus/{manifest['truth'][0]}")
        >>> truth.nuisance, truth.boxes.shape == (32, len(truth.kinds), 4)
        ('none', True)
    """
    try:
        arrays = read_arrays(path, _MAX_BYTES)
        packed, width = arrays.pop("masks"), int(arrays.pop("width"))
        if packed.ndim != 4 or packed.dtype != np.uint8 or packed.shape[-1] != (width + 7) // 8:
            raise ValueError(f"masks {packed.shape} {packed.dtype} cannot be those of images of width {width}")
        texts: dict[str, Any] = {name: arrays.pop(name).tolist() for name in _TEXTS}
        masks = np.unpackbits(packed, axis=-1, count=width).view(bool)
        others: dict[str, Any] = arrays
        return _checked(Truth(video_fps=float(others.pop("video_fps")), masks=masks, **texts, **others))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: not a truth file of avssl synthesize ({error}). Make one with: avssl synthesize"
        ) from error


def _checked(truth: Truth) -> Truth:
    """Return the truth; raise ValueError if its arrays do not belong together."""
    num_frames, num_objects = truth.masks.shape[:2]
    num_events = len(truth.event_seconds)
    shapes = {
        "boxes": (num_frames, num_objects, 4),
        "kinds": (num_objects,),
        "heard_kinds": (len(truth.heard_kinds),),
        "nuisance": (),
        "actions": (num_objects,),
        "sounding": (num_objects,),
        "event_seconds": (num_events,),
        "event_object": (num_events,),
        "event_strength": (num_events,),
    }
    for name, shape in shapes.items():
        if np.shape(getattr(truth, name)) != shape:
            raise ValueError(f"{name} has the shape {np.shape(getattr(truth, name))}, not {shape}")
    owners = truth.event_object
    if truth.sounding.dtype != bool or owners.dtype.kind != "i" or not ((owners >= 0) & (owners < num_objects)).all():
        raise ValueError("an event belongs to no object")
    if not 0 < truth.video_fps < float("inf") or not np.isfinite(truth.event_seconds).all() or not num_frames:
        raise ValueError("there are no frames, or a time is not finite")
    return truth
