"""Properties of a media file as its container declares them, and the bounds of any header."""

from __future__ import annotations

from dataclasses import dataclass

# No camera or sound card exceeds these: a header that does is wrong, or an attack. Cameras for slow motion record
# 240 to 1200 frames per second, those of laboratories some tens of thousands.
MAX_FPS = 100_000.0
MAX_SAMPLE_RATE_HZ = 768_000
MAX_CHANNELS = 64


@dataclass(frozen=True)
class MediaInfo:
    """Spans, sizes and rates of a file. Fields of a missing stream are None.

    Example:
        >>> write_video("black.mp4", torch.zeros(16, 3, 48, 64, dtype=torch.uint8), video_fps=8.0)
        >>> with open_media("black.mp4") as reader:
        ...     info = reader.info
        >>> info.width, info.height, info.video_fps, info.duration_seconds, info.has_audio
        (64, 48, 8.0, 2.0, False)
    """

    path: str
    """The file, as the caller named it."""
    duration_seconds: float
    """From the earliest start to the latest end of the video and audio streams."""
    video_start_seconds: float | None
    """Presentation time of the first frame."""
    video_stop_seconds: float | None
    """Presentation time at which the last frame ends."""
    video_fps: float | None
    """Average frames per second."""
    width: int | None
    """Width in square pixels, upright."""
    height: int | None
    """Height in square pixels, upright."""
    video_codec: str | None
    """FFmpeg's name, such as ``"h264"``."""
    audio_start_seconds: float | None
    """Presentation time of the first sample, after the encoder's priming."""
    audio_stop_seconds: float | None
    """Presentation time at which the last sample ends."""
    audio_sample_rate_hz: int | None
    """Sample rate of the stream, before resampling."""
    audio_num_channels: int | None
    """Channels of the stream, before mixing."""
    audio_codec: str | None
    """FFmpeg's name, such as ``"aac"``."""
    clock_jumps: tuple[float, ...] = ()
    """Times at which another recording begins, ascending, in a file that holds several behind one another. The clock
    of this reader runs on there; no clip should span one."""
    unread: str = ""
    """Content of the file that readers do not give, as a sentence; empty if there is none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "clock_jumps", tuple(self.clock_jumps))  # a list after JSON

    @property
    def has_video(self) -> bool:
        """True if there is a video stream; cover art does not count."""
        return self.video_start_seconds is not None

    @property
    def has_audio(self) -> bool:
        """True if there is an audio stream."""
        return self.audio_start_seconds is not None
