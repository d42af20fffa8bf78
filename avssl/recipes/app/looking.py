"""One video under one sound after another: what the page plays, and its numbers.

All sounds of a video are drawn on one scale of colors, that of its own sound. On a scale of its own, silence would
glow as brightly as the sound itself.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from avssl.core.batch import Heatmap
from avssl.hub.pretrained import Pretrained
from avssl.localization import heatmap_readout, localize, overlay_video
from avssl.localization.drawing.overlay import color_limits
from avssl.localization.windows import SoundSource
from avssl.media import MediaReader, open_media

Report = Callable[[float, str], object]
"""Called with what is going on, after the share of it that is done, in [0, 1]."""


@dataclass(frozen=True)
class ChosenSound:
    """What the video is looked at with."""

    name: str
    """Shown."""
    source: Path | Literal["own", "silence", "noise"]
    """Whose sound."""


OWN = ChosenSound("its own sound", "own")
SILENCE = ChosenSound("silence", "silence")
NOISE = ChosenSound("white noise", "noise")


@dataclass(frozen=True)
class Heard:
    """How sure the model was of one sound in a video."""

    sound: str
    """Its name."""
    mean: float
    """Confidence, averaged over the maps; a map's confidence is its highest cosine."""
    best: dict[str, float]
    """The surest map: ``second``, ``x``, ``y`` and ``confidence``."""


@dataclass(frozen=True)
class Looked:
    """What is known of one video so far."""

    video: Path
    """The file."""
    frame_hw: tuple[int, int]
    """Height and width of its picture in pixels."""
    heard: tuple[Heard, ...]
    """Every sound that was tried, its own first."""
    scale: tuple[float, float]
    """The cosines that are drawn as nothing and as full color."""
    peaks: tuple[dict[str, float], ...] = ()
    """The peak of every map of the latest sound."""
    seconds: float = 0.0
    """How much was looked at."""
    left_out_seconds: float = 0.0
    """How much follows and was not."""


def look(
    pretrained: Pretrained,
    video: Path,
    sound: ChosenSound,
    out: Path,
    *,
    before: Looked | None = None,
    seconds: float = 60.0,
    report: Report = lambda share, words: None,
) -> Looked:
    """Writes the video under the map of a sound, with that sound.

    Args:
        pretrained: With ``crop="full"``.
        video: Any file with a picture.
        sound: What to look for.
        out: The mp4 to write.
        before: What is known of the same video; None at first, when its own sound, if it has one, is looked for too.
        seconds: How much of the video is looked at, from its start.
        report: Hears of the progress.

    Returns:
        ``before``, and what was learned now.

    Raises:
        MediaError: If a file cannot be read or lacks the track that is needed.
    """
    with ExitStack() as files:
        reader = files.enter_context(open_media(video))
        source: SoundSource = None
        if isinstance(sound.source, Path):
            source = files.enter_context(open_media(sound.source))
        elif sound.source != "own":
            source = sound.source
        if before is None and source is not None and reader.info.has_audio:
            own = _heatmap(pretrained, reader, None, seconds, _telling(report, "looking for its own sound"))
            before = _begin(reader, own, OWN.name, video, seconds)
        heatmap = _heatmap(pretrained, reader, source, seconds, _telling(report, f"looking for {sound.name}"))
        looked = before or _begin(reader, heatmap, sound.name, video, seconds)
        looked = _with(looked, heatmap, sound.name)
        overlay_video(
            reader,
            heatmap,
            out,
            scale=looked.scale,
            audio_from=source,
            stop_after_seconds=seconds,
            on_progress=_telling(report, "drawing"),
        )
    return looked


def _telling(report: Report, words: str) -> Callable[[int, int], None]:
    """Progress of one part of the work, in its own numbers."""

    def tell(done: int, total: int) -> None:
        report(done / max(total, 1), words)

    return tell


def _heatmap(
    pretrained: Pretrained,
    reader: MediaReader,
    source: SoundSource,
    seconds: float,
    on_progress: Callable[[int, int], None],
) -> Heatmap:
    return localize(
        reader,
        pretrained.model,
        pretrained.transform,
        pretrained.sampling,
        audio_from=source,
        stop_after_seconds=seconds,
        device=pretrained.device,
        on_progress=on_progress,
    )


def _begin(reader: MediaReader, heatmap: Heatmap, name: str, video: Path, seconds: float) -> Looked:
    """What one map tells of the video itself."""
    info = reader.info
    low, high = color_limits(heatmap)
    length = (info.video_stop_seconds or 0.0) - (info.video_start_seconds or 0.0)
    frame_hw = (info.height or 1, info.width or 1)
    scale = (low, high if high > low else low + 1e-3)  # a map that is flat everywhere is drawn as nothing
    begun = Looked(video, frame_hw, (), scale, (), min(length, seconds), max(0.0, length - seconds))
    return _with(begun, heatmap, name)


def _with(looked: Looked, heatmap: Heatmap, name: str) -> Looked:
    """One more sound, in place of an earlier one of that name."""
    peaks = tuple(heatmap_readout(heatmap, looked.frame_hw))
    heard = Heard(name, float(heatmap.confidence.mean()), max(peaks, key=lambda peak: peak["confidence"]))
    others = {one.sound: one for one in looked.heard}
    return replace(looked, heard=tuple((others | {name: heard}).values()), peaks=peaks)
