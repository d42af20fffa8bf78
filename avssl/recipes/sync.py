"""The verb ``sync``: how early or late the audio of a video is."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from avssl.core.claimed_verb import writes_files
from avssl.core.progress import Bar
from avssl.core.ranges import Seconds, Step, checked
from avssl.core.whole_file import write_json
from avssl.engine import Precision, choose_device
from avssl.hub.pretrained import from_pretrained
from avssl.localization import SyncCurve, draw_sync_curve, sync_curve
from avssl.media import MediaLimits, open_media


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
    with events that are seen and heard, such as speech, footsteps or blows.

    Args:
        video: Video file.
        checkpoint: A run directory, its weights folder, or a release on the Hugging Face hub.
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
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_sync_curve(curve, out, Path(video).name)
    if readout is not None:
        Path(readout).parent.mkdir(parents=True, exist_ok=True)
        content = {"video": str(video), "audio": str(audio or video), **_plain(curve)}
        write_json(readout, content)
        print(f"numbers: {readout}")
    print(_verdict(curve))
    print(f"curve: {out}")
    return curve


def _verdict(curve: SyncCurve) -> str:
    best = curve.best_offset_seconds
    state = "in sync" if best == 0 else f"{abs(best):.2f} s {'late' if best > 0 else 'early'}"
    edge = " (the edge of the scan: a larger --max-offset-seconds may find lower)" if curve.is_at_edge else ""
    return (
        f"the audio is {state}{edge}: lowest energy at offset {best:+.2f} s, confidence {curve.confidence:.3f}, "
        f"over {curve.num_instants} {'instant' if curve.num_instants == 1 else 'instants'}"
    )


def _plain(curve: SyncCurve) -> dict[str, object]:
    return {
        "offset_seconds": round(curve.best_offset_seconds, 4),
        "confidence": round(curve.confidence, 4),
        "is_at_edge": curve.is_at_edge,
        "num_instants": curve.num_instants,
        "offsets": [round(value, 4) for value in curve.offset_seconds.tolist()],
        "energy": [round(value, 4) for value in curve.energy.tolist()],
    }
