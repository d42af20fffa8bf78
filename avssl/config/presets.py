"""Presets in nested settings: a name that stands for values of the options beside it.

A preset counts where it is written, as if its values were written there: in a file above those of the file's base, and
on the command line above those of files. Options of the same place override it, in any order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from avssl.config.settings import TransformConfig
from avssl.transforms.presets import AUDIO_PRESETS, VIDEO_PRESETS

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "transform.video": VIDEO_PRESETS,
    "transform.audio": AUDIO_PRESETS,
}
"""The presets of each group of settings that has some."""


def preset_values(group: str, name: Any) -> dict[str, Any]:
    """Return the value of every option that a preset of the group sets, without the group's name; none if unknown.

    Options that this preset does not mention get the defaults of their class.
    """
    table = PRESETS[group]
    if not isinstance(name, str) or name not in table:
        return {}  # the check of the setting says which there are
    defaults = getattr(TransformConfig(), group.rpartition(".")[2])
    mentioned = {option for options in table.values() for option in options}
    return {option: getattr(defaults, option) for option in sorted(mentioned)} | dict(table[name])


def with_presets(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Return nested settings with the values of the presets that they name; ``path`` is that of the tree itself."""
    if path in PRESETS:
        return preset_values(path, tree.get("preset")) | dict(tree)
    return {
        key: with_presets(value, f"{path}.{key}".removeprefix(".")) if isinstance(value, Mapping) else value
        for key, value in tree.items()
    }
