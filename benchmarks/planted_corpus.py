"""A SoundingShapes corpus with planted copies, segments of one recording, wrong audio and voice-overs.

The manifest's column ``planted`` has the kind of each row and ``planted_of`` the id of the clip that a copy was made
from. Everything follows from the seed; the files are written by PyAV.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from avssl.core.manifest import Manifest
from avssl.core.parallel import parallel_map
from avssl.media import write_video
from avssl.synthetic import SceneSettings, draw_scene, render_audio, render_frames

COPIES = ("re-encoded", "resized", "gain", "cropped", "cut by a step", "cut between steps")
RATE = 24000
SCENE = SceneSettings()


def write_corpus(folder: Path, num_clips: int, num_planted: int, seed: int, num_workers: int = 0) -> Manifest:
    """Write the corpus and its manifest.

    Args:
        folder: Folder of the files.
        num_clips: Ordinary clips.
        num_planted: Copies of each kind, recordings in two segments, and clips of each kind of wrong audio.
        seed: Random seed.
        num_workers: Processes.
    """
    jobs = [(folder, seed, *job) for job in _jobs(num_clips, num_planted)]
    rows = [row for rows in parallel_map(_write, jobs, num_workers=num_workers) for row in rows]
    manifest = Manifest.from_columns({name: [row[name] for row in rows] for name in rows[0]}, folder)
    manifest.write(folder / "manifest.csv")
    return manifest


def _jobs(num_clips: int, num_planted: int) -> Iterator[tuple[str, int]]:
    for number in range(num_clips):
        # A clip is copied once at most, so that every copy has one original.
        kind = COPIES[number % len(COPIES)] if number < num_planted * len(COPIES) else "none"
        yield kind, number
    for kind in ("segments", "mismatched", "off-screen", "music", "narration"):
        for number in range(num_planted):
            yield kind, number


def _write(job: tuple[Path, int, str, int]) -> list[dict[str, Any]]:
    torch.set_num_threads(1)
    folder, seed, kind, number = job
    family = "plain" if kind == "none" or kind in COPIES else kind
    settings = SCENE
    if kind == "segments":
        settings = replace(settings, duration_seconds=2 * settings.duration_seconds)
    if kind == "mismatched":
        settings = replace(settings, mismatched_fraction=1.0)
    if kind == "off-screen":
        settings = replace(settings, off_screen_fraction=1.0)
    scene = draw_scene(settings, seed, family, number)
    frames = torch.from_numpy(render_frames(scene)[0]).movedim(-1, 1).contiguous()
    audio = torch.from_numpy(render_audio(scene)).float()
    generator = np.random.default_rng([seed, number, len(family)])
    name = f"{family}-{number:04d}"
    if kind in ("music", "narration"):
        laid = music(generator, len(audio), seed) if kind == "music" else narration(generator, len(audio), seed)
        audio = 0.15 * audio + laid
    if kind == "segments":
        half, samples = len(frames) // 2, len(audio) // 2
        parts = [(f"{name}a", frames[:half], audio[:samples]), (f"{name}b", frames[half:], audio[samples:])]
        return [_file(folder, part, f, a, kind) for part, f, a in parts]
    rows = [_file(folder, name, frames, audio, "none" if kind in COPIES else kind)]
    if kind in COPIES:
        rows.append(_copy(folder, name, frames, audio, kind))
    return rows


def _copy(folder: Path, name: str, frames: Tensor, audio: Tensor, kind: str) -> dict[str, Any]:
    crf = 18
    if kind == "re-encoded":
        crf = 35
    elif kind == "resized":
        frames = F.interpolate(frames.float(), scale_factor=0.625, mode="bilinear", antialias=True).byte()
    elif kind == "gain":
        audio = 0.4 * audio
    elif kind == "cropped":
        edge = frames.shape[-1] // 32 * 2
        frames = frames[..., edge:-edge, edge:-edge]
    elif kind.startswith("cut"):  # by windows of half a second, or by three quarters of that
        first = 8 if kind == "cut by a step" else 6
        frames, audio = frames[first:], audio[first * RATE // 16 :]
    return _file(folder, f"{name}-copy", frames.contiguous(), audio, kind, name, crf)


def _file(
    folder: Path, name: str, frames: Tensor, audio: Tensor, kind: str, of: str | None = None, crf: int = 23
) -> dict[str, Any]:
    write_video(folder / f"{name}.mp4", frames, SCENE.video_fps, audio[None].clamp(-1, 1).contiguous(), RATE, crf=crf)
    return {"id": name, "path": f"{name}.mp4", "planted": kind, "planted_of": of}


def music(generator: np.random.Generator, num_samples: int, seed: int) -> Tensor:
    """Return a piece of one tune of this seed: chords that change every half second, with a soft attack."""
    tune = np.random.default_rng([seed, 1])
    chords = tune.choice([220.0, 247.0, 262.0, 294.0, 330.0, 392.0], size=(16, 3)) * tune.choice([1, 2], size=(16, 3))
    time = (np.arange(num_samples) + generator.integers(8 * RATE)) / RATE
    chord = chords[(2 * time).astype(int) % 16]
    phase = 2 * np.pi * chord * time[:, None]
    tone = sum(np.sin(k * phase).sum(axis=1) / k for k in (1, 2, 3))
    swell = np.exp(-1.5 * (time % 0.5)) * np.minimum(1, (time % 0.5) / 0.02)
    return torch.from_numpy(0.08 * tone * swell).float()


def narration(generator: np.random.Generator, num_samples: int, seed: int) -> Tensor:
    """Return other words of one voice: a buzz of this seed's pitch through two formants that move with syllables."""
    pitch = 90 + 80 * np.random.default_rng([seed, 2]).random()
    time = np.arange(num_samples) / RATE
    syllables = int(4 * num_samples / RATE) + 2
    place = 4 * time
    first, second = (
        np.interp(place, np.arange(syllables), generator.uniform(*r, syllables)) for r in ((300, 800), (900, 2300))
    )
    glide = pitch * (1 + 0.1 * np.interp(place, np.arange(syllables), generator.normal(size=syllables)))
    phase = 2 * np.pi * np.cumsum(glide) / RATE
    voice = np.zeros(num_samples)
    for k in range(1, 25):
        tone = k * glide
        weight = sum(1 / (1 + ((tone - formant) / 120) ** 2) for formant in (first, second))
        voice += weight * np.sin(k * phase) / np.sqrt(k)
    loud = np.abs(np.sin(np.pi * place)) ** 0.5
    return torch.from_numpy(0.12 * loud * voice).float()
