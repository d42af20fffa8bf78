"""Find the images and recordings of a package: a folder of Tux Paint stamps, or the resource files of GCompris."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from avssl.synthetic.stamps.qt_resources import read_resources

DEBIAN_FOLDERS = ("/usr/share/tuxpaint/stamps", "/usr/share/gcompris-qt")
"""Folders in which Debian and its relatives install the packages."""
ADVICE = (
    "Install the packages: apt-get install tuxpaint-stamps-default gcompris-qt-data. Without rights, unpack them "
    "(apt-get download NAME; dpkg-deb -x NAME*.deb DIR) and name their folders: --stamps DIR/usr/share/tuxpaint/stamps "
    "DIR/usr/share/gcompris-qt"
)

_IMAGES = frozenset({".jpeg", ".jpg", ".png", ".webp"})
_SOUNDS = frozenset({".ogg", ".wav"})

_DRAWN = frozenset({"body_parts", "cartoon", "clothes", "flags", "roadsigns", "seasonal", "symbols", "toys"})
"""Folders of stamps that are drawings."""
_OBJECTS = (
    "categorization/images/fishes/",
    "categorization/images/others/",
    "categorization/images/tools/",
    "erase/",
    "explore_farm_animals/animals/",
    "explore_world_animals/animals/",
)
"""Folders of GCompris with photographs of one object; those before an even ground can be cut out."""
_BACKDROPS = (
    "categorization/images/monuments/",
    "categorization/images/renewable/",
    "clickgame/sea",
    "explore_monuments/",
)
"""Folders of GCompris with photographs of places."""


@dataclass(frozen=True)
class PackageFile:
    """An image or a sound of a package."""

    name: str
    """Name in the manifest, such as ``tuxpaint/animals/birds/duck.png``."""
    path: Path
    """File that holds it."""
    role: Literal["object", "backdrop", "sound"]

    @property
    def stem(self) -> str:
        """Name of the file without its extension."""
        return Path(self.name).stem


def find_files(folder: Path, scratch: Path, left_out: Counter[str]) -> list[PackageFile]:
    """Find the images and recordings of a package, in a reproducible order.

    Args:
        folder: A folder of stamps, or one with resource files (``rcc/*.rcc``).
        scratch: An empty folder, to which the contents of resource files are written.
        left_out: Counts by reason, to which files that are not used are added.

    Raises:
        InputError: If a resource file is damaged.
    """
    archives = sorted(folder.rglob("*.rcc"))
    found = _unpacked(archives, scratch, left_out) if archives else _stamps(folder, left_out)
    return sorted(found, key=lambda file: file.name)


def _stamps(folder: Path, left_out: Counter[str]) -> Iterator[PackageFile]:
    """Yield the stamps of Tux Paint: images, and the sounds with the name of an image."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    images = {path.with_suffix("") for path in paths if path.suffix.lower() in _IMAGES}
    for path in paths:
        place, suffix = path.relative_to(folder), path.suffix.lower()
        if suffix not in _IMAGES | _SOUNDS | {".svg"}:
            continue  # descriptions and settings
        if suffix in _SOUNDS and "_desc" in path.stem:
            left_out["spoken description"] += 1
        elif not _DRAWN.isdisjoint(place.parts):
            left_out["drawing, or a sound of one"] += 1
        elif suffix == ".svg":
            left_out["SVG stamp"] += 1
        elif path.stem.endswith("_mirror"):
            left_out["mirrored copy"] += 1
        elif suffix in _IMAGES:
            yield PackageFile(f"tuxpaint/{place.as_posix()}", path, "object")
        elif path.with_suffix("") in images:
            yield PackageFile(f"tuxpaint/{place.as_posix()}", path, "sound")
        else:
            left_out["sound without an image"] += 1


def _unpacked(archives: list[Path], scratch: Path, left_out: Counter[str]) -> Iterator[PackageFile]:
    """Write the photographs and sounds of GCompris to ``scratch``; yield them."""
    number = 0
    for archive in archives:
        for name, content in read_resources(archive, lambda name: _role(_short(name)) is not None):
            short = _short(name)
            role = _role(short)
            assert role is not None
            path = scratch / f"{number:06d}{Path(short).suffix.lower()}"
            path.write_bytes(content)
            number += 1
            yield PackageFile(f"gcompris/{short}", path, role)


def _short(name: str) -> str:
    """Return the name of a file in a resource file without the parts that all share."""
    parts = [part for part in name.split("/") if part not in ("gcompris", "src", "activities", "resource", "..", ".")]
    return "/".join(parts)


def _role(short: str) -> Literal["object", "backdrop", "sound"] | None:
    suffix = Path(short).suffix.lower()
    if suffix in _SOUNDS:
        return "sound"
    if suffix not in _IMAGES:
        return None
    if short.startswith(_OBJECTS):
        return "object"
    return "backdrop" if short.startswith(_BACKDROPS) else None
