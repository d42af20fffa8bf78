"""The card of a release, ``README.md``: YAML between two lines of dashes, then Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from avssl.core.user_files import read_text
from avssl.hub.release import CARD_NAME, HubError

_MAX_BYTES = 2**20
_DASHES = "---\n"


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the metadata of a release's card and its text; both are empty without a card.

    Raises:
        HubError: If the metadata is not a mapping in YAML.
    """
    path = folder / CARD_NAME
    if not path.exists():
        return {}, ""
    parts = read_text(path, _MAX_BYTES).split(_DASHES, 2)
    if parts[0] or len(parts) < 3:
        return {}, _DASHES.join(parts).strip() + "\n"
    try:
        metadata = yaml.safe_load(parts[1]) or {}
    except yaml.YAMLError as error:
        raise HubError(f"{path}: its metadata is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(metadata, dict):
        raise HubError(f"{path}: its metadata is no mapping.")
    return metadata, parts[2].strip() + "\n"


def format_card(metadata: dict[str, Any], body: str) -> str:
    """Return the text of a card."""
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"{_DASHES}{head}{_DASHES}\n{body}"
