"""The verb ``sync``: how early or late the audio of a video is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from avssl.core.claimed_verb import writes_files
from avssl.core.familiarity import STAMP
from avssl.core.progress import Bar
from avssl.core.ranges import Seconds, Step, checked
from avssl.core.whole_file import write_json
from avssl.engine import Precision, choose_device
from avssl.features.familiarity import check_familiarity
from avssl.hub.pretrained import from_pretrained
from avssl.localization import SyncCurve, draw_sync_curve, sync_curve
from avssl.media import MediaLimits, MediaReader, open_media


def _outputs(given: Mapping[str, Any]) -> list[Path | str | None]:
    return [given["out"] or f"{Path(given['video']).stem}_sync.png", given["readout"]]


@checked
@writes_files(_outputs, reads=("video", "audio", "checkpoint"))
def sync(
    video: Path | str,
    *,
    checkpoint: Path | str,
    out: Path | str | None = None,
    audio: Path | str | None = None,
    readout: Path | str | None = None,
    overwrite: bool = False,
    max_offset_seconds: Seconds = 1.0,
    step_seconds: Step = 0.1,
    seconds: Seconds | None = None,
    limits: MediaLimits | None = None,
    device: str = "auto",
) -> SyncCurve:
    """Find how early or late the audio of a video is.

    The audio is shifted in steps against the frames, and the mean energy (1 minus the cosine similarity of the
    embeddings) is drawn over the offset. It is lowest at the true offset. The model must have been trained on clips
    with events that are seen and heard, such as speech, footsteps or blows, best with ``objective.name framewise``
    (``configs/soundingshapes_sync.yaml``), whose frames are compared with single moments of the audio. A clip is
    undecided if its parts do not agree on an offset: in more than 5 % of random shifts of the parts against each other
    the minimum is as low, or it lies at the edge of the scan. So it is with steady or silent audio, and with any video
    unlike the clips that the model was trained on, which gets a warning.

    Args:
        video: Video file.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME.
        out: PNG to write; default: VIDEO_sync.png in the working folder.
        audio: File whose audio is used instead of the video's own, from its start.
        readout: JSON file to write the curve to.
        overwrite: Replace a file that another command or program made.
        max_offset_seconds: Largest shift of the audio that is tried, in either direction; at least one step.
        step_seconds: Difference between two offsets, > 0; not a stride over the video.
        seconds: Use only this much of the video, from its start; default: all.
        limits: Limits on the files.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.

    Raises:
        OutputError: If another command or program made an output, it is a source, or another process writes it.
        MediaError: If a file cannot be read or lacks the stream that is needed.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If an option is out of range, or the video is too short for the offsets.
    """
    out = Path(out) if out else Path(f"{Path(video).stem}_sync.png")
    pretrained = from_pretrained(checkpoint, choose_device(device))
    began = time.perf_counter()
    with ExitStack() as files:
        reader = files.enter_context(open_media(video, limits=limits))
        sound = files.enter_context(open_media(audio, limits=limits)) if audio is not None else None
        bar = files.enter_context(Bar(desc="sync", unit="window", delay=1.0))
        curve = sync_curve(
            reader,
            pretrained.encoder(Precision()),
            pretrained.sampling,
            max_offset_seconds=max_offset_seconds,
            step_seconds=step_seconds,
            audio_from=sound,
            stop_after_seconds=seconds,
            on_progress=bar.move,
        )
        length = _seconds_used(reader, seconds)
        familiarity = check_familiarity(
            reader, pretrained, sound, audio_late_seconds=curve.lowest_at_seconds, stop_after_seconds=seconds
        )
        taken = time.perf_counter() - began
    curve = replace(curve, is_foreign=familiarity.is_foreign)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_sync_curve(curve, out, Path(video).name, STAMP if curve.is_foreign else "")
    if readout is not None:
        Path(readout).parent.mkdir(parents=True, exist_ok=True)
        content = {
            "video": str(video),
            "audio": str(audio or video),
            **_plain(curve),
            "familiarity": familiarity.plain(),
        }
        write_json(readout, content)
        print(f"numbers: {readout}")
    print(_verdict(curve))
    print(
        f"speed: {length:.1f} s of video in {taken:.1f} s, {length / taken:.1f} times real time, with the "
        "check whether the model knows the video"
    )
    print(familiarity.line)
    print(f"curve: {out}")
    return curve


def _seconds_used(reader: MediaReader, seconds: float | None) -> float:
    info = reader.info
    length = (info.video_stop_seconds or 0.0) - (info.video_start_seconds or 0.0)
    return length if seconds is None else min(length, seconds)


def _state(curve: SyncCurve) -> str:
    if curve.offset is None:
        return "undecided"
    return "in_sync" if curve.offset == 0 else "late" if curve.offset > 0 else "early"


def _verdict(curve: SyncCurve) -> str:
    points = f"{curve.num_instants} {'instant' if curve.num_instants == 1 else 'instants'}"
    measured = f"confidence {curve.confidence:.3f}, depth {curve.depth:.3f}, over {points}"
    if curve.is_foreign:
        return f"undecided: the model does not know such videos ({measured})"
    if curve.is_at_edge:
        return (
            f"undecided: the lowest energy is at the edge of the scan ({measured}), a lower one may lie beyond. Try a "
            "larger --max-offset-seconds"
        )
    if curve.offset is None:
        return (
            f"undecided: the parts of the clip do not agree on an offset ({measured}). The audio may be steady, silent "
            "or of other frames, the clip short, or the model trained on other events"
        )
    state = "in sync" if curve.offset == 0 else f"{abs(curve.offset):.2f} s {_state(curve)}"
    return f"the audio is {state}: lowest energy at offset {curve.offset:+.2f} s, {measured}"


def _plain(curve: SyncCurve) -> dict[str, object]:
    return {
        "decision": _state(curve),
        "offset_seconds": None if curve.offset is None else round(curve.offset, 4),
        "lowest_at_seconds": round(curve.lowest_at_seconds, 4),
        "confidence": round(curve.confidence, 4),
        "depth": round(curve.depth, 4),
        "is_at_edge": curve.is_at_edge,
        "num_instants": curve.num_instants,
        "offsets": [round(value, 4) for value in curve.offset_seconds.tolist()],
        "energy": [round(value, 4) for value in curve.energy.tolist()],
    }
