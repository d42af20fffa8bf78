"""Users without a line in the password file: ``docker run -u 12345``, OpenShift, some clusters."""

from __future__ import annotations

import getpass
import os


def name_unknown_user() -> None:
    """Give a user without a name or a home folder both, in the environment of this process and its children.

    Libraries ask for them when they are imported: torch for the name, and others for a folder of their caches, which
    they would otherwise create under the name "~" in the working folder.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        os.environ["USER"] = f"uid{os.getuid()}"
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = "/nonexistent"  # as Debian names the home of users without one
