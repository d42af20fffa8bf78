"""Names of checkpoints: a local folder, or a repository on the Hugging Face hub.

::

    runs/first, local-dir:runs/first                 a folder
    hf-hub:owner/name, hf-hub:owner/name@revision    a repository, at its default revision or another one
    owner/name                                       a repository, if there is neither such a folder nor a folder owner/

Every option and function that takes a checkpoint reads its name here.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from avssl.core.errors import InputError

HUB, LOCAL = "hf-hub:", "local-dir:"
_MOST_NEIGHBORS = 10_000
_REPOSITORY = re.compile(r"(?P<id>[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*)(@(?P<revision>\S+))?", re.ASCII)
_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([^/\s]+/[^/\s?#]+)")
_PREFIX = re.compile(r"([A-Za-z]+[-_]?[A-Za-z]*):(?!//)(.+)")


class HubError(InputError):
    """A checkpoint that is missing, incomplete or of another kind, or a hub that does not do what is requested."""


@dataclass(frozen=True)
class HubName:
    """A repository on the Hugging Face hub."""

    repository: str
    """``owner/name``."""
    revision: str | None = None
    """Branch, tag or commit; None for the default branch."""

    def __str__(self) -> str:
        return HUB + self.repository + (f"@{self.revision}" if self.revision else "")


def parse_checkpoint(name: Path | str) -> Path | HubName:
    """Return the folder or the repository that a name means; the folder need not exist.

    Raises:
        HubError: If a prefix is misspelled, or what follows ``hf-hub:`` is no repository.
    """
    text = str(name)
    if text.startswith(HUB):
        return parse_hub(text)
    if os.path.exists(text):
        return Path(text)
    if text.startswith(LOCAL):
        return Path(text.removeprefix(LOCAL)).expanduser()
    if page := _PAGE.match(text):
        raise HubError(f"{text}: is a page of the hub. Name its repository: {HUB}{page[1]}.")
    if prefix := _PREFIX.fullmatch(text):
        near = difflib.get_close_matches(prefix[1] + ":", (HUB, LOCAL), n=1, cutoff=0.3)
        raise HubError(
            f"{text}: no such folder, and {prefix[1]}: is not a prefix of a checkpoint: those are {HUB} and {LOCAL}. "
            f"Did you mean {near[0] if near else HUB}{prefix[2]}?"
        )
    is_hub = _REPOSITORY.fullmatch(text) and not os.path.isdir(text.partition("/")[0])
    return parse_hub(HUB + text) if is_hub else Path(text).expanduser()


def parse_hub(name: str) -> HubName:
    """Return the repository of ``hf-hub:owner/name`` or ``hf-hub:owner/name@revision``; raise HubError otherwise."""
    found = _REPOSITORY.fullmatch(name.removeprefix(HUB)) if name.startswith(HUB) else None
    if found is None:
        raise HubError(f"{name}: a repository on the hub is named {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION.")
    return HubName(found["id"], found["revision"])


def local_checkpoint(name: Path | str) -> Path | None:
    """Return the folder that a name means, which need not exist; None for a repository on the hub."""
    found = parse_checkpoint(name)
    return found if isinstance(found, Path) else None


def local_text(name: Path | str) -> str:
    """Return a path without the prefix ``local-dir:``; any other text is kept."""
    text = str(name)
    return text if os.path.exists(text) else text.removeprefix(LOCAL)


def near_folder(folder: Path) -> str:
    """Return " Did you mean ...?" with a present folder whose name is nearest to that of a missing one, or ""."""
    parent, names = folder.parent, []
    try:
        with os.scandir(parent) as entries:
            names = [entry.name for entry, _ in zip(entries, range(_MOST_NEIGHBORS), strict=False) if entry.is_dir()]
    except OSError:
        if parent != folder and (hint := near_folder(parent)):
            return hint
    near = difflib.get_close_matches(folder.name, names, n=1)
    return f" Did you mean {parent / near[0]}?" if near else ""
