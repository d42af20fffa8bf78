"""Find the files of a clip by the name that an annotation file gives it.

Downloaders name the same clip in several ways, and keep it in one of three layouts: a video; an image and an audio
file of the same name, such as ``frames/ID.jpg`` and ``audio/ID.wav``; or audio alone. :meth:`ClipFiles.named` finds
official file names in any folder and with any extension; :meth:`ClipFiles.segment` finds segments of YouTube videos
whatever the form of their name (:data:`~avssl.data.official.clip_names.SEGMENT_FORMS`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Literal

from avssl.core.manifest import ManifestError
from avssl.core.names import name_to_text
from avssl.data.media_files import AUDIO_EXTENSIONS, IMAGE_EXTENSIONS, MEDIA_EXTENSIONS, list_folder, walk_media
from avssl.data.official.clip_names import CLIP_EXTENSIONS, SEGMENT, stem

Kind = Literal["video", "image", "audio"]

_EXTENSIONS: Mapping[Kind, Collection[str]] = {
    "video": MEDIA_EXTENSIONS,
    "image": IMAGE_EXTENSIONS,
    "audio": AUDIO_EXTENSIONS,
}
_KINDS: dict[str, Kind] = {extension: kind for kind, extensions in _EXTENSIONS.items() for extension in extensions}


@dataclass(frozen=True, slots=True)
class Match:
    """The files of a clip, or why there are none."""

    path: str | None
    """Relative to the root: a video, an image with an ``audio_path``, or an audio file."""
    looked_for: str
    """A name the file could have."""
    reason: str = "not found"
    """Reason why there is no file."""
    whole: bool = False
    """True if the name does not tell a segment: a clip that was cut out, or a whole video."""
    audio_path: str | None = None
    """The audio of an image, relative to the root."""


class ClipFiles:
    """The media files under a folder.

    Args:
        root: The folder.
        extensions: Extensions of the files, in lower case, with their dot.
        visible: True if a clip needs a video or an image; then audio alone is no match.
        masks: True if files in folders of masks count, which have the names of their frames; default: only if these
            are not looked for together with audio.

    Raises:
        ManifestError: If there is no such folder.
    """

    def __init__(
        self,
        root: Path,
        extensions: Collection[str] = CLIP_EXTENSIONS,
        *,
        visible: bool = False,
        masks: bool | None = None,
    ) -> None:
        if not root.is_dir():
            raise ManifestError(f"{root}: no such folder.")
        self.root, self.visible, self._extensions = root, visible, frozenset(extensions)
        self._has_pairs = bool(self._extensions & IMAGE_EXTENSIONS and self._extensions & AUDIO_EXTENSIONS)
        self._masks = not self._has_pairs if masks is None else masks
        paths = (name_to_text(path.as_posix()) for path in walk_media(root, extensions))
        # Replacements of corrupt files, as Kinetics-400 offers, come first; then by name.
        order = sorted((not _is_replacement(path), path) for path in paths)
        self.paths = dict.fromkeys(path for _, path in order)
        """Paths relative to the root, in the order of preference, as an ordered set."""

    def part(self, extensions: Collection[str], *, masks: bool) -> ClipFiles:
        """Return those of the files with some extensions, in folders of masks or in others, without another search."""
        part = copy(self)
        for cached in ("_by_stem", "_by_video"):
            part.__dict__.pop(cached, None)
        part._extensions, part._has_pairs, part._masks, part.visible = frozenset(extensions), False, True, False
        part.paths = dict.fromkeys(
            path
            for path in self.paths
            if PurePosixPath(path).suffix.lower() in part._extensions and _is_mask(path) == masks
        )
        return part

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        by_stem = defaultdict(list)
        for path in self.paths:
            by_stem[PurePosixPath(path).stem].append(path)
        return by_stem

    @cached_property
    def _by_video(self) -> dict[str, list[tuple[str | None, str]]]:
        """YouTube id → (start as written in the name, or None; path)."""
        by_video = defaultdict(list)
        for path in self.paths:
            if parts := SEGMENT.fullmatch(PurePosixPath(path).stem):
                by_video[parts["id"]].append((parts["start"], path))
        return by_video

    @property
    def video_ids(self) -> Collection[str]:
        """YouTube ids of which there is any file."""
        return self._by_video.keys()

    def exact(self, path: str) -> Match:
        """Find a path relative to the root."""
        return Match(path if path in self.paths else None, path)

    def named(self, name: str, *, same_folder: bool = False) -> Match:
        """Find a file name, with or without extension and folders: ``Archery/v_Archery_g01_c01.avi``.

        Its folder decides between files of the same name (spaces and underscores count as
        equal), and must match with ``same_folder``.
        """
        folder = _folder_name(PurePosixPath(name))
        chosen: dict[Kind, tuple[str, bool]] = {}
        ambiguous = ""
        for kind, found in self._by_kind(self._by_stem.get(stem(name), [])).items():
            alike = [path for path in found if _folder_name(PurePosixPath(path)) == folder] if folder else found
            if alike:
                chosen[kind] = alike[0], False
            elif len(found) == 1 and not same_folder:
                chosen[kind] = found[0], False
            elif not same_folder:
                ambiguous = f"{len(found)} files have this name, none of them in a folder {folder!r}"
        return self._match(chosen, name, ambiguous or "not found")

    def segment(self, video_id: str, start_seconds: float) -> Match:
        """Find the segment of a YouTube video that starts at a second."""
        looked_for = f"{video_id}_{int(start_seconds):06d}.mp4"
        found = self._by_video.get(video_id, [])
        exact = self._by_kind(path for start, path in found if start is not None and _is_start(start, start_seconds))
        whole = self._by_kind(path for start, path in found if start is None)
        chosen = {kind: (paths[0], True) for kind, paths in whole.items()}
        chosen |= {kind: (paths[0], False) for kind, paths in exact.items()}
        reason = f"only another second of this video: {found[0][1]}" if found else "not found"
        return self._match(chosen, looked_for, reason)

    def describe(self) -> str:
        """Return in words which files are looked for, and what is there."""
        kinds = [kind for kind, extensions in _EXTENSIONS.items() if self._extensions & set(extensions)]
        shown = {kind: ", ".join(sorted(self._extensions & set(_EXTENSIONS[kind]))) for kind in kinds}
        layouts = [f"a video ({shown['video']})"] if "video" in shown else []
        if "image" in shown and "audio" in shown:
            layouts.append(
                f"an image ({shown['image']}) and an audio file ({shown['audio']}) of one name, such as "
                "frames/NAME.jpg and audio/NAME.wav"
            )
        if "audio" in shown and not self.visible:
            layouts.append("an audio file alone" if layouts else f"an audio file ({shown['audio']})")
        if self.paths:
            there = f"{len(self.paths)} such files are there, the first is {next(iter(self.paths))}"
        else:
            others = ", ".join(
                f"{count} x {ending}" for ending, count in islice(list_folder(self.root, ()).others.items(), 5)
            )
            there = f"no such file is there (of others: {others or 'none'})"
        return f"A clip is {', or '.join(layouts)}, in any folder; {there}."

    def _by_kind(self, paths: Iterable[str]) -> dict[Kind, list[str]]:
        kinds: dict[Kind, list[str]] = {}
        for path in paths:
            if self._masks or not _is_mask(path):
                kinds.setdefault(kind_of(path), []).append(path)
        return kinds

    def _match(self, chosen: Mapping[Kind, tuple[str, bool]], looked_for: str, reason: str) -> Match:
        """Return the best layout of the files of a clip, each with whether it may be a whole video."""
        if "video" in chosen:
            path, whole = chosen["video"]
            return Match(path, looked_for, whole=whole)
        if "image" in chosen and "audio" in chosen:
            (path, _), (audio, whole) = chosen["image"], chosen["audio"]
            return Match(path, looked_for, whole=whole, audio_path=audio)
        if "image" in chosen and self._has_pairs:
            audio_name = PurePosixPath(looked_for).with_suffix(".wav").name
            return Match(None, audio_name, "only its image exists")
        if "image" in chosen:
            return Match(chosen["image"][0], looked_for)
        if "audio" in chosen and not self.visible:
            path, whole = chosen["audio"]
            return Match(path, looked_for, whole=whole)
        return Match(None, looked_for, "only its audio exists" if "audio" in chosen else reason)


def kind_of(path: str) -> Kind:
    """Return the kind of a file by its extension."""
    return _KINDS.get(PurePosixPath(path).suffix.lower(), "video")


def _is_mask(path: str) -> bool:
    """Return True for a file in a folder of masks, which have the names of their frames."""
    return any("mask" in part.lower() for part in path.split("/")[:-1])


def _is_start(text: str, seconds: float) -> bool:
    """Return True if a name means this second: 30, 000030, 30.000, or 30000 (milliseconds)."""
    value = float(text)
    if value in (seconds, int(seconds)):
        return True
    return text.isdigit() and not text.startswith("0") and value == round(seconds * 1000)


def _folder_name(path: PurePosixPath) -> str:
    return path.parent.name.replace(" ", "_")


def _is_replacement(path: str) -> bool:
    return any(part.startswith("replacement") for part in path.split("/")[:-1])
