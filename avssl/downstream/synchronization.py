"""Evaluate synchronization: the audio of each clip is moved by a known offset, which the model has to find.

The same is done with audio that has no offset: of another clip, silence, a steady tone. There every decision is false.

Dimensions: N clips, O offsets of the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from avssl.core.draws import clip_key, text_keys
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError
from avssl.core.progress import Bar
from avssl.data.splits import Recordings
from avssl.engine import Precision
from avssl.evaluation import mean_interval
from avssl.hub.pretrained import PretrainedModel
from avssl.localization import SyncCurve, sync_curve
from avssl.media import MediaError, MediaReader, open_media

TOLERANCE_SECONDS = 0.1
"""Largest error of an offset that counts as found."""
MARGIN_STEPS = 2
"""Steps that the scan goes beyond the largest offset: a minimum at its edge is never decided."""
OWN, SHUFFLED, SILENCE, TONE = "own", "shuffled", "silence", "tone"
"""Audio of the clip itself; of the next clip; none; a steady tone of :data:`TONE_HZ`."""
TONE_HZ, TONE_AMPLITUDE = 440.0, 0.2
_ROUNDING = 1e-6


class MovedAudio:
    """Frames of one file with the audio of a file, later by some seconds; what :func:`sync_curve` reads.

    All offsets leave equally much audio, so that the same clips are long enough at each of them: as much of the clip as
    the largest offset is cut off at both ends together, and nothing is filled up.

    Args:
        frames: The file with the frames.
        audio: The file with the audio, which keeps its place relative to its own frames.
        late_seconds: Delay; negative for audio that is too early.
        max_offset_seconds: Largest delay in either direction.
    """

    def __init__(self, frames: MediaReader, audio: MediaReader, late_seconds: float, max_offset_seconds: float) -> None:
        start, stop = frames.info.video_start_seconds or 0.0, frames.info.video_stop_seconds or 0.0
        self._audio, self._late = audio, late_seconds + start - (audio.info.video_start_seconds or 0.0)
        begin, end = start + max(0.0, late_seconds), stop + max(0.0, late_seconds) - max_offset_seconds
        first = max(begin, (audio.info.audio_start_seconds or 0.0) + self._late)
        last = min(end, (audio.info.audio_stop_seconds or 0.0) + self._late)
        self.info = replace(frames.info, audio_start_seconds=first, audio_stop_seconds=max(first, last))
        self.stream_frames = frames.stream_frames

    def read_audio(self, start: float, stop: float, sample_rate_hz: int, num_channels: int = 1) -> Tensor:
        """Return (C, S) float32."""
        return self._audio.read_audio(start - self._late, stop - self._late, sample_rate_hz, num_channels)


class SteadyAudio:
    """The frames of a file with a steady tone as long as they are, or with silence.

    Args:
        reader: The file with the frames.
        amplitude: Amplitude of the tone; 0 for silence.
    """

    def __init__(self, reader: MediaReader, amplitude: float) -> None:
        about = reader.info
        self._amplitude, self.stream_frames = amplitude, reader.stream_frames
        self.info = replace(
            about, audio_start_seconds=about.video_start_seconds, audio_stop_seconds=about.video_stop_seconds
        )

    def read_audio(self, start: float, stop: float, sample_rate_hz: int, num_channels: int = 1) -> Tensor:
        """Return (C, S) float32."""
        at = round(start * sample_rate_hz) + torch.arange(round((stop - start) * sample_rate_hz), dtype=torch.float64)
        wave = self._amplitude * torch.sin(2 * torch.pi * TONE_HZ * at / sample_rate_hz)
        return wave.float()[None].expand(num_channels, -1)


@dataclass(frozen=True, eq=False)
class SyncScores:
    """Shares of clips for one kind of audio."""

    within: float
    """Clips whose lowest energy is within :data:`TOLERANCE_SECONDS` of the true offset, decided or not."""
    interval: tuple[float, float]
    """95 % interval of ``within`` over recordings."""
    decided: float
    """Clips for which ``avssl sync`` would report an offset."""
    decided_interval: tuple[float, float]
    """95 % interval of ``decided`` over recordings."""
    within_of_decided: float | None
    """``within`` among the decided clips; None if there are none."""
    median_error_seconds: float


def score_offsets(found: np.ndarray, decided: np.ndarray, true: np.ndarray, recordings: np.ndarray) -> SyncScores:
    """Score offsets.

    Args:
        found: (N,) offsets of the lowest energy in seconds.
        decided: (N,) bool.
        true: (N,) offsets in seconds.
        recordings: (N,) recordings of the clips.
    """
    error = np.abs(found - true)
    hits = error <= TOLERANCE_SECONDS + _ROUNDING
    return SyncScores(
        float(hits.mean()),
        mean_interval(hits, recordings),
        float(decided.mean()),
        mean_interval(decided, recordings),
        float(hits[decided].mean()) if decided.any() else None,
        float(np.median(error)),
    )


def chance_within(true: np.ndarray, step_seconds: float, max_offset_seconds: float) -> float:
    """Return the share of (N,) true offsets that a random step within the largest offset finds."""
    most = int(max_offset_seconds / step_seconds + _ROUNDING)
    guesses = np.arange(-most, most + 1) * step_seconds
    return float((np.abs(guesses[:, None] - true) <= TOLERANCE_SECONDS + _ROUNDING).mean())


def measure_sync(
    pretrained: PretrainedModel,
    rows: Manifest,
    *,
    max_offset_seconds: float = 1.0,
    step_seconds: float = 0.1,
    audio: Sequence[str] = (OWN, SHUFFLED),
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Move the audio of each row by an offset, scan for the lowest energy, and score what is found.

    The offset of a row is uniform in ±``max_offset_seconds`` and follows from its id and the seed; the scan goes
    :data:`MARGIN_STEPS` steps beyond. The other kinds of audio are moved by the same offset.

    Args:
        pretrained: The model.
        rows: Whole files.
        max_offset_seconds: Largest offset in either direction.
        step_seconds: Difference between two offsets of the scan, > 0.
        audio: :data:`OWN`, :data:`SHUFFLED`, :data:`SILENCE` or :data:`TONE`.
        seed: Random seed of the offsets.
        progress: Show a progress bar.

    Returns:
        ``about``: conditions; ``rows``: :class:`SyncScores` by kind of audio; ``baselines``: share within the tolerance
        of a random offset (``chance``) and of always 0 (``no offset``); ``clips``: what was found in each.

    Raises:
        ManifestError: If fewer than two rows can be measured.
    """
    rows.require_files("measuring offsets")
    draws = clip_key(seed, 0, text_keys(map(str, rows["id"]))).numpy()
    true = ((draws % 2**20) / 2**20 * 2 - 1) * max_offset_seconds
    scan = _Scan(pretrained, max_offset_seconds, step_seconds)
    kept: list[int] = []
    failures: list[str] = []
    curves: list[list[SyncCurve]] = []
    for row in Bar(range(len(rows)), desc="sync", unit="clip", delay=1.0, show=progress):
        files = rows.file(row), rows.sound_file(row), rows.sound_file((row + 1) % len(rows))
        try:
            curves.append([scan.curve(*files, kind, float(true[row])) for kind in audio])
        except (MediaError, InputError) as error:
            failures.append(str(error))
            continue
        kept.append(row)
    if len(kept) < 2:
        raise ManifestError(
            f"{len(kept)} of {len(rows)} rows can be measured: {failures[0] if failures else 'too few'}"
        )
    found = np.array([[curve.lowest_at_seconds for curve in each] for each in curves])
    decided = np.array([[curve.is_decided for curve in each] for each in curves])
    true, recordings = true[kept], Recordings(rows).groups[kept]
    table = [
        {"audio": kind, **asdict(score_offsets(found[:, i], decided[:, i], true, recordings))}
        for i, kind in enumerate(audio)
    ]
    about = {
        "checkpoint": pretrained.source,
        "weights": pretrained.weights_hash(),
        "clip_list": rows.hash(),
        "n": len(kept),
        "left_out": len(failures),
        "first_left_out": failures[0] if failures else None,
        "max_offset_seconds": max_offset_seconds,
        "scanned_seconds": scan.max_offset_seconds,
        "step_seconds": step_seconds,
        "tolerance_seconds": TOLERANCE_SECONDS,
        "seed": seed,
    }
    baselines = {
        "chance": chance_within(true, step_seconds, max_offset_seconds),
        "no offset": score_offsets(np.zeros(len(true)), np.zeros(len(true), dtype=bool), true, recordings).within,
    }
    clips = [
        {
            "id": str(rows.value(row, "id")),
            "offset_seconds": float(true[number]),
            "lowest_at_seconds": dict(zip(audio, found[number].tolist(), strict=True)),
            "decided": dict(zip(audio, decided[number].tolist(), strict=True)),
        }
        for number, row in enumerate(kept)
    ]
    return {"about": about, "rows": table, "baselines": baselines, "clips": clips}


class _Scan:
    """Scans single clips with a model."""

    def __init__(self, pretrained: PretrainedModel, max_offset_seconds: float, step_seconds: float) -> None:
        self._encoder, self._sampling = pretrained.encoder(Precision()), pretrained.sampling
        self._moved_by, self._step = max_offset_seconds, step_seconds
        self.max_offset_seconds = max_offset_seconds + MARGIN_STEPS * step_seconds

    def curve(self, video: Path, own: Path, other: Path, kind: str, late: float) -> SyncCurve:
        """Return the curve of the frames of ``video`` with one kind of audio."""
        with ExitStack() as files:
            frames = files.enter_context(open_media(video))
            if kind in (SILENCE, TONE):
                sound = cast(MediaReader, SteadyAudio(frames, TONE_AMPLITUDE if kind == TONE else 0.0))
            else:
                sound = files.enter_context(open_media(own if kind == OWN else other))
            moved = MovedAudio(frames, sound, late, self._moved_by)
            return sync_curve(
                cast(MediaReader, moved),  # only its info, stream_frames and read_audio are used
                self._encoder,
                self._sampling,
                max_offset_seconds=self.max_offset_seconds,
                step_seconds=self._step,
            )


def table_cells(report: dict[str, Any]) -> tuple[list[str], list[Sequence[str]]]:
    """Return header and cells of the table, shares in percent."""

    def share(value: float | None, interval: Sequence[float] = ()) -> str:
        text = "" if value is None else f"{100 * value:.1f}"
        return f"{text} [{', '.join(f'{100 * end:.1f}' for end in interval)}]" if interval else text

    body: list[Sequence[str]] = []
    for row in report["rows"]:
        body.append(
            [
                f"{row['audio']} audio",
                share(row["decided"], row["decided_interval"]),
                share(row["within"], row["interval"]),
                share(row["within_of_decided"]),
                f"{row['median_error_seconds']:.2f}",
            ]
        )
    body += [[name, "", share(value), "", ""] for name, value in report["baselines"].items()]
    within = f"within {report['about']['tolerance_seconds']:g} s, %"
    return ["", "decided, %", within, "of those decided", "median error, s"], body
