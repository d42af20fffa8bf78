"""Changes of tempo: a motion that speeds up and slows down, so that no shift of its audio fits as well as the true one.

The actions are periodic: audio that is late by a whole period fits as well as audio in time. With changes of tempo a
clip has one true offset.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SECONDS_OF_A_TEMPO = (0.3, 0.9)
"""Range of the time for which a tempo lasts."""


@dataclass(frozen=True)
class Tempo:
    """A clock that runs at another constant speed between each two knots."""

    knots_seconds: tuple[float, ...] = ()
    """Times of the knots, ascending; none for a steady tempo."""
    knots_clock: tuple[float, ...] = ()
    """The clock at the knots, ascending."""

    def clock(self, seconds: np.ndarray) -> np.ndarray:
        """Return the clock at given times, 0 at 0."""
        return np.interp(seconds, self.knots_seconds, self.knots_clock) if self.knots_seconds else seconds

    def seconds(self, clock: np.ndarray) -> np.ndarray:
        """Return the times at which the clock shows given values; those beyond the knots are infinite."""
        if not self.knots_seconds:
            return clock
        return np.interp(clock, self.knots_clock, self.knots_seconds, left=-np.inf, right=np.inf)


STEADY = Tempo()


def draw_tempo(rng: np.random.Generator, spread: float, duration_seconds: float) -> Tempo:
    """Draw a tempo that changes at random times.

    Args:
        rng: Random generator.
        spread: Ratio of the fastest to the mean tempo, > 1; the slowest is as much slower. Uniform in its logarithm.
        duration_seconds: Length of the clip.
    """
    count = int((duration_seconds + 1) / SECONDS_OF_A_TEMPO[0]) + 1
    lengths = rng.uniform(*SECONDS_OF_A_TEMPO, count)
    speeds = spread ** rng.uniform(-1.0, 1.0, count)
    seconds, clock = np.cumsum(lengths), np.cumsum(lengths * speeds)
    return Tempo((0.0, *seconds.tolist()), (0.0, *clock.tolist()))
