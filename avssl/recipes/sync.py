"""``avssl sync VIDEO --checkpoint RUN -o curve.png``: by how much the sound of a video is early or late.

The sound is moved in steps against the picture, and the mean energy (1 less the cosine of the
embeddings) is drawn over the offset. It is lowest where the sound belongs. A model can only find
what it has learned to hear and see: train it on clips with events, such as speech, steps or blows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tqdm import tqdm

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.core.errors import InputError
from avssl.core.whole_file import write_json
from avssl.engine import Precision, choose_device, show_progress
from avssl.hub.pretrained import from_pretrained
from avssl.localization import SyncCurve, draw_sync_curve, sync_curve
from avssl.media import open_media


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`sync`."""
    parser = new_parser("avssl sync", __doc__)
    parser.add_argument("video", help="The file to look at.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("-o", "--out", help="The PNG to write; VIDEO_sync.png here by default.")
    parser.add_argument("--audio", metavar="FILE", help="Take this file's sound instead of the video's own.")
    parser.add_argument("--readout", metavar="FILE", help="Also write the curve as JSON.")
    parser.add_argument("--max_offset", type=float, default=1.0, help="Largest offset either way, in seconds.")
    parser.add_argument("--step", type=float, default=0.1, help="From one offset to the next, in seconds.")
    parser.add_argument("--seconds", type=float, help="Only this much of the video, from its start.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    sync(
        options.video,
        options.checkpoint,
        options.out,
        audio=options.audio,
        readout=options.readout,
        max_offset=options.max_offset,
        step=options.step,
        seconds=options.seconds,
        device=options.device,
    )
    return 0


def sync(
    video: Path | str,
    checkpoint: Path | str,
    out: Path | str | None = None,
    *,
    audio: Path | str | None = None,
    readout: Path | str | None = None,
    max_offset: float = 1.0,
    step: float = 0.1,
    seconds: float | None = None,
    device: str = "auto",
) -> SyncCurve:
    """Draws the curve and prints the offset of the lowest energy with its confidence.

    Args:
        video: The file to look at.
        checkpoint: As for :func:`avssl.hub.pretrained.from_pretrained`.
        out: The PNG to write; ``<name>_sync.png`` in the working folder by default.
        audio: A file whose sound is taken instead of the video's own, from its start.
        readout: A JSON file for the curve.
        max_offset: Largest offset either way, in seconds, >= ``step``.
        step: From one offset to the next, in seconds, > 0.
        seconds: Only this much of the video, from its start; all of it by default.
        device: Where the model runs.

    Raises:
        MediaError: If a file cannot be read or lacks the track that is needed.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If ``out`` is the video itself, or the video is too short for the offsets.
    """
    out = Path(out) if out else Path(f"{Path(video).stem}_sync.png")
    for source in (video, audio):
        if source is not None and out.resolve() == Path(source).resolve():
            raise InputError(f"{out}: would be overwritten by its own curve. Choose another -o.")
    pretrained = from_pretrained(checkpoint, choose_device(device))
    with ExitStack() as files:
        reader = files.enter_context(open_media(video))
        sound = files.enter_context(open_media(audio)) if audio is not None else None
        bar = files.enter_context(tqdm(desc="sync", unit="window", delay=1.0))
        curve = sync_curve(
            reader,
            pretrained.encoder(Precision()),
            pretrained.sampling,
            max_offset_seconds=max_offset,
            step_seconds=step,
            audio_from=sound,
            stop_after_seconds=seconds,
            on_progress=partial(show_progress, bar),
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
    heard = "in time" if best == 0 else f"{abs(best):.2f} s {'late' if best > 0 else 'early'}"
    edge = " (the edge of the scan: a larger --max_offset may find lower)" if curve.is_at_edge else ""
    return (
        f"the sound is {heard}{edge}: lowest energy at offset {best:+.2f} s, confidence {curve.confidence:.3f}, "
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
