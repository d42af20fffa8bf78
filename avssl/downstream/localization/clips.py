"""Frames and audio of instants: windows around them, or a still image and the middle of its audio.

Dimensions: T frames, H and W pixels, S samples.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from avssl.core.manifest import Manifest
from avssl.data.dataset import stream_span
from avssl.data.row_errors import row_errors
from avssl.data.row_files import row_limits
from avssl.data.sampling import SLACK_SECONDS, ClipSampling
from avssl.downstream.localization.instants import Instant
from avssl.localization.windows import DECODED_SHORT_SIDE, AudioWindows, FrameWindows
from avssl.media import MediaError, MediaInfo, is_image, open_media, read_image
from avssl.media.backends import BackendName


class InstantClips:
    """Read frames and audio of instants; each read opens and closes one file.

    A still image is repeated for the whole window. If the annotated image is a file, models of one frame get it; others
    get the video around it, if there is one.

    Args:
        manifest: The rows.
        sampling: The window the model was trained with.
        backend: Reader of media files.
    """

    def __init__(self, manifest: Manifest, sampling: ClipSampling, backend: BackendName = "auto") -> None:
        manifest.require_files("localization at given times")
        self.manifest, self.sampling, self.backend = manifest, sampling, backend

    def frames(self, instant: Instant) -> tuple[Tensor, float]:
        """Read the window of an instant.

        Returns:
            (T, 3, H, W) uint8, and the instant as a position among the frames, 0 for the first.

        Raises:
            MediaError: If the file cannot be read, or has no frame at this time.
        """
        with row_errors(self.manifest.location(instant.row)):
            return self._frames(instant)

    def _frames(self, instant: Instant) -> tuple[Tensor, float]:
        file, count = self.manifest.file(instant.row), self.sampling.num_frames
        has_video = not is_image(file)
        if not has_video or (count == 1 and instant.picture is not None):
            picture = self._still(instant)
            return picture.expand(count, -1, -1, -1), count / 2
        with open_media(file, self.backend, limits=row_limits(self.manifest, instant.row)) as reader:
            at = self._second(instant, reader.info, "video")
            windows = FrameWindows(reader, self.sampling)
            starts = windows.starts(torch.tensor([at], dtype=torch.float64))
            return next(windows.read(starts, batch_size=1))[0], (at - starts.item()) * self.sampling.frames_per_second

    def picture(self, instant: Instant) -> Tensor:
        """Read the (3, H, W) uint8 frame at the instant itself.

        Raises:
            MediaError: As in :meth:`frames`.
        """
        frames, place = self.frames(instant)
        return frames[min(int(place), len(frames) - 1)]

    def sound(self, instant: Instant) -> Tensor:
        """Read the (S,) float32 audio around an instant; silence continues a stream shorter than the window.

        The audio of the row's ``mixed_audio_path`` at the same second is added, as in the mixtures of VGGSound-Duet.

        Raises:
            MediaError: If a file cannot be read, or has no audio at this time.
        """
        with row_errors(self.manifest.location(instant.row)):
            sound = self._sound_of(instant, self.manifest.sound_file(instant.row))
            mixed = self.manifest.value(instant.row, "mixed_audio_path")
            return sound if not mixed else sound + self._sound_of(instant, self.manifest.inside(mixed))

    def _sound_of(self, instant: Instant, file: Path) -> Tensor:
        if is_image(file):
            advice = "Name its audio file in the column audio_path."
            raise MediaError(str(file), "audio", "no_audio", "a still image has no audio.", advice)
        with open_media(file, self.backend, limits=row_limits(self.manifest, instant.row)) as reader:
            instants = torch.tensor([self._second(instant, reader.info, "audio")], dtype=torch.float64)
            sounds = AudioWindows(reader, None)
            return sounds.around(instants, self.sampling.audio_seconds, self.sampling.sample_rate_hz)[0]

    def _still(self, instant: Instant) -> Tensor:
        path = instant.picture or self.manifest.file(instant.row)
        limits = row_limits(self.manifest, instant.row)
        picture = read_image(path, self.sampling.short_side, limits=limits)
        if self.sampling.short_side is None and min(picture.shape[1:]) > DECODED_SHORT_SIDE:
            picture = read_image(path, DECODED_SHORT_SIDE, limits=limits)
        return picture

    def _second(self, instant: Instant, info: MediaInfo, stream: Literal["video", "audio"]) -> float:
        """Return the instant in presentation time; for a still image, the middle of the audio.

        Raises:
            MediaError: If the stream does not cover it.
        """
        spans = {
            "video": (info.video_start_seconds, info.video_stop_seconds),
            "audio": (info.audio_start_seconds, info.audio_stop_seconds),
        }
        start, stop = stream_span(info, stream, *spans[stream])
        begin, end = (self.manifest.value(instant.row, name) for name in ("start_seconds", "stop_seconds"))
        if instant.seconds is None:
            return ((start if begin is None else begin) + (stop if end is None else end)) / 2
        # Instants count from the start of the video stream; both streams of a file share its clock.
        origin = start if info.video_start_seconds is None else info.video_start_seconds
        at = (origin if begin is None else begin) + instant.seconds
        if not start - SLACK_SECONDS <= at <= stop + SLACK_SECONDS:
            found = f"the annotated instant lies outside the stream, which spans {start:.3f} to {stop:.3f} s."
            raise MediaError(info.path, stream, "out_of_range", found, "Get the whole file.", at)
        return min(max(at, start), stop)
