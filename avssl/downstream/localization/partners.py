"""Other clips whose audio each instant is also shown with, drawn once for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avssl.core.draws import epoch_order, text_keys
from avssl.core.manifest import Manifest, ManifestError
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.rows import sources_of


class Partners:
    """Partners in a random ring: each instant borrows the audio of the one before it.

    Only instants with a visible sounding object lend, as silence is a row of its own. Those of the same file, audio or
    pair are skipped.

    Args:
        manifest: The rows.
        instants: All instants.
        seed: Random seed of the order.

    Raises:
        ManifestError: If an instant has no partner.
    """

    def __init__(self, manifest: Manifest, instants: Sequence[Instant], seed: int) -> None:
        self._instants = instants
        keys = text_keys(f"{manifest.value(instant.row, 'id')}/{instant.number}" for instant in instants)
        self._ring = epoch_order(seed, 0, keys).tolist()
        self._place = {number: place for place, number in enumerate(self._ring)}
        self._source = sources_of(manifest, instants)
        self._sound = [manifest.sound_file(instant.row) for instant in instants]
        lenders = {source for source, each in zip(self._source, instants, strict=True) if each.is_positive}
        if len(lenders) < 2:
            raise ManifestError(
                f"{manifest.root}: all {len(instants)} instants are of one clip, so there is no other audio to show it "
                "with. Score at least two clips."
            )

    def of(self, number: int) -> Iterator[Instant]:
        """Yield the possible partners of an instant, nearest first; later ones replace unreadable files."""
        place = self._place[number]
        for step in range(1, len(self._ring)):
            other = self._ring[place - step]
            same = self._source[other] == self._source[number] or self._sound[other] == self._sound[number]
            if self._instants[other].is_positive and not same:
                yield self._instants[other]
