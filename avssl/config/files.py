"""Settings as nested mappings, in YAML files that may name a base."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from avssl.config.presets import with_presets
from avssl.config.settings import CHOICES
from avssl.core.errors import ConfigError
from avssl.core.user_files import FileError, read_text


def to_dict(config: Any) -> dict[str, Any]:
    """Return nested mappings and lists, as written to YAML or JSON.

    Example:
        >>> config = config_from_dict({"optim": {"lr": 0.01}})
        >>> to_dict(config)["optim"]["lr"], to_dict(config)["optim"]["betas"]
        (0.01, [0.9, 0.999])
    """

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return {name: plain(group) for name, group in dataclasses.asdict(config).items()}


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one mapping whose keys join the names by dots; an empty group gives no key.

    Example:
        >>> flatten({"optim": {"lr": 0.001, "epochs": 5}, "train": {"seed": 0}})
        {'optim.lr': 0.001, 'optim.epochs': 5, 'train.seed': 0}
    """
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


_MAX_BYTES, _MAX_NODES = 2**20, 10_000


class _Dumper(yaml.SafeDumper):
    """Writes a line per setting, lists included."""


_Dumper.add_representer(list, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, True))


def to_yaml(config: Any) -> str:
    """Return the settings as YAML, in the order of the dataclasses.

    Example:
        >>> print(to_yaml(MonitorConfig(num_clips=64)))
        every_steps: 200
        num_clips: 64
        split: val
        held_out_fraction: 0.05
        probe_clips: 256
    """
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, default_flow_style=False)


def read_yaml(path: Path | str) -> dict[str, Any]:
    """Read the settings in a YAML file, on top of those of the file that its ``base`` names.

    ``base: other.yaml`` is relative to the file itself. Where the file names another choice than its base, such as
    another ``objective.name``, the options of the base's choice are dropped. A preset sets its values above those of
    the base.

    Raises:
        ConfigError: If a file is missing or is not a YAML mapping, or if bases form a circle.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("long.yaml").write_text("optim: {lr: 0.001, epochs: 100}")
        >>> _ = Path("short.yaml").write_text("{base: long.yaml, optim: {epochs: 5}}")
        >>> read_yaml("short.yaml")
        {'optim': {'lr': 0.001, 'epochs': 5}}
    """
    tree: dict[str, Any] = {}
    for file, differences in reversed(_chain(path)):
        tree = _merge(tree, with_presets(differences), f"{file}: ")
    return tree


def _chain(path: Path | str) -> list[tuple[Path, dict[str, Any]]]:
    """Return a config file with its settings, followed by its base, the base of that, and so on."""
    chain: list[tuple[Path, dict[str, Any]]] = []
    file: Path | None = Path(path)
    while file is not None:
        if any(file.resolve() == earlier.resolve() for earlier, _ in chain):
            raise ConfigError(
                f"{path}: base: the files form a circle: {' -> '.join(str(f) for f, _ in chain)} -> {file}."
            )
        tree = _read_file(file, f"{chain[-1][0]}: base: " if chain else "")
        base = tree.pop("base", None)
        if base is not None and not isinstance(base, str):
            raise ConfigError(f"{file}: base ({base}) must be the name of a YAML file, relative to this file.")
        chain.append((file, tree))
        file = file.parent / base if base else None
    return chain


def source_of(path: Path | str) -> str:
    """Return the prefix of error messages about a config file: its name and those of its bases."""
    first, *bases = [str(file) for file, _ in _chain(path)]
    return f"{first} (base {', '.join(bases)}): " if bases else f"{first}: "


class _Loader(yaml.SafeLoader):
    """Raises an error for a key that stands twice, whose first value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key.value, str):
                problem = f"the key {key.value!r} stands twice in one mapping"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen |= {key.value} if isinstance(key.value, str) else set()
        return super().construct_mapping(node, deep)


def _read_file(path: Path, source: str) -> dict[str, Any]:
    try:
        tree = yaml.load(read_text(path, _MAX_BYTES), _Loader)
    except FileNotFoundError as error:
        raise ConfigError(f"{source}{path}: no such config file.") from error
    except FileError as error:
        raise ConfigError(f"{source}{error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that does not exist
        raise ConfigError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from error
    if _size(tree, {}) > _MAX_NODES:
        raise ConfigError(f"{path}: its anchors (&name, *name) repeat into more than {_MAX_NODES} values.")
    if tree is not None and not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: a config is a mapping of groups (data, model, optim ...), not a {type(tree).__name__}."
        )
    _check_keys(tree or {}, path)
    return tree or {}


def _size(tree: Any, known: dict[int, float]) -> float:
    """Return the number of values of a tree whose parts may be shared, infinite if it contains itself."""
    if not isinstance(tree, dict | list):
        return 1
    if id(tree) not in known:
        known[id(tree)] = math.inf
        known[id(tree)] = 1 + sum(_size(value, known) for value in (tree.values() if isinstance(tree, dict) else tree))
    return known[id(tree)]


def _check_keys(tree: Mapping[Any, Any], path: Path) -> None:
    for key, value in tree.items():
        if not isinstance(key, str):
            raise ConfigError(f"{path}: the key {key} must be a name.")
        if isinstance(value, Mapping):
            _check_keys(value, path)


def _merge(base: Mapping[str, Any], differences: Mapping[str, Any], source: str, prefix: str = "") -> dict[str, Any]:
    """Return the settings of ``base`` as ``differences`` change them."""
    merged = dict(base)
    for key, value in differences.items():
        below, path = merged.get(key), prefix + key
        if not isinstance(below, Mapping) or not isinstance(value, Mapping):
            merged[key] = value
        elif path in CHOICES and "name" in value and below.get("name") != value["name"]:
            if "name" not in below and below:
                raise ConfigError(
                    f"{source}{path}.name ({value['name']}): the base sets {path}.{next(iter(below))} without a name. "
                    f"Add {path}.name to the base."
                )
            merged[key] = value
        else:
            merged[key] = _merge(below, value, source, path + ".")
    return merged
