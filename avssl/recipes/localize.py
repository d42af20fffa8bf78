"""``avssl localize VIDEO -o out.mp4``: where the sound of a video comes from, as a video with its sound.

With ``--audio OTHER`` it shows where another file's sound would come from; ``--silence`` and ``--noise`` show what
the map looks like when there is nothing to find, and ``--side_by_side`` shows them beside the video's own sound.
A still picture works too: ``avssl localize picture.jpg --audio sound.wav -o out.png``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tqdm import tqdm

from avssl.config import ConfigError, new_parser, parse_arguments
from avssl.core.batch import Heatmap
from avssl.core.errors import InputError
from avssl.core.whole_file import write_json
from avssl.engine import show_progress
from avssl.features.localize import load_localizer, localize_each, open_video
from avssl.hub.pretrained import Pretrained
from avssl.localization import Look, overlay_picture, overlay_video, readout
from avssl.localization.drawing.scale import Scale, check_heads
from avssl.localization.windows import AudioSource
from avssl.media import MediaReader, is_picture, open_media

OWN = "own sound"


def main(argv: Sequence[str]) -> int:
    """Parses the command line and runs :func:`localize`."""
    parser = new_parser("avssl localize", __doc__)
    parser.add_argument("video", help="The file to look at, a video or a still picture.")
    parser.add_argument(
        "--checkpoint",
        help="A run folder, its weights folder, or a release on the hub; by default the demo weights, which know "
        "SoundingShapes alone.",
    )
    parser.add_argument(
        "-o",
        "--out",
        help="The mp4 to write, or a png of the surest moment; VIDEO_heatmap.mp4 (of a picture: png) here by default.",
    )
    parser.add_argument("--audio", metavar="FILE", help="Look for this file's sound instead of the video's own.")
    parser.add_argument("--silence", action="store_true", help="Look for silence.")
    parser.add_argument("--noise", action="store_true", help="Look for white noise.")
    parser.add_argument(
        "--side_by_side",
        action="store_true",
        help="The video's own sound, and beside it each of the above (silence, if none), on one color scale.",
    )
    parser.add_argument("--heads", action="store_true", help="The map of each of the model's heads in its own color.")
    parser.add_argument(
        "--boxes",
        nargs="?",
        const=0.5,
        type=float,
        metavar="SHARE",
        help="Draw the box around the hot region: what is at or above this share of the color scale (0.5).",
    )
    parser.add_argument(
        "--scale",
        nargs="+",
        default=["video"],
        metavar="SCALE",
        help='What the colors stand for: "video" (from the median to the highest cosine of the whole video), '
        '"absolute" (cosines 0 to 1), or the lowest and the highest cosine.',
    )
    parser.add_argument("--alpha", type=float, default=0.7, help="Opacity of the hottest color, 0 to 1.")
    parser.add_argument("--colormap", default="inferno", help="One of matplotlib's.")
    parser.add_argument("--no_strip", action="store_true", help="Without confidence and waveform under the picture.")
    parser.add_argument("--readout", metavar="FILE", help="Also write peaks (and boxes) over time as JSON.")
    parser.add_argument("--stride_seconds", type=float, default=0.25, help="Time from one map to the next.")
    parser.add_argument("--seconds", type=float, help="Only this much of the video, from its start.")
    parser.add_argument("--device", default="auto", help='"cpu", "cuda" ...; "auto" takes a GPU when there is one.')
    options = parse_arguments(parser, argv)
    if not options.side_by_side and sum(map(bool, (options.audio, options.silence, options.noise))) > 1:
        raise ConfigError("--audio, --silence and --noise exclude each other, unless --side_by_side compares them.")
    localize(
        options.video,
        options.checkpoint,
        options.out,
        audio=options.audio,
        silence=options.silence,
        noise=options.noise,
        side_by_side=options.side_by_side,
        scale=_scale(options.scale),
        look=Look(options.alpha, options.colormap, not options.no_strip, options.boxes, options.heads),
        readout_file=options.readout,
        stride_seconds=options.stride_seconds,
        seconds=options.seconds,
        device=options.device,
    )
    return 0


def localize(
    video: Path | str,
    checkpoint: Path | str | None = None,
    out: Path | str | None = None,
    *,
    audio: Path | str | None = None,
    silence: bool = False,
    noise: bool = False,
    side_by_side: bool = False,
    scale: Scale = "video",
    look: Look = Look(),  # noqa: B008  (frozen)
    readout_file: Path | str | None = None,
    stride_seconds: float = 0.25,
    seconds: float | None = None,
    device: str = "auto",
) -> dict[str, Heatmap]:
    """Writes the video with its heat map over it and its sound in it, or the picture of its surest moment.

    Args:
        video: The file to look at: a video, or a still picture, which lasts as long as ``audio``.
        checkpoint: As for :func:`avssl.hub.pretrained.from_pretrained`; by default the demo weights.
        out: The mp4 or png to write; ``<name>_heatmap.mp4`` (of a still: png) in the working folder by default.
        audio: A file whose sound is looked for instead of the video's own.
        silence: Look for silence.
        noise: Look for white noise.
        side_by_side: Look for the video's own sound and each of the above (silence, if none), beside each other. The
            first is heard.
        scale: What the colors stand for.
        look: How it is drawn.
        readout_file: A JSON file for peaks and boxes over time.
        stride_seconds: Time from one map to the next, > 0.
        seconds: Only this much of the video, from its start; all of it by default.
        device: Where the model runs.

    Returns:
        The maps by the name of their sound.

    Raises:
        MediaError: If a file cannot be read or lacks the track that is needed.
        HubError: If there is no model at ``checkpoint``.
        ValueError: If an option is out of range, or ``out`` is a source or neither mp4 nor png.
    """
    out = _output(video, audio, out)
    pretrained = load_localizer(checkpoint, device)
    if look.heads:
        check_heads(pretrained.model.num_heads)
    with ExitStack() as files:
        other = None if audio is None else files.enter_context(open_media(audio))
        reader = files.enter_context(open_video(video, other, pretrained.sampling.audio_seconds))
        sounds = _sounds(reader, other, silence, noise, side_by_side)
        maps = _maps(reader, pretrained, sounds, stride_seconds, seconds)
        out.parent.mkdir(parents=True, exist_ok=True)
        _draw(reader, maps, out, scale, look, next(iter(sounds.values())), seconds)
        numbers = readout(maps, (reader.info.height or 0, reader.info.width or 0), scale, look)
    if readout_file is not None:
        write_json(readout_file, {"video": str(video), "checkpoint": pretrained.source, **numbers})
        print(f"numbers: {readout_file}")
    best = max(numbers["maps"][0]["peaks"], key=lambda peak: peak["confidence"])
    print(f"surest at {best['second']:.2f} s: x {best['x']:.0f}, y {best['y']:.0f}, cosine {best['confidence']:.2f}")
    print(f"{'picture' if out.suffix == '.png' else 'video'}: {out}")
    return maps


def _scale(words: Sequence[str]) -> Scale:
    if list(words) in (["video"], ["absolute"]):
        return "video" if words[0] == "video" else "absolute"
    try:
        low, high = map(float, words)
    except ValueError:
        low = high = 0.0
    if not low < high:
        given = " ".join(words)
        raise ConfigError(f'--scale ({given}) must be "video", "absolute" or two rising cosines: --scale 0.1 0.6.')
    return low, high


def _output(video: Path | str, audio: Path | str | None, out: Path | str | None) -> Path:
    """The file to write, once it is known that it can be."""
    path = Path(out) if out else Path(f"{Path(video).stem}_heatmap.{'png' if is_picture(video) else 'mp4'}")
    if path.suffix.lower() not in (".mp4", ".png"):
        raise InputError(
            f"{path}: a heat map is written as a video (.mp4) or as one picture (.png). Choose another -o."
        )
    for source in (video, audio):
        if source is not None and path.resolve() == Path(source).resolve():
            raise InputError(f"{path}: would be overwritten by its own heat map. Choose another -o.")
    return path


def _sounds(
    reader: MediaReader, other: MediaReader | None, silence: bool, noise: bool, side_by_side: bool
) -> dict[str, AudioSource]:
    """What is looked for, by name; the first is heard."""
    named: dict[str, AudioSource] = {} if other is None else {Path(other.info.path).name: other}
    if silence:
        named["silence"] = "silence"
    if noise:
        named["white noise"] = "noise"
    if not side_by_side:
        return named or {OWN: None}
    own: dict[str, AudioSource] = {OWN: None} if reader.info.has_audio else {}
    if not own and not other:
        found = "has no sound of its own, so there is nothing to compare with silence or noise."
        raise InputError(f"{reader.info.path} {found} Name a sound: --audio FILE.")
    if len(own | named) < 2:
        named["silence"] = "silence"
    return own | named


def _maps(
    reader: MediaReader,
    pretrained: Pretrained,
    sounds: Mapping[str, AudioSource],
    stride_seconds: float,
    seconds: float | None,
) -> dict[str, Heatmap]:
    with tqdm(desc="localize", unit="map", delay=1.0) as bar:
        maps = localize_each(
            reader,
            pretrained,
            list(sounds.values()),
            stride_seconds=stride_seconds,
            stop_after_seconds=seconds,
            on_progress=partial(show_progress, bar),
        )
    return dict(zip(sounds, maps, strict=True))


def _draw(
    reader: MediaReader,
    maps: Mapping[str, Heatmap],
    out: Path,
    scale: Scale,
    look: Look,
    heard: AudioSource,
    seconds: float | None,
) -> None:
    drawn = maps if len(maps) > 1 else next(iter(maps.values()))  # one map needs no title
    if out.suffix.lower() == ".png":
        overlay_picture(reader, drawn, out, scale=scale, look=look, audio_from=heard, stop_after_seconds=seconds)
        return
    with tqdm(desc="draw", unit="frame", delay=1.0) as bar:
        overlay_video(
            reader,
            drawn,
            out,
            scale=scale,
            look=look,
            audio_from=heard,
            stop_after_seconds=seconds,
            on_progress=partial(show_progress, bar),
        )
