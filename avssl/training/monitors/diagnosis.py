"""Diagnosis of a training from its numbers: what goes wrong, with the likely cause."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

COLLAPSED_SPREAD = 0.01
"""Embeddings with at most this spread have collapsed to a point. Untrained embeddings have a spread between
0.05 and 0.5, because they share a large mean; trained ones come near 1."""
LOW_RANK_SHARE = 0.05
"""Share of the possible dimensions. An effective rank of at most this (and at least 1.5) is a collapse."""
CLOSE_PAIRS = 0.5
"""Pairs with at most this mean squared distance (alignment, in [0, 4]) are close: cosine above 0.75."""
FALLEN_LOSS = 0.1
"""Share of its first value by which the loss must fall to count as learning."""
SMALLEST_GALLERY = 32
"""Clips; recall near chance is not significant in smaller galleries."""
SOUND_AGREEMENT = 0.2
"""Least agreement of maps with their mirror images, above chance, that can be lost later."""
LOST_AGREEMENT = 0.75
"""Share of its highest value so far that the agreement of maps, above chance, must keep."""
TIMES = {"point": 2, "directions": 2, "shortcut": 3, "maps": 2}
"""Consecutive measurements after which a finding is reported."""

_ADVICE = "Lower optim.lr, and check BatchNorm (train.batch_norm, tiny batches), the temperature and the augmentations"


class Diagnosis:
    """Finds problems in the measurements of a run, and reports each once.

    - **point**: the embeddings of a modality are one point (small spread).
    - **directions**: they use only a few directions although pairs are close (low effective rank, good
      alignment), so the loss is low because the differences between clips are lost.
    - **shortcut**: retrieval in the gallery stays at chance while the loss falls, so the model does not learn
      how audio and video are related.
    - **maps**: the peaks of heat maps no longer stay at their place when the frames are mirrored, although they did:
      they no longer lie on the visible objects. Retrieval may not show it.
    """

    def __init__(self) -> None:
        self._first_loss: float | None = None
        self._last_loss: float | None = None
        self._best_agreement = 0.0
        self._times = dict.fromkeys(TIMES, 0)

    def observe(self, record: Mapping[str, float]) -> None:
        """Read the loss of a log."""
        if "loss" in record:
            self._last_loss = record["loss"]
            self._first_loss = record["loss"] if self._first_loss is None else self._first_loss

    def findings(self, numbers: Mapping[str, float], embedding_size: int) -> list[str]:
        """Return the new findings in the numbers of an ``EmbeddingMonitor``, with the likely cause and what to do."""
        checks: dict[str, Callable[[], str | None]] = {
            "point": lambda: _point(numbers),
            "directions": lambda: _directions(numbers, embedding_size),
            "shortcut": lambda: self._shortcut(numbers),
            "maps": lambda: self._maps(numbers),
        }
        new = []
        for name, check in checks.items():
            finding = check()
            self._times[name] = self._times[name] + 1 if finding else min(self._times[name], 0)
            if finding and self._times[name] == TIMES[name]:
                new.append(finding)
                self._times[name] = -(10**9)  # never reported again
        return new

    def _shortcut(self, numbers: Mapping[str, float]) -> str | None:
        if self._first_loss is None or self._last_loss is None or numbers["retrieval/gallery_size"] < SMALLEST_GALLERY:
            return None
        fallen = self._first_loss - self._last_loss > FALLEN_LOSS * abs(self._first_loss)
        chance, found = numbers["retrieval/chance_R@10"], numbers["retrieval/R@10"]
        # At chance, the mean of 2 N trials (both directions) is within two deviations in 97 % of cases.
        deviation = (chance * (1 - chance) / (2 * numbers["retrieval/gallery_size"])) ** 0.5
        if not fallen or found > chance + 2 * deviation:
            return None
        where = "held-out clips" if numbers.get("retrieval/held_out") else "training clips without augmentation"
        return (
            f"retrieval among {where} stays at chance (R@10 {found:.3f}, chance {chance:.3f}) while the loss fell from "
            f"{self._first_loss:.3g} to {self._last_loss:.3g}: a shortcut or faulty pairs. Look for audio that "
            "does not belong to its video, silent tracks, near-duplicates, or overfitting on too few clips."
        )

    def _maps(self, numbers: Mapping[str, float]) -> str | None:
        if "maps/mirror_agreement" not in numbers or numbers["retrieval/gallery_size"] < SMALLEST_GALLERY:
            return None
        agreement, chance = numbers["maps/mirror_agreement"], numbers["maps/chance_agreement"]
        above = agreement - chance
        self._best_agreement = max(self._best_agreement, above)
        if self._best_agreement < SOUND_AGREEMENT or above >= LOST_AGREEMENT * self._best_agreement:
            return None
        return (
            "heat maps no longer lie on the visible objects: mirrored frames give the peak at the same place in "
            f"{agreement:.2f} of the clips (chance {chance:.2f}), after {self._best_agreement:.2f} above chance "
            "before. Retrieval may not show it. Look at the maps (avssl localize), release earlier weights, and train "
            "on more clips or for fewer epochs."
        )

    def state_dict(self) -> dict[str, Any]:
        return {
            "first_loss": self._first_loss,
            "last_loss": self._last_loss,
            "best_agreement": self._best_agreement,
            "times": dict(self._times),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state; one from before maps were looked at knows nothing of them."""
        self._first_loss, self._last_loss = state["first_loss"], state["last_loss"]
        self._best_agreement = state.get("best_agreement", 0.0)
        self._times = dict.fromkeys(TIMES, 0) | state["times"]


def _point(numbers: Mapping[str, float]) -> str | None:
    modality = min(("video", "audio"), key=lambda name: numbers[f"spread/{name}"])
    spread = numbers[f"spread/{modality}"]
    if spread > COLLAPSED_SPREAD:
        return None
    return (
        f"{modality} embeddings have collapsed to one point: their spread stays at {spread:.1g}. {_ADVICE}, and that "
        "the clips differ."
    )


def _directions(numbers: Mapping[str, float], embedding_size: int) -> str | None:
    modality = min(("video", "audio"), key=lambda name: numbers[f"rank/{name}"])
    rank, alignment = numbers[f"rank/{modality}"], numbers["alignment"]
    if _point(numbers):  # reported already
        return None
    possible = min(embedding_size, numbers["retrieval/gallery_size"])
    if rank > max(1.5, LOW_RANK_SHARE * possible) or alignment > CLOSE_PAIRS:
        return None
    return (
        f"{modality} embeddings have collapsed to about {rank:.1f} of {possible:.0f} directions, although pairs are "
        f"close (alignment {alignment:.2f}). {_ADVICE}: the loss falls because the differences between clips are lost."
    )
