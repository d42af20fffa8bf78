"""Errors whose message tells the user all there is to know.

Every error that a user can cause derives from :class:`AvsslError`, so that the command line prints
its message in one line. Anything else is a bug and keeps its traceback.
"""

from __future__ import annotations

from pathlib import Path


class AvsslError(Exception):
    """Base class of all errors raised on purpose."""

    exit_status = 1
    """Exit status of the command line."""


class InputError(AvsslError, ValueError):
    """A value that cannot be used. The message names it and says what would be right."""


class RunError(AvsslError, RuntimeError):
    """A run that cannot continue. The message says why and what to do."""


class ConfigError(InputError):
    """A setting or an option that cannot be used. The message names it and says what would be right.

    Example:
        >>> from avssl.config import config_from_dict
        >>> config_from_dict({"optim": {"lr": "fast"}})
        Traceback (most recent call last):
            ...
        avssl.core.errors.ConfigError: optim.lr: Expected a float...
    """

    exit_status = 2


class Interruption(RunError):  # noqa: N818 (nothing went wrong)
    """A run that was stopped by a signal and has saved everything.

    Args:
        name: Name of the signal.
        step: Number of steps done.
        checkpoint: Checkpoint to continue from.

    Example:
        >>> from pathlib import Path
        >>> raise Interruption("SIGTERM", 1200, Path("checkpoints/step-000001200.pt"))
        Traceback (most recent call last):
            ...
        avssl.core.errors.Interruption: stopped by SIGTERM after step 1200; continue from
        checkpoints/step-000001200.pt with --resume.
    """

    exit_status = 75  # EX_TEMPFAIL: try again later

    def __init__(self, name: str, step: int, checkpoint: Path) -> None:
        super().__init__(f"stopped by {name} after step {step}; continue from {checkpoint} with --resume.")
        self.step, self.checkpoint = step, checkpoint
