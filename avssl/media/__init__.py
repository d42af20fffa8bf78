"""Compressed files to tensors with timestamps, and back.

Example:
    >>> from avssl.media import open_media
    >>> with open_media("clip.mp4") as reader:
    ...     frames = reader.read_frames([0.0, 0.5, 1.0], short_side=128)  # (3, 3, H, W) uint8
    ...     sound = reader.read_audio(0.0, 2.0, sample_rate_hz=24_000)  # (1, 48000) float32
"""

from avssl.media.ahead import ahead as ahead
from avssl.media.picture_file import is_picture as is_picture
from avssl.media.picture_file import read_picture as read_picture
from avssl.media.picture_file import write_picture as write_picture
from avssl.media.planes import Planes as Planes
from avssl.media.reader import MediaError as MediaError
from avssl.media.reader import MediaInfo as MediaInfo
from avssl.media.reader import MediaReader as MediaReader
from avssl.media.reader import available_backends as available_backends
from avssl.media.reader import open_media as open_media
from avssl.media.sounds import read_sounds as read_sounds
from avssl.media.still_reader import StillReader as StillReader
from avssl.media.writer import write_video as write_video
