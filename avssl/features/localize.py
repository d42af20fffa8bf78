"""A video and a model to heat maps, in one call: ``avssl.localize``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from avssl.core.batch import Heatmap
from avssl.core.errors import InputError
from avssl.engine import Precision, choose_device
from avssl.features.familiarity import check_familiarity
from avssl.hub.pretrained import PretrainedModel, demo_weights, from_pretrained
from avssl.localization.heatmap import sliding_heatmaps
from avssl.localization.windows import AudioSource
from avssl.media import ImageReader, MediaLimits, MediaReader, is_image, open_media

_LOGGER = logging.getLogger(__name__)

NoSound = Literal["silence", "noise"]


@dataclass(frozen=True)
class Words:
    """Words to look for in place of audio; the model must have a text tower."""

    text: str
    """Words for something seen or heard, such as ``"the violin"``."""


Audio = Path | str | MediaReader | NoSound | Words | None
"""The audio or words to look for: None for the video's own audio, another file, ``"silence"``, ``"noise"`` or words."""
STRIDE_SECONDS = 0.25
"""Time from one heat map to the next."""


def localize(
    video: Path | str | MediaReader,
    model: PretrainedModel | Path | str | None = None,
    audio: Audio = None,
    *,
    text: str | None = None,
    stride_seconds: float = STRIDE_SECONDS,
    stop_after_seconds: float | None = None,
    limits: MediaLimits | None = None,
    device: str = "auto",
) -> Heatmap:
    """Compute where the audio of a video comes from, as one heat map every ``stride_seconds``.

    Args:
        video: A file with frames, an open reader, or an image, which lasts as long as ``audio``.
        model: A run directory, a release, ``hf-hub:owner/name``, or a model from
            ``from_pretrained(..., crop="full")``; the demo weights by default.
        audio: The audio to look for in place of the video's own: a file (from its start), ``"silence"`` or
            ``"noise"``. A model that uses the audio gives another map.
        text: Words to look for in place of audio, such as ``"the violin"``, if the model has a text tower.
        stride_seconds: Time from one map to the next, > 0.
        stop_after_seconds: Stop this long after the first frame; None goes to the end.
        limits: Limits on files that are opened here.
        device: ``"cpu"``, ``"cuda"`` ...; ``"auto"`` takes a GPU when there is one. Ignored for a loaded model.

    Returns:
        T maps of (h, w) cosines over the whole frame, on the CPU, with their times and confidences, and in
        ``familiarity`` whether the video is like those that the model was trained on. A foreign one is also logged as a
        warning.

    Raises:
        MediaError: If a file cannot be read or lacks the stream that is needed.
        HubError: If there is no model at ``model``, or it has no text tower.
        InputError: If an option is out of range, or both ``audio`` and ``text`` are given.

    Example:
        >>> heatmap = avssl.localize("video.mp4", "runs/first")
        >>> len(heatmap.values) == len(heatmap.at_seconds), bool(heatmap.values.abs().max() <= 1)  # cosines
        (True, True)
        >>> silent = avssl.localize("video.mp4", "runs/first", "silence")
        >>> silent.values.shape == heatmap.values.shape
        True
    """
    if text is not None and audio is not None:
        raise InputError("audio and text are both given: a map shows one of them.")
    (heatmap,) = localize_each(
        video,
        model,
        [audio if text is None else Words(text)],
        stride_seconds=stride_seconds,
        stop_after_seconds=stop_after_seconds,
        limits=limits,
        device=device,
    )
    if heatmap.familiarity is not None and heatmap.familiarity.is_foreign:
        _LOGGER.warning("%s", heatmap.familiarity.line)
    return heatmap


def localize_each(
    video: Path | str | MediaReader,
    model: PretrainedModel | Path | str | None,
    audios: Sequence[Audio],
    *,
    stride_seconds: float = STRIDE_SECONDS,
    stop_after_seconds: float | None = None,
    limits: MediaLimits | None = None,
    device: str = "auto",
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Heatmap]:
    """Compute the heat maps of one video under several audios; its frames are encoded once.

    Other arguments: :func:`localize`.

    Args:
        audios: At least one.
        on_progress: Called with (maps done, maps in all).

    Returns:
        One heat map for each audio. Their ``familiarity`` is that of the video with the first audio.
    """
    pretrained = model if isinstance(model, PretrainedModel) else load_localizer(model, device)
    if pretrained.transform.video_eval.crop != "full":
        raise InputError('model must see the whole frame: load it with from_pretrained(..., crop="full").')
    with ExitStack() as files:
        sounds = [_open_audio(audio, pretrained, limits, files) for audio in audios]
        if isinstance(video, Path | str):
            other = next((sound for sound in sounds if isinstance(sound, MediaReader)), None)
            reader = files.enter_context(open_video(video, other, pretrained.sampling.audio_seconds, limits))
        else:
            reader = video
        heatmaps = sliding_heatmaps(
            reader,
            pretrained.encoder(Precision()),  # float32: bfloat16 would round the colors
            pretrained.sampling,
            sounds,
            stride_seconds=stride_seconds,
            stop_after_seconds=stop_after_seconds,
            on_progress=on_progress,
        )
        first = "silence" if isinstance(sounds[0], Tensor) else sounds[0]  # words: the frames alone are compared
        familiarity = check_familiarity(reader, pretrained, first, stop_after_seconds=stop_after_seconds)
        return [replace(heatmap, familiarity=familiarity) for heatmap in heatmaps]


def load_localizer(path_or_hub_id: Path | str | None, device: str = "auto") -> PretrainedModel:
    """Load a model that sees the whole frame, which the map is drawn over; the demo weights by default."""
    return from_pretrained(path_or_hub_id or demo_weights(), choose_device(device), crop="full")


def open_video(
    video: Path | str, other: MediaReader | None, default_seconds: float, limits: MediaLimits | None = None
) -> MediaReader:
    """Open a video, or an image as a video that lasts as long as the audio of ``other``, or ``default_seconds``."""
    if not is_image(video):
        return open_media(video, limits=limits)
    if other is None or other.info.audio_start_seconds is None or other.info.audio_stop_seconds is None:
        return ImageReader(video, default_seconds, limits=limits)
    return ImageReader(video, other.info.audio_stop_seconds - other.info.audio_start_seconds, limits=limits)


def _open_audio(
    audio: Audio, pretrained: PretrainedModel, limits: MediaLimits | None, files: ExitStack
) -> AudioSource | Tensor:
    if isinstance(audio, Words):
        return pretrained.embed_text([audio.text], "video")[0]
    if audio is None or audio in get_args(NoSound) or not isinstance(audio, Path | str):
        return audio  # type: ignore[return-value]
    return files.enter_context(open_media(audio, limits=limits))
