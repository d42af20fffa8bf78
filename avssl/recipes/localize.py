"""``avssl localize VIDEO --checkpoint RUN -o out.mp4``: where the sound of a video comes from, as a video.

With ``--audio OTHER`` it shows where another file's sound would come from; ``--silence`` and
``--noise`` show what the map looks like when there is nothing to find.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from avssl.batch import Heatmap
from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.engine import choose_device, show_progress
from avssl.hub import from_pretrained
from avssl.localization import heatmap_readout, overlay_video
from avssl.localization import localize as heatmap_of
from avssl.media import MediaReader, open_media


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`localize`."""
    parser = new_parser("avssl localize", __doc__)
    parser.add_argument("video", help="The file to look at.")
    parser.add_argument("--checkpoint", help="A run folder, its weights folder, or a release on the hub.")
    parser.add_argument("-o", "--out", help="The mp4 to write; VIDEO_heatmap.mp4 here by default.")
    parser.add_argument("--audio", metavar="FILE", help="Look for this file's sound instead of the video's own.")
    parser.add_argument("--silence", action="store_true", help="Look for silence.")
    parser.add_argument("--noise", action="store_true", help="Look for white noise.")
    parser.add_argument("--readout", metavar="FILE", help="Also write the peak of every map as JSON.")
    parser.add_argument("--stride_seconds", type=float, default=0.25, help="Time from one map to the next.")
    parser.add_argument("--seconds", type=float, help="Only this much of the video, from its start.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.checkpoint:
        raise ConfigError("--checkpoint is needed: a run folder, its weights folder, or a release on the hub.")
    sounds = [options.audio, "silence" if options.silence else None, "noise" if options.noise else None]
    if sum(sound is not None for sound in sounds) > 1:
        raise ConfigError("--audio, --silence and --noise exclude each other.")
    localize(
        options.video,
        options.checkpoint,
        options.out,
        audio=options.audio,
        instead="silence" if options.silence else "noise" if options.noise else None,
        readout=options.readout,
        stride_seconds=options.stride_seconds,
        seconds=options.seconds,
        device=options.device,
    )
    return 0


def localize(
    video: Path | str,
    checkpoint: Path | str,
    out: Path | str | None = None,
    *,
    audio: Path | str | None = None,
    instead: Literal["silence", "noise"] | None = None,
    readout: Path | str | None = None,
    stride_seconds: float = 0.25,
    seconds: float | None = None,
    device: str = "auto",
) -> Heatmap:
    """Writes the video with its heat map over it and its sound in it.

    Args:
        video: The file to look at.
        checkpoint: As for :func:`avssl.hub.from_pretrained`.
        out: The mp4 to write; ``<name>_heatmap.mp4`` in the working folder by default.
        audio: A file whose sound is looked for instead of the video's own.
        instead: Look for silence or for noise.
        readout: A JSON file for the peak of every map.
        stride_seconds: Time from one map to the next, > 0.
        seconds: Only this much of the video, from its start; all of it by default.
        device: Where the model runs.

    Raises:
        MediaError: If a file cannot be read or lacks the track that is needed.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If ``out`` is the video itself.
    """
    out = Path(out) if out else Path(f"{Path(video).stem}_heatmap.mp4")
    for source in (video, audio):
        if source is not None and out.resolve() == Path(source).resolve():
            raise ValueError(f"{out}: would be overwritten by its own heat map. Choose another -o.")
    # The map lies over the whole frame, so the whole frame goes in.
    pretrained = from_pretrained(checkpoint, choose_device(device), crop="full")
    with ExitStack() as files:
        reader = files.enter_context(open_media(video))
        sound: MediaReader | Literal["silence", "noise"] | None = instead
        if audio is not None:
            sound = files.enter_context(open_media(audio))
        with tqdm(desc="localize", unit="map", delay=1.0) as bar:
            heatmap = heatmap_of(
                reader,
                pretrained.model,
                pretrained.transform,
                pretrained.sampling,
                stride_seconds=stride_seconds,
                audio_from=sound,
                stop_after_seconds=seconds,
                device=pretrained.device,
                on_progress=partial(show_progress, bar),
            )
        out.parent.mkdir(parents=True, exist_ok=True)
        with tqdm(desc="draw", unit="frame", delay=1.0) as bar:
            overlay_video(
                reader,
                heatmap,
                out,
                audio_from=sound,
                stop_after_seconds=seconds,
                on_progress=partial(show_progress, bar),
            )
        peaks = heatmap_readout(heatmap, (reader.info.height or 0, reader.info.width or 0))
    if readout is not None:
        Path(readout).parent.mkdir(parents=True, exist_ok=True)
        Path(readout).write_text(json.dumps({"video": str(video), "peaks": peaks}, indent=1) + "\n", encoding="utf-8")
        print(f"numbers: {readout}")
    best = max(peaks, key=lambda peak: peak["confidence"])
    print(f"surest at {best['second']:.2f} s: x {best['x']:.0f}, y {best['y']:.0f}, cosine {best['confidence']:.2f}")
    print(f"video: {out}")
    return heatmap
