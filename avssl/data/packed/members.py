"""Read the media files that lie inside an archive, each by its offset and size in it.

A row's ``path`` is the archive, and ``source_path`` the name of its media file in it, which is only a name: nothing is
extracted. The bytes of a row go into a file in memory, which every decoder opens like another file.
"""

from __future__ import annotations

from avssl.core.manifest import Manifest
from avssl.core.memory_file import MemoryFile
from avssl.data.shards.storage import RangeReader
from avssl.media import MediaError

MEMBER_COLUMNS = ("member_offset", "member_bytes", "audio_member_offset", "audio_member_bytes")
"""Columns with the place of a row's media in its archive."""

MAX_MEMBER_BYTES = 1 << 30
"""Largest media file that is read out of an archive, as it is held in memory."""


def is_member(manifest: Manifest, row: int) -> bool:
    """Return True if the media of a row lie inside an archive."""
    return manifest.value(row, "member_bytes") is not None


def members_of(manifest: Manifest, row: int) -> list[tuple[int, int]]:
    """Return offset and size of the media file of a row, and of the file with its audio if that is another one."""
    cells = [manifest.value(row, name) for name in MEMBER_COLUMNS]
    pairs = ((cells[0] or 0, cells[1]), (cells[2] or 0, cells[3]))
    return [(int(offset), int(size)) for offset, size in pairs if size is not None]


def read_members(manifest: Manifest, row: int, ranges: RangeReader) -> list[MemoryFile]:
    """Return the media files of :func:`members_of` in memory.

    Raises:
        MediaError: If one is larger than :data:`MAX_MEMBER_BYTES`, or reaches beyond the end of the archive.
        StorageError: If the archive cannot be read.
    """
    location = manifest.location(row)
    contents = []
    for offset, size in members_of(manifest, row):
        if size > MAX_MEMBER_BYTES:
            found = f"{size} bytes are over the limit of {MAX_MEMBER_BYTES} for a file inside an archive."
            raise MediaError(manifest.name(row), "container", "too_large", found, "Unpack the archive.")
        content = b"" if offset < 0 or size < 0 else ranges.read(location, offset, size)
        if len(content) != size:
            found = f"the archive holds {len(content)} of its {size} bytes at {offset}: it was cut off or replaced."
            raise MediaError(manifest.name(row), "container", "truncated", found, "Fetch it again.")
        contents.append(content)
    return [MemoryFile(content) for content in contents]
