"""Tars of WebDataset: the members ``KEY.mp4``, ``KEY.json``, ``KEY.cls`` ... are one sample.

Only the headers of a tar are read, and the small members with text; media are read when they are decoded. Nothing is
extracted, links are not followed, and no name in a tar is used as a path. A video, or else an image or audio file, is
the media of a sample; an audio file beside a video or an image is its audio. ``KEY.json`` holds an object whose fields
become columns, ``KEY.cls`` and ``KEY.txt`` the label and a text.

Source: https://github.com/webdataset/webdataset.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any, BinaryIO, cast

from avssl.core.data_files import parse_json
from avssl.core.manifest import is_url
from avssl.core.names import name_to_text
from avssl.core.progress import Bar
from avssl.core.user_files import FileError, open_regular
from avssl.data.media_files import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS, MEDIA_EXTENSIONS
from avssl.data.packed.patterns import find_files, root_of
from avssl.data.packed.samples import PackedRows, Samples, sample_cells

MAX_TEXT_BYTES = 1 << 20
"""Largest member with text that is read."""
_MAX_HEADER_BYTES = 1 << 24  # of long names and such, which tarfile reads whole
_THREADS = 8  # reading headers waits for the disk or the network
_TEXTS = (".json", ".cls", ".txt")

_Members = dict[str, tarfile.TarInfo]
"""Ending of a member, from the first dot of its name on → member."""


def read_tars(pattern: str, *, progress: bool = False) -> PackedRows:
    """List the samples of tars.

    Args:
        pattern: Paths, or URLs of an object store, with braces and ``*``; see
            :func:`~avssl.data.packed.patterns.find_files`.
        progress: Show a progress bar.

    Returns:
        A row for each sample with media. Tars that cannot be read to their end, and samples whose text cannot be read
        or whose media are ambiguous, are failures.

    Raises:
        ManifestError: If no file matches, or no sample has media.
    """
    root = root_of(pattern)
    tars = find_files(pattern)
    samples = Samples(root)
    with (
        ThreadPoolExecutor(_THREADS) as pool,
        Bar(total=len(tars), desc="tars", unit="tar", delay=1.0, show=progress) as bar,
    ):
        for found in pool.map(lambda tar: _read_tar(root, tar), tars):
            samples.extend(found)
            bar.update()
    return samples.finish()


def _read_tar(root: str, tar: str) -> Samples:
    samples = Samples(root)
    path = name_to_text(tar if root == "." else tar.removeprefix(root).lstrip("/"))
    groups: dict[str, _Members] = {}
    repeated: set[str] = set()
    try:
        with _opened(tar) as file, tarfile.open(fileobj=cast(BinaryIO, _Bounded(file)), mode="r:") as archive:
            try:
                for member in archive:
                    key, ending = split_name(member.name)
                    group = groups.setdefault(key, {})
                    repeated |= {key} if ending in group and not member.isdir() else set()
                    group[ending] = member
            except (tarfile.TarError, OSError, ValueError, EOFError) as error:
                found = f"cannot be read to its end ({error}); {len(groups)} samples before are used."
                samples.fail(path, path, "truncated", found, "Fetch it again.")
            size = file.seek(0, 2)
            for key, members in groups.items():
                if key in repeated:
                    name = f"{path}/{name_to_text(key)}"
                    samples.fail(
                        name, path, "unreadable", "a member of this name stands twice.", "Give it another key."
                    )
                    continue
                _add_sample(samples, path, key, members, size, lambda member: _text_of(file, member))
    except Exception as error:  # drivers of object stores raise their own kinds
        advice = "WebDataset tars that are compressed must be unpacked to .tar, as others cannot be read in any order."
        samples.fail(path, path, "unreadable", f"is no tar that can be read ({error}).", advice)
    return samples


def _add_sample(
    samples: Samples, path: str, key: str, members: _Members, size: int, read: Callable[[tarfile.TarInfo], bytes]
) -> None:
    """Add the row of a sample, or why it has none; members that are neither media nor text are no sample."""
    name = f"{path}/{name_to_text(key)}"
    try:
        chosen = _media_of(members, size)
        cells = _cells(members, read) if chosen else {}
    except (ValueError, RecursionError, OSError) as error:
        samples.fail(name, path, "unreadable", f"{error}.", "Correct the sample, or leave it out.")
        return
    if chosen:
        places = [(members[ending].offset_data, members[ending].size) for ending in chosen]
        audio = places[1] if len(places) > 1 else None
        samples.add(f"{name}{name_to_text(chosen[0])}", path, places[0], audio, **cells)
    elif any(ending in _TEXTS for ending in members):
        endings = ", ".join(sorted(members))
        samples.fail(name, path, "not_media", f"no video or audio among its members ({endings}).", "Leave it out.")


def _media_of(members: _Members, size: int) -> list[str]:
    """Return the ending of a sample's media file, and that of the file with its audio if it is another one.

    Raises:
        ValueError: If they are ambiguous, no files, or beyond the end of the tar.
    """
    kinds: dict[str, list[str]] = {}
    for ending, member in members.items():
        if kind := _kind(ending):
            kinds.setdefault(kind, []).append(ending)
            if not member.isreg() or member.issparse():
                raise ValueError(f"its {ending} is a link or a sparse file")
            if member.offset_data + member.size > size:
                raise ValueError(f"its {ending} reaches beyond the end of the tar, which was cut off")
    shown = next((kinds[kind] for kind in ("video", "image", "audio") if kind in kinds), [])
    heard = kinds.get("audio", []) if shown is not kinds.get("audio") else []
    if len(shown) > 1 or len(heard) > 1:
        raise ValueError(f"it has several media files ({', '.join(sorted([*shown, *heard]))})")
    return [*shown, *heard]


def split_name(name: str) -> tuple[str, str]:
    """Return key and ending of a member: the ending begins at the first dot of its last part."""
    folder, slash, last = name.rpartition("/")
    start = last.find(".", 1)
    return (name, "") if start < 0 else (f"{folder}{slash}{last[:start]}", last[start:].lower())


def _kind(ending: str) -> str | None:
    suffix = PurePosixPath(f"x{ending}").suffix
    kinds = (("video", MEDIA_EXTENSIONS), ("image", IMAGE_EXTENSIONS), ("audio", AUDIO_EXTENSIONS))
    return next((kind for kind, extensions in kinds if suffix in extensions), None)


def _cells(members: _Members, read: Callable[[tarfile.TarInfo], bytes]) -> dict[str, Any]:
    """Return the cells of the members with text.

    Raises:
        ValueError: If one is not such a text.
    """
    texts = {ending: read(members[ending]).decode() for ending in _TEXTS if ending in members}
    about = parse_json(texts[".json"]) if ".json" in texts else {}
    if not isinstance(about, Mapping):
        raise ValueError(f"{type(about).__name__} in .json, where an object is expected")
    cells = sample_cells(about)
    if label := texts.get(".cls", "").strip():
        cells |= {"label": cells.get("label", label)}
    if text := texts.get(".txt", "").strip():
        cells |= {"text": cells.get("text", text)}
    return cells


def _text_of(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    if not member.isreg() or member.size > MAX_TEXT_BYTES:
        raise ValueError(f"{member.name} is no file of at most {MAX_TEXT_BYTES} bytes")
    file.seek(member.offset_data)
    return file.read(member.size)


@contextmanager
def _opened(tar: str) -> Iterator[BinaryIO]:
    if tar.startswith("pipe:"):
        raise FileError("programs are not run: name files or URLs")
    if not is_url(tar):
        with open_regular(tar) as file:
            yield file
        return
    import fsspec

    system, name = fsspec.core.url_to_fs(tar)
    with system.open(name, "rb", block_size=1 << 16) as file:  # media between the headers are not fetched
        yield file


class _Bounded:
    """A file of which no more than a header is read at once, whatever its headers declare."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes, at most {_MAX_HEADER_BYTES} are read")
        return self._file.read(size)
