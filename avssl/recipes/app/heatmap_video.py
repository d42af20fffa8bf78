"""Write one video under its heat map for one audio after another, and collect the numbers.

All maps of a video are drawn on one color scale, that of its own audio. On a scale of its own, silence would glow as
brightly as the true audio.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from avssl.core.batch import Heatmap
from avssl.core.familiarity import Familiarity
from avssl.features.localize import localize_each
from avssl.hub.pretrained import PretrainedModel
from avssl.localization import heatmap_readout, overlay_video
from avssl.localization.drawing.overlay import color_limits
from avssl.localization.windows import AudioSource
from avssl.media import MediaLimits, MediaReader, open_media

ReportProgress = Callable[[float, str], object]
"""Called with the finished share, in [0, 1], and the name of the current step."""


@dataclass(frozen=True)
class AudioChoice:
    """The audio to localize in a video."""

    name: str
    """Shown on the page."""
    source: Path | Literal["own", "silence", "noise"]
    """Another file, the video's own audio track, or synthetic audio."""


OWN = AudioChoice("its own audio", "own")
SILENCE = AudioChoice("silence", "silence")
NOISE = AudioChoice("white noise", "noise")


@dataclass(frozen=True)
class AudioScore:
    """Confidence of the model for one audio in a video."""

    name: str
    """Name of the audio."""
    mean_confidence: float
    """Mean over the maps; the confidence of a map is its highest cosine."""
    peak: dict[str, float]
    """Peak of the most confident map: ``second``, ``x``, ``y`` and ``confidence``."""


@dataclass(frozen=True)
class VideoAnalysis:
    """Results for one video so far."""

    video: Path
    """The file."""
    frame_hw: tuple[int, int]
    """Height and width of a frame in pixels."""
    scores: tuple[AudioScore, ...]
    """One for every audio that was tried, the video's own first."""
    scale: tuple[float, float]
    """Cosines that are drawn without color and in full color."""
    peaks: tuple[dict[str, float], ...] = ()
    """Peak of every map for the latest audio."""
    seconds: float = 0.0
    """Length of the part that was processed, from the start of the video."""
    total_seconds: float = 0.0
    """Length of the video."""
    familiarity: Familiarity | None = None
    """Likeness of the video, with its latest audio, to the training clips of the model."""


def write_heatmap_video(
    pretrained: PretrainedModel,
    video: Path,
    audio: AudioChoice,
    out: Path,
    *,
    previous: VideoAnalysis | None = None,
    max_seconds: float = 60.0,
    report: ReportProgress = lambda share, step: None,
    limits: MediaLimits | None = None,
) -> VideoAnalysis:
    """Write a video under its heat map for one audio, with that audio.

    Args:
        pretrained: A model with ``crop="full"``.
        video: A file with a video stream.
        audio: The audio to localize.
        out: The mp4 file to write.
        previous: Earlier results for the same video. Without them the video's own audio, if it has any, is
            localized first, because it sets the color scale.
        max_seconds: Length of the part to process, from the start of the video.
        report: Called with the progress.
        limits: Limits on the files.

    Returns:
        The results of ``previous`` and the new ones.

    Raises:
        MediaError: If a file cannot be read or lacks the stream that is needed.
    """
    with ExitStack() as files:
        reader = files.enter_context(open_media(video, limits=limits))
        source: AudioSource = None
        if isinstance(audio.source, Path):
            source = files.enter_context(open_media(audio.source, limits=limits))
        elif audio.source != "own":
            source = audio.source

        def heatmap_of(name: str, audio_from: AudioSource) -> Heatmap:
            on_progress = _step_reporter(report, f"localizing {name}")
            return localize_each(
                reader, pretrained, [audio_from], stop_after_seconds=max_seconds, on_progress=on_progress
            )[0]

        if previous is None and source is not None and reader.info.has_audio:
            previous = _first_analysis(reader, heatmap_of(OWN.name, None), OWN.name, video, max_seconds)
        heatmap = heatmap_of(audio.name, source)
        if previous is None:
            analysis = _first_analysis(reader, heatmap, audio.name, video, max_seconds)
        else:
            analysis = _with_score(previous, heatmap, audio.name)
        overlay_video(
            reader,
            heatmap,
            out,
            scale=analysis.scale,
            audio_from=source,
            stop_after_seconds=max_seconds,
            on_progress=_step_reporter(report, "drawing"),
        )
    return analysis


def _step_reporter(report: ReportProgress, step: str) -> Callable[[int, int], None]:
    """Convert counts of one step into calls of ``report``."""

    def report_step(done: int, total: int) -> None:
        report(done / max(total, 1), step)

    return report_step


def _first_analysis(reader: MediaReader, heatmap: Heatmap, name: str, video: Path, max_seconds: float) -> VideoAnalysis:
    info = reader.info
    low, high = color_limits(heatmap)
    total = (info.video_stop_seconds or 0.0) - (info.video_start_seconds or 0.0)
    frame_hw = (info.height or 1, info.width or 1)
    scale = (low, high if high > low else low + 1e-3)  # a constant map is drawn without color
    return _with_score(VideoAnalysis(video, frame_hw, (), scale, (), min(total, max_seconds), total), heatmap, name)


def _with_score(analysis: VideoAnalysis, heatmap: Heatmap, name: str) -> VideoAnalysis:
    """Add the score of one audio, in place of an earlier one of that name."""
    peaks = tuple(heatmap_readout(heatmap, analysis.frame_hw))
    score = AudioScore(name, float(heatmap.confidence.mean()), max(peaks, key=lambda peak: peak["confidence"]))
    scores = {earlier.name: earlier for earlier in analysis.scores} | {name: score}
    return replace(analysis, scores=tuple(scores.values()), peaks=peaks, familiarity=heatmap.familiarity)
