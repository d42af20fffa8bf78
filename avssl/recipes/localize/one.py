"""Heat maps of one file: compute, draw, and describe them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avssl.core.batch import Heatmap
from avssl.core.errors import ConfigError, InputError
from avssl.core.progress import Bar
from avssl.features.localize import Words, localize_each, open_video
from avssl.hub.pretrained import PretrainedModel
from avssl.localization import Look, overlay_picture, overlay_video
from avssl.localization import readout as describe_maps
from avssl.localization.drawing.scale import Scale, check_heads
from avssl.localization.windows import AudioSource
from avssl.media import MediaLimits, MediaReader, open_media

OWN = "own audio"


@dataclass(frozen=True)
class Request:
    """Sounds or words to look for in a file, and how to draw them, in the words of the verb.

    Raises:
        ConfigError: If settings exclude each other.
    """

    audio: Path | str | None
    text: str | None
    silence: bool
    noise: bool
    side_by_side: bool
    scale: Scale
    look: Look
    stride_seconds: float
    seconds: float | None
    limits: MediaLimits | None

    def __post_init__(self) -> None:
        if not self.side_by_side and (self.audio is not None) + (self.text is not None) + self.silence + self.noise > 1:
            raise ConfigError(
                "--audio, --text, --silence and --noise exclude each other, unless --side-by-side compares them."
            )
        if isinstance(self.scale, tuple) and not self.scale[0] < self.scale[1]:
            lowest, highest = self.scale
            raise ConfigError(f"--scale ({lowest:g} {highest:g}) must rise from the lowest to the highest cosine.")

    @property
    def wants_own_audio(self) -> bool:
        """True if the audio of the file itself is what to look for."""
        return self.audio is None and self.text is None and not (self.silence or self.noise)

    def check(self, pretrained: PretrainedModel) -> None:
        """Raise an error if the model does not have what is requested."""
        if self.look.heads:
            check_heads(pretrained.model.num_heads)
        if self.text is not None:
            pretrained.text_encoder()


def localize_file(
    video: Path | str, out: Path, pretrained: PretrainedModel, request: Request, *, progress: bool = True
) -> tuple[dict[str, Heatmap], dict[str, Any]]:
    """Draw the heat maps of one file.

    Args:
        video: Video or image.
        out: mp4 or png to write.
        pretrained: From :func:`~avssl.features.localize.load_localizer`.
        request: What to look for.
        progress: Show progress bars.

    Returns:
        The maps by the name of their audio, and their numbers.

    Raises:
        MediaError: If a file cannot be read or lacks the stream that is needed.
        HubError: If words are looked for, and the model has no text tower.
    """
    with ExitStack() as files:
        limits = request.limits
        other = None if request.audio is None else files.enter_context(open_media(request.audio, limits=limits))
        reader = files.enter_context(open_video(video, other, pretrained.sampling.audio_seconds, limits))
        sounds = _sounds(reader, other, request)
        maps = _maps(reader, pretrained, sounds, request, progress)
        out.parent.mkdir(parents=True, exist_ok=True)
        _draw(reader, maps, out, request, _heard(reader, next(iter(sounds.values()))), progress)
        numbers = describe_maps(maps, (reader.info.height or 0, reader.info.width or 0), request.scale, request.look)
    familiarity = next(iter(maps.values())).familiarity
    assert familiarity is not None, "localize_each asks"
    about = {"video": str(video), "checkpoint": pretrained.source, "familiarity": familiarity.plain()}
    return maps, {**about, **numbers}


def best_peak(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Return the peak with the highest cosine of the first map: ``second``, ``x``, ``y`` and ``confidence``."""
    found: dict[str, float] = max(numbers["maps"][0]["peaks"], key=lambda peak: peak["confidence"])
    return found


def _sounds(reader: MediaReader, other: MediaReader | None, request: Request) -> dict[str, AudioSource | Words]:
    """Return the audio sources and the words to localize by name; the output has the audio of the first."""
    named: dict[str, AudioSource | Words] = {} if other is None else {Path(other.info.path).name: other}
    if request.text is not None:
        named[f'"{request.text}"'] = Words(request.text)
    if request.silence:
        named["silence"] = "silence"
    if request.noise:
        named["white noise"] = "noise"
    if not request.side_by_side:
        return named or {OWN: None}
    own: dict[str, AudioSource | Words] = {OWN: None} if reader.info.has_audio else {}
    if not own and not other and request.text is None:
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
    request: Request,
    progress: bool,
) -> dict[str, Heatmap]:
    with Bar(desc="localize", unit="map", delay=1.0, show=progress) as bar:
        maps = localize_each(
            reader,
            pretrained,
            list(sounds.values()),
            stride_seconds=request.stride_seconds,
            stop_after_seconds=request.seconds,
            on_progress=bar.move,
        )
    return dict(zip(sounds, maps, strict=True))


def _draw(
    reader: MediaReader,
    maps: Mapping[str, Heatmap],
    out: Path,
    request: Request,
    audio: AudioSource,
    progress: bool,
) -> None:
    drawn = maps if len(maps) > 1 else next(iter(maps.values()))  # one map needs no title
    scale, look, seconds = request.scale, request.look, request.seconds
    if out.suffix.lower() == ".png":
        overlay_picture(reader, drawn, out, scale=scale, look=look, audio_from=audio, stop_after_seconds=seconds)
        return
    with Bar(desc="draw", unit="frame", delay=1.0, show=progress) as bar:
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
