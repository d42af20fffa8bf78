"""The verb ``localize``: a video with a heat map of its sound source."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from avssl.core.batch import Heatmap
from avssl.core.claimed_verb import writes_files
from avssl.core.errors import ConfigError, InputError
from avssl.core.progress import Bar
from avssl.core.ranges import Seconds, Step, checked
from avssl.core.whole_file import write_json
from avssl.features.localize import STRIDE_SECONDS, Words, load_localizer, localize_each, open_video
from avssl.hub.pretrained import DEMO_NOTE, PretrainedModel
from avssl.localization import Look, overlay_picture, overlay_video
from avssl.localization import readout as describe_maps
from avssl.localization.drawing.scale import Scale, check_heads
from avssl.localization.windows import AudioSource
from avssl.media import MediaLimits, MediaReader, is_image, open_media

OWN = "own audio"


FIRST = (
    "checkpoint",
    "out",
    "overwrite",
    "audio",
    "text",
    "silence",
    "noise",
    "side_by_side",
    "boxes",
    "scale",
    "readout",
    "seconds",
    "device",
)


def _outputs(given: Mapping[str, Any]) -> list[Path | str | None]:
    return [_output(given["video"], given["out"]), given["readout"]]


@checked
@writes_files(_outputs, reads=("video", "audio", "checkpoint"))
def localize(
    video: Path | str,
    *,
    checkpoint: Path | str | None = None,
    out: Path | str | None = None,
    audio: Path | str | None = None,
    text: str | None = None,
    silence: bool = False,
    noise: bool = False,
    side_by_side: bool = False,
    scale: Scale = "video",
    look: Look = Look(),  # noqa: B008  (frozen)
    readout: Path | str | None = None,
    overwrite: bool = False,
    stride_seconds: Step = STRIDE_SECONDS,
    seconds: Seconds | None = None,
    limits: MediaLimits | None = None,
    device: str = "auto",
) -> dict[str, Heatmap]:
    """Show where in a video its audio comes from, as a heat map over the video.

    With ``--audio OTHER`` it shows where another file's audio would come from. ``--silence`` and ``--noise`` show the
    map when there is nothing to find, and ``--side-by-side`` shows them beside the video's own audio. Still images
    work too: ``avssl localize image.jpg --audio sound.wav -o out.png``. A model with a text tower also finds what
    words say: ``--text "the violin"``.

    A video unlike the clips that the model was trained on gets a warning, in print and above its map.

    Args:
        video: Video or image file. An image lasts as long as ``--audio``.
        checkpoint: A run directory, its weights folder, or hf-hub:OWNER/NAME; default: the demo weights, which were
            trained on SoundingShapes only.
        out: mp4 to write, or png of the time with the highest cosine; default: VIDEO_heatmap.mp4 (of an image: png)
            in the working folder.
        audio: File whose audio is used instead of the video's own.
        text: Words to look for instead of audio, such as "the violin".
        silence: Use silence as the audio.
        noise: Use white noise as the audio.
        side_by_side: Show the video's own audio beside each of the above (silence, if none), on one color scale. The
            output has the audio of the first.
        scale: Range of the colors: "video" (from the median to the highest cosine of the whole video), "absolute"
            (cosines 0 to 1), or the lowest and the highest cosine, such as 0.1 0.6.
        look: Colors and decorations.
        readout: JSON file to write peaks and boxes over time to.
        overwrite: Replace a file that another command or program made.
        stride_seconds: Time from one map to the next, > 0.
        seconds: Use only this much of the video, from its start; default: all.
        limits: Limits on the files.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.

    Returns:
        The maps by the name of their audio, or by the words.

    Raises:
        ConfigError: If options exclude each other.
        MediaError: If a file cannot be read or lacks the stream that is needed.
        HubError: If there is no model at ``checkpoint``, or it has no text tower.
        OutputError: If another command or program made an output, it is a source, or another process writes it.
        ValueError: If an option is out of range, or ``out`` is neither mp4 nor png.
    """
    if not side_by_side and (audio is not None) + (text is not None) + silence + noise > 1:
        raise ConfigError(
            "--audio, --text, --silence and --noise exclude each other, unless --side-by-side compares them."
        )
    if isinstance(scale, tuple) and not scale[0] < scale[1]:
        raise ConfigError(f"--scale ({scale[0]:g} {scale[1]:g}) must rise from the lowest to the highest cosine.")
    out = _output(video, out)
    pretrained = load_localizer(checkpoint, device)
    if checkpoint is None:
        print(f"model: {DEMO_NOTE}")
    if look.heads:
        check_heads(pretrained.model.num_heads)
    with ExitStack() as files:
        other = None if audio is None else files.enter_context(open_media(audio, limits=limits))
        reader = files.enter_context(open_video(video, other, pretrained.sampling.audio_seconds, limits))
        sounds = _sounds(reader, other, text, silence, noise, side_by_side)
        maps = _maps(reader, pretrained, sounds, stride_seconds, seconds)
        out.parent.mkdir(parents=True, exist_ok=True)
        _draw(reader, maps, out, scale, look, _heard(reader, next(iter(sounds.values()))), seconds)
        numbers = describe_maps(maps, (reader.info.height or 0, reader.info.width or 0), scale, look)
    familiarity = next(iter(maps.values())).familiarity
    assert familiarity is not None, "localize_each asks"
    if readout is not None:
        write_json(
            readout,
            {"video": str(video), "checkpoint": pretrained.source, "familiarity": familiarity.plain(), **numbers},
        )
        print(f"numbers: {readout}")
    best = max(numbers["maps"][0]["peaks"], key=lambda peak: peak["confidence"])
    place = f"{best['second']:.2f} s, x {best['x']:.0f}, y {best['y']:.0f}"
    print(f"highest cosine {best['confidence']:.2f} at {place}")
    print(familiarity.line)
    print(f"{'image' if out.suffix == '.png' else 'video'}: {out}")
    return maps


def _output(video: Path | str, out: Path | str | None) -> Path:
    """Return the file to write after checking it."""
    path = Path(out) if out else Path(f"{Path(video).stem}_heatmap.{'png' if is_image(video) else 'mp4'}")
    if path.suffix.lower() not in (".mp4", ".png"):
        raise InputError(f"{path}: a heat map is written as a video (.mp4) or as one image (.png). Choose another -o.")
    return path


def _sounds(
    reader: MediaReader, other: MediaReader | None, text: str | None, silence: bool, noise: bool, side_by_side: bool
) -> dict[str, AudioSource | Words]:
    """Return the audio sources and the words to localize by name; the output has the audio of the first."""
    named: dict[str, AudioSource | Words] = {} if other is None else {Path(other.info.path).name: other}
    if text is not None:
        named[f'"{text}"'] = Words(text)
    if silence:
        named["silence"] = "silence"
    if noise:
        named["white noise"] = "noise"
    if not side_by_side:
        return named or {OWN: None}
    own: dict[str, AudioSource | Words] = {OWN: None} if reader.info.has_audio else {}
    if not own and not other and text is None:
        raise InputError(
            f"{reader.info.path}: has no audio to compare with silence or noise. Name a file with audio: --audio FILE."
        )
    if len(own | named) < 2:
        named["silence"] = "silence"
    return own | named


def _heard(reader: MediaReader, source: AudioSource | Words) -> AudioSource:
    """Return the audio of the output: that of the map, and for words the video's own."""
    if not isinstance(source, Words):
        return source
    return None if reader.info.has_audio else "silence"


def _maps(
    reader: MediaReader,
    pretrained: PretrainedModel,
    sounds: Mapping[str, AudioSource | Words],
    stride_seconds: Step,
    seconds: Seconds | None,
) -> dict[str, Heatmap]:
    with Bar(desc="localize", unit="map", delay=1.0) as bar:
        maps = localize_each(
            reader,
            pretrained,
            list(sounds.values()),
            stride_seconds=stride_seconds,
            stop_after_seconds=seconds,
            on_progress=bar.move,
        )
    return dict(zip(sounds, maps, strict=True))


def _draw(
    reader: MediaReader,
    maps: Mapping[str, Heatmap],
    out: Path,
    scale: Scale,
    look: Look,
    audio: AudioSource,
    seconds: Seconds | None,
) -> None:
    drawn = maps if len(maps) > 1 else next(iter(maps.values()))  # one map needs no title
    if out.suffix.lower() == ".png":
        overlay_picture(reader, drawn, out, scale=scale, look=look, audio_from=audio, stop_after_seconds=seconds)
        return
    with Bar(desc="draw", unit="frame", delay=1.0) as bar:
        overlay_video(
            reader,
            drawn,
            out,
            scale=scale,
            look=look,
            audio_from=audio,
            stop_after_seconds=seconds,
            on_progress=bar.move,
        )
