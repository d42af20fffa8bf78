"""Divide photographs, recordings and backdrops into those of the training and those held out.

What is held out of a class is a whole folder of a package where it has several (so that no second take of a training
recording is among it), otherwise the last third of its files by name; a class with one file is not divided.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from avssl.core.errors import InputError
from avssl.synthetic.stamps.cutouts import Backdrop, Photograph, texture
from avssl.synthetic.stamps.library import StampLibrary
from avssl.synthetic.stamps.recordings import Recording

UNSEEN_SPLITS = ("unseen_photographs", "unseen_recordings", "unseen")
"""Splits whose sounding objects have a photograph, a recording, or both, that no other split shows or plays."""
_EVERY = 5
"""Every fifth silent photograph and every fifth backdrop is held out."""

_Item = TypeVar("_Item", Photograph, Recording)


@dataclass(frozen=True, eq=False)
class Pool:
    """Photographs, recordings and backdrops of the scenes of a split."""

    photographs: Mapping[str, Sequence[Photograph]]
    """Class → photographs, for the classes that can sound."""
    recordings: Mapping[str, Sequence[Recording]]
    """Class → recordings, for the same classes."""
    silent: Mapping[str, Sequence[Photograph]]
    """Class → photographs, for the classes that have no recording."""
    backdrops: Sequence[Backdrop]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Classes that can sound."""
        return tuple(self.photographs)


class Pools:
    """The pool of every split.

    Args:
        library: Photographs, recordings and backdrops to divide.
    """

    def __init__(self, library: StampLibrary) -> None:
        kinds = set(library.sounding_kinds)
        photographs = _by_kind(item for item in library.photographs if item.kind in kinds)
        silent = _by_kind(item for item in library.photographs if item.kind not in kinds)
        recordings = _by_kind(library.recordings)
        held = {kind: tuple(_held_out(items)) for kind, items in photographs.items()}
        held_recordings = {kind: tuple(_held_out(items)) for kind, items in recordings.items()}
        self.unseen_names = frozenset(item.name for items in held.values() for item in items) | frozenset(
            item.name for items in held_recordings.values() for item in items
        )
        """Names of the photographs and recordings of sounding classes that are held out."""
        seen_kinds = {kind: tuple(_rest(items, held[kind])) for kind, items in photographs.items()}
        seen_recordings = {kind: tuple(_rest(items, held_recordings[kind])) for kind, items in recordings.items()}
        silent_seen, silent_held = _every(silent, False), _every(silent, True)
        seen_places = _backdrops(library.backdrops, silent_seen, False)
        held_places = _backdrops(library.backdrops, silent_held, True)
        parts = {
            "": (seen_kinds, seen_recordings, silent_seen, seen_places),
            "unseen_photographs": (held, seen_recordings, silent_held, held_places),
            "unseen_recordings": (seen_kinds, held_recordings, silent_seen, seen_places),
            "unseen": (held, held_recordings, silent_held, held_places),
        }
        self._pools = {name: _pool(*part) for name, part in parts.items()}

    def of(self, split: str) -> Pool:
        """Return the pool of a split: of the training, or the one of :data:`UNSEEN_SPLITS` that it names.

        Raises:
            InputError: If it begins with "unseen" and is none of these.
        """
        if split.startswith("unseen") and split not in self._pools:
            raise InputError(f"split {split!r} must be one of {', '.join(UNSEEN_SPLITS)}, or not begin with 'unseen'.")
        return self._pools.get(split, self._pools[""])

    @property
    def possible_splits(self) -> tuple[str, ...]:
        """The splits of :data:`UNSEEN_SPLITS` for which at least two classes have something held out."""
        return tuple(name for name in UNSEEN_SPLITS if len(self._pools[name].kinds) >= 2)


def _pool(
    photographs: Mapping[str, Sequence[Photograph]],
    recordings: Mapping[str, Sequence[Recording]],
    silent: Mapping[str, Sequence[Photograph]],
    backdrops: Sequence[Backdrop],
) -> Pool:
    kinds = [kind for kind in sorted(photographs) if photographs[kind] and recordings[kind]]
    return Pool(
        {kind: photographs[kind] for kind in kinds}, {kind: recordings[kind] for kind in kinds}, silent, backdrops
    )


def _by_kind(items: Iterable[_Item]) -> dict[str, list[_Item]]:
    found: defaultdict[str, list[_Item]] = defaultdict(list)
    for item in items:
        found[item.kind].append(item)
    return dict(sorted(found.items()))


def _held_out(items: Sequence[_Item]) -> Sequence[_Item]:
    folders = list(dict.fromkeys(item.name.rpartition("/")[0] for item in items))
    if len(folders) > 1:
        return [item for item in items if item.name.rpartition("/")[0] == folders[-1]]
    return items[-max(1, len(items) // 3) :] if len(items) > 1 else ()


def _rest(items: Sequence[_Item], held: Sequence[_Item]) -> list[_Item]:
    names = {item.name for item in held}
    return [item for item in items if item.name not in names]


def _every(silent: Mapping[str, Sequence[Photograph]], is_held_out: bool) -> dict[str, Sequence[Photograph]]:
    """Return every fifth class of the silent ones, or the others."""
    return {kind: items for i, (kind, items) in enumerate(silent.items()) if (i % _EVERY == _EVERY - 1) == is_held_out}


def _backdrops(
    places: Sequence[Backdrop], silent: Mapping[str, Sequence[Photograph]], is_held_out: bool
) -> list[Backdrop]:
    """Return every fifth place or the others, and the materials of silent photographs."""
    chosen = [place for i, place in enumerate(places) if (i % _EVERY == _EVERY - 1) == is_held_out]
    materials = (texture(item) for items in silent.values() for item in items)
    return [*chosen, *(material for material in materials if material is not None)]
