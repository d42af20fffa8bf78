"""Evaluate synchronization: the audio of each clip is moved by a known offset, which the model has to find.

Dimensions: N clips, O offsets of the scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from avssl.core.draws import clip_key, text_keys
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, ManifestError
from avssl.core.progress import Bar
from avssl.engine import Precision
from avssl.evaluation import wilson_interval
from avssl.hub.pretrained import PretrainedModel
from avssl.localization import SyncCurve, sync_curve
from avssl.media import MediaError, MediaReader, open_media

TOLERANCE_SECONDS = 0.1
"""Largest error of an offset that counts as found."""
OWN, SHUFFLED = "own", "shuffled"
"""Audio of the clip itself, and of another clip, which says nothing about the offset."""
_ROUNDING = 1e-6


class ShiftedAudio:
    """The audio of a file, later by some seconds: the source of audio that ``audio_from`` takes.

    Args:
        reader: The file with the audio.
        late_seconds: Delay; negative for audio that is too early.
        start_seconds: Time at which the video of this audio begins.
    """

    def __init__(self, reader: MediaReader, late_seconds: float, start_seconds: float) -> None:
        self._reader, self._late = reader, late_seconds
        self._first, self._last = reader.info.audio_start_seconds or 0.0, reader.info.audio_stop_seconds or 0.0
        # Audio begins with the video, in silence if need be, so that the delay is exactly the requested one.
        self.info = replace(reader.info, audio_start_seconds=start_seconds)

    def read_audio(self, start: float, stop: float, sample_rate_hz: int, num_channels: int = 1) -> Tensor:
        """Return (C, S) float32; silence where the file has no audio."""
        samples = torch.zeros(num_channels, round((stop - start) * sample_rate_hz))
        low, high = max(start - self._late, self._first), min(stop - self._late, self._last)
        if high - low >= 1 / sample_rate_hz:
            offset = round((low - start + self._late) * sample_rate_hz)
            found = self._reader.read_audio(low, high, sample_rate_hz, num_channels)[:, : samples.shape[1] - offset]
            samples[:, offset : offset + found.shape[1]] = found
        return samples


@dataclass(frozen=True, eq=False)
class SyncScores:
    """Share of clips whose offset is found."""

    within: dict[str, float]
    """Audio -> share of clips with an error of at most :data:`TOLERANCE_SECONDS`."""
    intervals: dict[str, tuple[float, float]]
    """Audio -> its 95 % interval (Wilson)."""
    median_error_seconds: dict[str, float]
    chance: float
    """Share that a random offset of the scan finds."""


def score_offsets(found: dict[str, np.ndarray], true: np.ndarray, offsets: np.ndarray) -> SyncScores:
    """Score offsets.

    Args:
        found: Audio -> (N,) offsets of the model in seconds.
        true: (N,) offsets in seconds.
        offsets: (O,) offsets of the scan.
    """
    within, intervals, median = {}, {}, {}
    for name, values in found.items():
        error = np.abs(values - true)
        hits = error <= TOLERANCE_SECONDS + _ROUNDING
        low, high = wilson_interval(int(hits.sum()), len(hits))
        within[name], intervals[name] = float(hits.mean()), (float(low), float(high))
        median[name] = float(np.median(error))
    chance = float((np.abs(offsets[:, None] - true) <= TOLERANCE_SECONDS + _ROUNDING).mean())
    return SyncScores(within, intervals, median, chance)


def measure_sync(
    pretrained: PretrainedModel,
    rows: Manifest,
    *,
    max_offset_seconds: float = 1.0,
    step_seconds: float = 0.1,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Move the audio of each row by an offset, find it by the lowest energy, and score what is found.

    The offset of a row is uniform in ±``max_offset_seconds`` and follows from its id and the seed. The same is done
    with the audio of the next row.

    Returns:
        ``about``: conditions; ``rows``: the scores of own and of shuffled audio; ``chance``.

    Raises:
        ManifestError: If fewer than two rows can be measured.
    """
    draws = clip_key(seed, 0, text_keys(map(str, rows["id"]))).numpy()
    true = ((draws % 2**20) / 2**20 * 2 - 1) * max_offset_seconds
    found: dict[str, list[float]] = {OWN: [], SHUFFLED: []}
    kept: list[int] = []
    failures: list[str] = []
    offsets = np.zeros(0)
    encoder = pretrained.encoder(Precision())
    for row in Bar(range(len(rows)), desc="sync", unit="clip", delay=1.0, show=progress):
        try:
            curves = [
                _curve(pretrained, encoder, rows, row, other, float(true[row]), max_offset_seconds, step_seconds)
                for other in (row, (row + 1) % len(rows))
            ]
        except (MediaError, InputError) as error:
            failures.append(str(error))
            continue
        kept.append(row)
        offsets = curves[0].offset_seconds.numpy()
        for name, curve in zip(found, curves, strict=True):
            found[name].append(float(curve.offset_seconds[curve.energy.argmin()]))
    if len(kept) < 2:
        raise ManifestError(
            f"{len(kept)} of {len(rows)} rows can be measured: {failures[0] if failures else 'too few'}"
        )
    scores = score_offsets({name: np.asarray(values) for name, values in found.items()}, true[kept], offsets)
    about = {
        "checkpoint": pretrained.source,
        "weights": pretrained.weights_hash(),
        "clip_list": rows.hash(),
        "n": len(kept),
        "left_out": len(failures),
        "first_left_out": failures[0] if failures else None,
        "max_offset_seconds": max_offset_seconds,
        "step_seconds": step_seconds,
        "tolerance_seconds": TOLERANCE_SECONDS,
        "seed": seed,
    }
    table = [
        {
            "audio": name,
            "within": scores.within[name],
            "interval": scores.intervals[name],
            "median_error_seconds": scores.median_error_seconds[name],
        }
        for name in found
    ]
    return {"about": about, "rows": table, "chance": scores.chance}


def _curve(
    pretrained: PretrainedModel,
    encoder: Any,
    rows: Manifest,
    row: int,
    other: int,
    late: float,
    max_offset_seconds: float,
    step_seconds: float,
) -> SyncCurve:
    """Return the curve of a row with the audio of another one, moved."""
    with ExitStack() as files:
        reader = files.enter_context(open_media(rows.file(row)))
        sound = files.enter_context(open_media(rows.sound_file(other)))
        moved = ShiftedAudio(sound, late, reader.info.video_start_seconds or 0.0)
        return sync_curve(
            reader,
            encoder,
            pretrained.sampling,
            max_offset_seconds=max_offset_seconds,
            step_seconds=step_seconds,
            audio_from=cast(MediaReader, moved),  # only its info and read_audio are used
        )


def table_cells(report: dict[str, Any]) -> tuple[list[str], list[Sequence[str]]]:
    """Return header and cells of the table, shares in percent."""
    body: list[Sequence[str]] = []
    for row in report["rows"]:
        low, high = row["interval"]
        share = f"{100 * row['within']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        body.append([f"{row['audio']} audio", share, f"{row['median_error_seconds']:.2f}"])
    body.append(["random offset", f"{100 * report['chance']:.1f}", ""])
    return ["", f"within {report['about']['tolerance_seconds']:g} s, %", "median error, s"], body
