"""Decode media files to tensors with timestamps, and encode tensors to files.

The names below are imported when they are first used, so that :mod:`avssl.media.backends` loads without torch.

Example:
    >>> from avssl.media import open_media
    >>> with open_media("video.mp4") as reader:
    ...     frames = reader.read_frames([0.0, 0.5, 1.0], short_side=32)  # (3, 3, H, W) uint8
    ...     audio = reader.read_audio(0.0, 2.0, sample_rate_hz=24_000)  # (1, 48000) float32
    >>> tuple(frames.shape), tuple(audio.shape)
    ((3, 3, 32, 32), (1, 48000))
"""

from typing import TYPE_CHECKING

from avssl.core.lazy import make_lazy

if TYPE_CHECKING:
    from avssl.media.audio_windows import read_audio_windows as read_audio_windows
    from avssl.media.backends import available_backends as available_backends
    from avssl.media.errors import MediaError as MediaError
    from avssl.media.image_file import is_image as is_image
    from avssl.media.image_file import read_image as read_image
    from avssl.media.image_file import write_image as write_image
    from avssl.media.image_reader import ImageReader as ImageReader
    from avssl.media.info import MediaInfo as MediaInfo
    from avssl.media.limits import MediaLimits as MediaLimits
    from avssl.media.opening import open_media as open_media
    from avssl.media.paired_reader import open_pair as open_pair
    from avssl.media.planes import Planes as Planes
    from avssl.media.prefetching import prefetch as prefetch
    from avssl.media.reader import MediaReader as MediaReader
    from avssl.media.writer import write_video as write_video

make_lazy(__name__)
