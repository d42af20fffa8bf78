"""The result of asking whether a video is like those that a model was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

STAMP = "UNLIKE THE TRAINING VIDEOS: DO NOT TRUST THIS RESULT"
"""Text above a drawing of a foreign video."""


@dataclass(frozen=True)
class DomainScore:
    """Distance of a file's windows from the clips a model was trained on, by the mean and spread of its features."""

    stream: str
    """``"frames"`` or ``"audio"``."""
    score: float
    """Median over the windows of the squared distance."""
    threshold: float
    """Higher scores are foreign."""
    false_alarms: float
    """Expected share of clips like the training clips above the threshold."""
    num_rows: int
    """Clips that the threshold was set by."""

    @property
    def is_foreign(self) -> bool:
        """True if the file is unlike the training clips."""
        return self.score > self.threshold


@dataclass(frozen=True)
class SoundCheck:
    """Confidence of the model for a video's own audio, beside audio that cannot belong to it."""

    own: float
    """Mean over the windows of the highest cosine with the file's own audio."""
    silence: float
    """The same for silence."""
    silence_p: float
    """p of the one-sided sign-flip test over the windows that the own audio is no surer than silence."""
    num_windows: int
    """Windows that do not overlap."""
    others: float | None
    """The same as ``own``, mean over audio of other clips of the training corpus; None if the model stores none."""
    others_p: float | None
    """Rank p: share of the others, counting the own audio, that are at least as sure; 1 / (n + 1) at least."""
    num_others: int
    """Number of the other clips."""

    @property
    def is_foreign(self) -> bool:
        """True if the own audio is no surer than silence or than other clips' audio."""
        if self.others_p is not None and self.others_p > OTHERS_LEVEL:
            return True
        # The sign-flip test cannot reach 0.05 with fewer than five windows.
        return self.num_windows >= FEWEST_WINDOWS and self.silence_p > SILENCE_LEVEL


OTHERS_LEVEL = 0.5
"""Above it the model is less sure of the own audio than of most others'. Some of the others have the same kind of
source and may rightly be as sure, so the level is not 0.05. Audio that has nothing to do with the frames stays below it
in half of the videos, if it is audio like that of the training clips."""
SILENCE_LEVEL = 0.05
FEWEST_WINDOWS = 5


@dataclass(frozen=True)
class Familiarity:
    """Likeness of a file to the training clips of a model. A check that cannot be made is None."""

    num_windows: int
    """Windows of the file that were looked at."""
    domains: tuple[DomainScore, ...] = ()
    """Frames and audio; empty if the model stores no statistics of its training clips."""
    sound: SoundCheck | None = None
    """None without frames, or without audio of the file's own or of another file."""
    trained_on: str = ""
    """The note of the model's card."""

    @property
    def is_foreign(self) -> bool:
        """True if any check says so."""
        return bool(self.reasons)

    @property
    def reasons(self) -> list[str]:
        """The checks that say so, as clauses."""
        found = [
            f"its {each.stream} are" if each.stream == "frames" else f"its {each.stream} is"
            for each in self.domains
            if each.is_foreign
        ]
        numbers = [
            f"{clause} unlike the training clips (distance {each.score:.0f}, threshold {each.threshold:.0f}; "
            f"{100 * each.false_alarms:.1f} % false alarms, n = {each.num_rows})"
            for clause, each in zip(found, (each for each in self.domains if each.is_foreign), strict=True)
        ]
        if self.sound is not None and self.sound.is_foreign:
            numbers.append(_compared(self.sound))
        return numbers

    @property
    def line(self) -> str:
        """The result in one line."""
        note = f" The model was trained on {self.trained_on}." if self.trained_on else ""
        if self.is_foreign:
            why = "; ".join(self.reasons)
            return f"WARNING: this video is foreign to the model, do not trust the result: {why}.{note}"
        windows = f"{self.num_windows} window{'' if self.num_windows == 1 else 's'}"
        if self.domains:
            return f"familiar: like the training clips, over {windows}"
        if self.sound is None or self.sound.num_windows < FEWEST_WINDOWS:
            return (
                f"familiar? unknown, over {windows}: the model stores no statistics of its training clips, and its own "
                f"audio can be compared with silence over {FEWEST_WINDOWS} windows or more only.{note}"
            )
        return f"familiar? the model stores no statistics of its training clips; {_compared(self.sound)}.{note}"

    def plain(self) -> dict[str, Any]:
        """Return everything as plain values, for JSON."""
        return {
            "is_foreign": self.is_foreign,
            "reasons": self.reasons,
            "num_windows": self.num_windows,
            "domains": [vars(each) | {"is_foreign": each.is_foreign} for each in self.domains],
            "sound": None if self.sound is None else vars(self.sound) | {"is_foreign": self.sound.is_foreign},
            "trained_on": self.trained_on,
        }


def _compared(sound: SoundCheck) -> str:
    if sound.others is not None and sound.others_p is not None and sound.others_p > OTHERS_LEVEL:
        return (
            f"its own audio (cosine {sound.own:.2f}) is no surer than that of other clips ({sound.others:.2f}, "
            f"p = {sound.others_p:.2f}, n = {sound.num_others})"
        )
    verb = "is no surer" if sound.is_foreign else "is surer"
    return (
        f"its own audio (cosine {sound.own:.2f}) {verb} than silence ({sound.silence:.2f}, p = {sound.silence_p:.3f}, "
        f"n = {sound.num_windows})"
    )
