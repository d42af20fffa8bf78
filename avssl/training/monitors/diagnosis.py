"""From numbers to the likely cause, in words: what a person who watched the curves would say."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

COLLAPSED_SPREAD = 0.01
"""Embeddings whose spread is no larger have collapsed to one point. Untrained ones begin between
0.05 and 0.5, as they share a large mean; trained ones come near 1."""
LOW_RANK_SHARE = 0.05
"""Of the dimensions there could be: with no more in use (and never fewer than 1.5) training has lost the rest."""
CLOSE_PAIRS = 0.5
"""Pairs whose mean squared distance (alignment, in [0, 4]) is smaller are close: cosines above 0.75."""
FALLEN_LOSS = 0.1
"""Share of its first value by which a loss must have fallen to count as learning."""
SMALLEST_GALLERY = 32
"""Clips; in smaller galleries a recall near chance says nothing."""
TIMES = {"point": 2, "directions": 2, "shortcut": 3}
"""Measurements in a row after which a finding is said."""

_ADVICE = "Lower optim.lr, and check BatchNorm (train.batch_norm, tiny batches), the temperature and the augmentations"


class Diagnosis:
    """Finds, over the measurements of a run, what goes wrong; tells each finding once.

    - **point**: a modality's embeddings are one point (spread).
    - **directions**: they use a few directions only although pairs are close: the objective is
      fulfilled by throwing the clips' differences away (effective rank low, alignment good).
    - **shortcut**: retrieval in the gallery stays at chance while the loss falls: what is learned
      is not what the sound has to do with its picture.
    """

    def __init__(self) -> None:
        self._first_loss: float | None = None
        self._last_loss: float | None = None
        self._times = dict.fromkeys(TIMES, 0)

    def observe(self, record: Mapping[str, float]) -> None:
        """Takes in the loss of a log."""
        if "loss" in record:
            self._last_loss = record["loss"]
            self._first_loss = record["loss"] if self._first_loss is None else self._first_loss

    def of(self, numbers: Mapping[str, float], embedding_size: int) -> list[str]:
        """What a measurement shows for the first time.

        Args:
            numbers: As :class:`~avssl.training.monitors.EmbeddingMonitor` reports them.
            embedding_size: D.

        Returns:
            Sentences, each with the likely cause and what to do; usually none.
        """
        checks: dict[str, Callable[[], str | None]] = {
            "point": lambda: _point(numbers),
            "directions": lambda: _directions(numbers, embedding_size),
            "shortcut": lambda: self._shortcut(numbers),
        }
        said = []
        for name, check in checks.items():
            finding = check()
            self._times[name] = self._times[name] + 1 if finding else min(self._times[name], 0)
            if finding and self._times[name] == TIMES[name]:
                said.append(finding)
                self._times[name] = -(10**9)  # never again
        return said

    def _shortcut(self, numbers: Mapping[str, float]) -> str | None:
        if self._first_loss is None or self._last_loss is None or numbers["retrieval/gallery_size"] < SMALLEST_GALLERY:
            return None
        fallen = self._first_loss - self._last_loss > FALLEN_LOSS * abs(self._first_loss)
        chance, found = numbers["retrieval/chance_R@10"], numbers["retrieval/R@10"]
        # The mean of 2 N draws (both ways) at chance lies within two deviations of it, 97 times in 100.
        deviation = (chance * (1 - chance) / (2 * numbers["retrieval/gallery_size"])) ** 0.5
        if not fallen or found > chance + 2 * deviation:
            return None
        where = "held-out clips" if numbers.get("retrieval/held_out") else "training clips, seen without augmentation,"
        return (
            f"retrieval among {where} stays at chance (R@10 {found:.3f}, chance {chance:.3f}) while the loss fell from "
            f"{self._first_loss:.3g} to {self._last_loss:.3g}: a shortcut or faulty pairs. Look for sound that is not "
            "the picture's own, silent tracks and near-duplicates, or too few clips, learned by heart."
        )

    def state_dict(self) -> dict[str, Any]:
        return {"first_loss": self._first_loss, "last_loss": self._last_loss, "times": dict(self._times)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._first_loss, self._last_loss = state["first_loss"], state["last_loss"]
        self._times = dict(state["times"])


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
    if _point(numbers):  # has nothing else to say
        return None
    possible = min(embedding_size, numbers["retrieval/gallery_size"])
    if rank > max(1.5, LOW_RANK_SHARE * possible) or alignment > CLOSE_PAIRS:
        return None
    return (
        f"{modality} embeddings have collapsed to about {rank:.1f} of {possible:.0f} directions, although pairs are "
        f"close (alignment {alignment:.2f}). {_ADVICE}: the loss is lowered by forgetting what tells clips apart."
    )
