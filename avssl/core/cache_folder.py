"""The folder of this user on this machine for what can be computed again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Return ``$XDG_CACHE_HOME/avssl``, by default ``~/.cache/avssl``; None for a user without a home folder."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the XDG specification ignores a relative path
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "avssl" if os.path.isabs(base) else None
