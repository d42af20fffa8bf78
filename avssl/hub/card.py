"""The card of a release, ``README.md``: YAML between two lines of dashes, then Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from avssl.core.user_files import FileError, read_text
from avssl.hub.release import CARD_NAME, HubError

_MAX_BYTES = 2**20
_DASHES = "---\n"


def read_card(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the metadata of a release's card and its text; both are empty without a card.

    Raises:
        HubError: If the metadata is not YAML.
    """
    path = folder / CARD_NAME
    if not path.exists():
        return {}, ""
    try:
        text = read_text(path, _MAX_BYTES)
        _, head, body = text.split(_DASHES, 2) if text.startswith(_DASHES) else ("", "", text)
        metadata = yaml.safe_load(head) or {}
        if not isinstance(metadata, dict):
            raise ValueError("its metadata is no mapping")
    except (FileError, ValueError, yaml.YAMLError) as error:
        raise HubError(f"{path}: not the card of a release: {error}") from error
    return metadata, body.strip() + "\n"


def format_card(metadata: dict[str, Any], body: str) -> str:
    """Return the text of a card."""
    head = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"{_DASHES}{head}{_DASHES}\n{body}"
