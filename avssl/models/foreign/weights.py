"""Public weights: find their folder, read their safetensors, and say what differs from the network.

Pickles are never read, and nothing but a repository that is named uses the network.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from safetensors import safe_open
from torch import Tensor

from avssl.core.checkpoint_names import HubName, near_folder, parse_checkpoint
from avssl.core.data_files import read_json
from avssl.core.distributed import is_main
from avssl.core.errors import InputError
from avssl.core.hub_client import download
from avssl.core.user_files import FileError, read_text, regular_file

_LOGGER = logging.getLogger(__name__)
UNKNOWN_LICENSE = "unknown"
_MAX_CONFIG_BYTES = 16 * 2**20
_MAX_CARD_BYTES = 2**20
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".tar")
_SHOWN = 5
"""Tensors that a message names."""
_FILES = ["*.json", "*.safetensors", "README.md"]


class WeightsError(InputError):
    """Weights that are missing, of another network, or in a format that could run code."""


@dataclass(frozen=True)
class WeightFolder:
    """A folder of public weights."""

    path: Path
    name: str
    """Folder or hub id, as its user wrote it."""

    def read(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file of the folder; empty if there is none."""
        try:
            content = read_json(self.path / name, _MAX_CONFIG_BYTES)
        except FileNotFoundError:
            return {}
        except (FileError, OSError) as error:
            raise WeightsError(str(error)) from error
        if not isinstance(content, dict):
            raise WeightsError(f"{self.path / name}: must hold a JSON object.")
        return content

    @property
    def license_id(self) -> str:
        """License of the weights by the header of their card; :data:`UNKNOWN_LICENSE` without one."""
        try:
            text = read_text(self.path / "README.md", _MAX_CARD_BYTES)
        except (FileError, OSError):
            return UNKNOWN_LICENSE
        header = re.match(r"---\n(.*?\n)---", text, re.DOTALL)
        try:
            fields = yaml.safe_load(header[1]) if header else None
        except yaml.YAMLError:
            return UNKNOWN_LICENSE
        found = fields.get("license") if isinstance(fields, dict) else None
        return str(found) if isinstance(found, str) and found else UNKNOWN_LICENSE

    def safetensors(self) -> list[Path]:
        """Return the files of weights.

        Raises:
            WeightsError: If there are none; names pickles that lie there in their place.
        """
        index = self.read("model.safetensors.index.json").get("weight_map", {})
        names = sorted(set(index.values())) or ["model.safetensors"]
        if any(Path(str(name)).name != name for name in names):
            raise WeightsError(f"{self.path}: its index names files outside of the folder.")
        files = [self.path / name for name in names]
        if all(file.is_file() for file in files):
            return [regular_file(file) for file in files]
        others = sorted(self.path.glob("*.safetensors"))
        if len(others) == 1 and not index:
            return [regular_file(others[0])]
        pickles = sorted(file.name for file in self.path.iterdir() if file.suffix in _PICKLES)
        if pickles:
            raise WeightsError(
                f"{self.name}: holds {pickles[0]}, a pickle, which could run code when loaded; it is never read. Name "
                "weights as model.safetensors: convert them with safetensors.torch.save_file where you trust the file."
            )
        missing = next(file.name for file in files if not file.is_file())
        raise WeightsError(f"{self.name}: {missing} is missing. Weights must be safetensors.")


def named_weights(text: str) -> str:
    """Return the name in a setting ``pretrained``; empty for "false", which names none.

    Raises:
        InputError: If the word is a switch, such as "true": there is no default set of weights.
    """
    if text.lower() in ("true", "yes", "on"):
        raise InputError(
            f"pretrained ({text}) must name the weights: a folder with config.json and model.safetensors, or a "
            "repository, hf-hub:OWNER/NAME."
        )
    return "" if text.lower() == "false" else text


def weight_folder(name: str) -> WeightFolder:
    """Return the folder of public weights: a local one, or the downloaded one of a repository on the hub.

    Args:
        name: As in :mod:`avssl.core.checkpoint_names`.

    Raises:
        HubError: If the repository cannot be downloaded, and is not in the cache.
        WeightsError: If there is no such folder.
    """
    found = parse_checkpoint(name)
    if isinstance(found, HubName):
        return WeightFolder(download(found, _FILES), name)
    if found.is_dir():
        return WeightFolder(found, name)
    if found.exists():
        raise WeightsError(f"{name}: is a file. Name the folder that holds config.json and model.safetensors.")
    raise WeightsError(
        f"{name}: no such folder.{near_folder(found)} Name a folder with config.json and model.safetensors, or a "
        "repository: hf-hub:OWNER/NAME."
    )


def read_tensors(folder: WeightFolder, prefixes: tuple[str, ...] = ("",)) -> dict[str, Tensor]:
    """Return the tensors of a folder whose names begin with one of the prefixes; the others are not read."""
    tensors: dict[str, Tensor] = {}
    for file in folder.safetensors():
        try:
            with safe_open(regular_file(file), framework="pt") as opened:
                names = [name for name in opened.keys() if name.startswith(prefixes)]  # noqa: SIM118
                tensors |= {name: opened.get_tensor(name) for name in names}
        except Exception as error:  # safetensors raises its own errors
            raise WeightsError(f"{file}: not a readable safetensors file: {error}") from error
    return tensors


def tensor_shapes(folder: WeightFolder) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors, by the headers of the files alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in folder.safetensors():
        try:
            with safe_open(regular_file(file), framework="pt") as opened:
                shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
        except Exception as error:  # safetensors raises its own errors
            raise WeightsError(f"{file}: not a readable safetensors file: {error}") from error
    return shapes


def tell_unused(folder: WeightFolder, names: Iterable[str], network: str, own: Iterable[str], prefix: str = "") -> None:
    """Log which tensors of a folder a network has no place for; a warning if they are of its own parts.

    Args:
        folder: The folder.
        names: The tensors without a place.
        network: Name of the network.
        own: Names of the tensors of the network.
        prefix: Beginning of names that the network itself does not have.
    """
    unused, parts = sorted(names), {name.partition(".")[0] for name in own}
    inside = [name for name in unused if name.removeprefix(prefix).partition(".")[0] in parts]
    if not unused or not is_main():
        return
    shown = ", ".join([*inside, *(name for name in unused if name not in inside)][:_SHOWN])
    more = f", and {len(unused) - _SHOWN} more" if len(unused) > _SHOWN else ""
    text = "%s: %d of its tensors are not used, as %s has no place for them: %s%s"
    _LOGGER.log(logging.WARNING if inside else logging.INFO, text, folder.name, len(unused), network, shown, more)


def differences(
    there: Mapping[str, tuple[int, ...]], here: Mapping[str, tuple[int, ...]], names: list[str], most: int = 3
) -> str:
    """Return a text of the first tensors that differ between a file and a network."""

    def text(name: str) -> str:
        theirs, ours = there.get(name), here.get(name)
        return f"{name} is {theirs or 'missing'} there and {ours or 'unknown'} here"

    more = f", and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(map(text, names[:most])) + more
