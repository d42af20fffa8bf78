"""Description of a network to build: a backbone by name, with the settings that differ from its own.

Settings are written as on a command line, ``depth=2`` or ``vision.hidden_size=64``, with values in YAML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from avssl.core.errors import InputError


@dataclass(frozen=True)
class Spec:
    """A network that can be built offline."""

    backbone: str
    """Name in its library."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the architecture that differ from those of the name."""
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the input that differ from those of the name."""

    def words(self) -> dict[str, Any]:
        """Return the options of an encoder that describe this network."""
        return {
            "backbone": self.backbone,
            "config": to_words(self.config),
            "preprocessing": to_words(self.preprocessing),
        }


def parse_words(option: str, words: Iterable[str]) -> dict[str, Any]:
    """Return settings from words such as ``depth=2``; dots name settings within settings.

    Args:
        option: Name of the option, for errors.
        words: The words.

    Raises:
        InputError: If a word is not ``name=value``, or names a setting twice.
    """
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name.strip():
            raise InputError(f'{option} ({word!r}) must be words like "depth=2": a name, "=" and a value.')
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise InputError(f"{option} ({word!r}) has a value that is not YAML.") from error
        *parents, leaf = name.strip().split(".")
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise InputError(f"{option} ({word!r}): {parent} has a value already.")
        if leaf in inner:
            raise InputError(f"{option} ({word!r}): {name} stands twice.")
        inner[leaf] = value
    return found


def to_words(settings: Mapping[str, Any], prefix: str = "") -> tuple[str, ...]:
    """Return the words that :func:`parse_words` reads as these settings."""
    words: list[str] = []
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            words += to_words(value, f"{prefix}{name}.")
        else:
            text = yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6, sort_keys=False)
            words.append(f"{prefix}{name}={text.removesuffix(chr(10)).removesuffix('...').strip()}")
    return tuple(words)


def _plain(value: Any) -> Any:
    """Return a value with lists in place of tuples, which YAML lacks."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of ``below`` with those of ``above`` in their place, at every depth."""
    result = dict(below)
    for name, value in above.items():
        inner = result.get(name)
        result[name] = merged(inner, value) if isinstance(inner, Mapping) and isinstance(value, Mapping) else value
    return result
