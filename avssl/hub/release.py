"""Release folders: write, find and read them, without running code of their authors.

::

    weights/
    ├── model.safetensors   all weights and statistics
    ├── config.json         kind, architecture and all preprocessing, with a format version
    ├── README.md           a card
    └── training_world.safetensors   optional: statistics of the training clips, which tell foreign videos

Nothing in it is code or pickle, so loading a release cannot run any.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from avssl.core.checkpoint_names import HubError, HubName, near_folder, parse_checkpoint
from avssl.core.data_files import read_json
from avssl.core.errors import InputError
from avssl.core.hub_client import download, is_offline, list_files
from avssl.core.user_files import FileError, read_text, regular_file
from avssl.core.version import __version__
from avssl.core.whole_file import whole_file, write_text
from avssl.hub.tensors import bases, named_tensors, stored_tensors

FORMAT_VERSION = 2
WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = "model.safetensors", "config.json", "README.md"
WORLD_NAME = "training_world.safetensors"
RELEASE_FILES = (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME, WORLD_NAME)
"""All files that a release may have."""
PRETRAINED, CLASSIFIER = "pretrained", "classifier"
_MAX_CONFIG_BYTES = 16 * 2**20
_BACKBONE_KEYS = {"architecture", "model_type"}
"""Keys of the config.json of timm and transformers."""
_MAX_CARD_BYTES = 64 * 2**10
_READERS = {PRETRAINED: "avssl.from_pretrained", CLASSIFIER: "avssl.load_classifier"}


def write_release(
    folder: Path | str, tensors: Mapping[str, Tensor], kind: str, content: Mapping[str, Any], card: str
) -> Path:
    """Write a release, replacing an earlier one in the same folder.

    Args:
        folder: Output folder, created if missing.
        tensors: Tensors from :func:`named_tensors`, on any device.
        kind: :data:`PRETRAINED` or :data:`CLASSIFIER`.
        content: Plain values, with the settings under ``config``; the source of the data is left out.
        card: Model card in Markdown.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    content = {**content, "config": {**content["config"], "data": {**content["config"]["data"], "source": ""}}}
    head = {"format_version": FORMAT_VERSION, "avssl_version": __version__, "kind": kind}
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_text(folder / CARD_NAME, card)
    num_bytes = sum(value.nbytes for value in on_cpu.values())
    with whole_file(folder / WEIGHTS_NAME, num_bytes=num_bytes) as temporary:
        save_file(on_cpu, temporary, metadata={"format": "pt"})
        with suppress(OSError):  # a disk without modes
            shutil.copymode(folder / CARD_NAME, temporary)  # safetensors makes it readable by its owner only
    write_text(folder / CONFIG_NAME, json.dumps(head | content, indent=2) + "\n")
    return folder


def find_release(name: Path | str) -> Path:
    """Return the folder of a release.

    Args:
        name: As in :mod:`avssl.core.checkpoint_names`. Of a folder, the release is in itself, in its ``weights/``, or
            in those of its only fold. A repository is downloaded, unless it is in the cache.

    Raises:
        HubError: If there is none.
    """
    found = parse_checkpoint(name)
    if isinstance(found, HubName):
        return _downloaded(found, str(name))
    for candidate in (found, found / "weights"):
        if (candidate / WEIGHTS_NAME).exists():
            return candidate
    if public_type(found):  # whose weights may be in several files
        return found
    folds = sorted(path for path in found.glob("folds/*") if (path / "weights" / WEIGHTS_NAME).exists())
    if len(folds) == 1:
        return folds[0] / "weights"
    if folds:
        raise HubError(f"{found}: each fold has its own classifier; name one: {folds[0]}.")
    if (found / "config.yaml").exists():
        verb = "finetune" if (found / "folds").is_dir() else "pretrain"
        raise HubError(f"{found}: this run has no weights yet. Finish it with: avssl {verb} --resume {found}")
    if found.exists():
        raise HubError(f"{found}: neither a release ({WEIGHTS_NAME}, {CONFIG_NAME}) nor a run directory.")
    raise HubError(
        f"{found}: no such folder.{near_folder(found)} Name a run directory, its weights folder, or hf-hub:OWNER/NAME."
    )


def _downloaded(name: HubName, given: str) -> Path:
    """Return the folder of a release on the hub; ``given`` is how the user named it."""
    try:
        folder = download(name, RELEASE_FILES)
    except HubError as error:
        raise error if given == str(name) else HubError(f"{given}: no such folder here. {error}") from error
    missing = [each for each in (CONFIG_NAME, WEIGHTS_NAME) if not (folder / each).exists()]
    if missing and not public_type(folder):
        if is_offline(name):
            raise HubError(
                f"{name}: is only partly in the cache ({' and '.join(missing)} missing), and HF_HUB_OFFLINE is set. "
                "Unset it to fetch the rest."
            )
        present = list_files(name)
        listed = f" It has {', '.join(present[:8])}{' ...' if len(present) > 8 else ''}." if present else ""
        pickled = any(file.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl")) for file in present)
        advice = " Weights are read from safetensors only, because loading a pickle runs its code." if pickled else ""
        raise HubError(f"{name}: is no release of avssl: {' and '.join(missing)} missing.{listed}{advice}")
    return folder


def public_type(folder: Path) -> str:
    """Return the ``model_type`` of a folder in the format of transformers; "" for a release of this package."""
    try:
        content = read_json(folder / CONFIG_NAME, _MAX_CONFIG_BYTES)
    except (OSError, ValueError):
        return ""
    is_theirs = isinstance(content, dict) and "format_version" not in content
    return str(content.get("model_type", "")) if is_theirs else ""


def card_note(folder: Path, name: str) -> str:
    """Return the value of a line ``- NAME: VALUE`` of the card; "" if there is none."""
    try:
        lines = read_text(folder / CARD_NAME, _MAX_CARD_BYTES).splitlines()
    except (FileError, OSError):  # a model works without its card
        return ""
    start = f"- {name}: "
    return next((line.removeprefix(start).strip() for line in lines if line.startswith(start)), "")


def release_kind(name: Path | str) -> str:
    """Return the kind of a release or of a public model; raise HubError if there is none, or one of another format."""
    folder = find_release(name)
    return PRETRAINED if public_type(folder) else str(_read(folder).get("kind", PRETRAINED))


def read_content(folder: Path, kind: str) -> dict[str, Any]:
    """Read ``config.json``; raise HubError if it is missing, or of another format or kind."""
    content = _read(folder)
    found = content.get("kind", PRETRAINED)
    if found != kind:
        advice = f" Read it with {_READERS[found]}." if found in _READERS else ""
        if (found, kind) == (PRETRAINED, CLASSIFIER):
            advice = f" It has no classes: train them on labeled rows, avssl finetune MANIFEST --checkpoint {folder}."
        raise HubError(f"{folder / CONFIG_NAME}: this is a {found} release, but a {kind} release is needed.{advice}")
    return content


def _read(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG_NAME
    try:
        content = read_json(path, _MAX_CONFIG_BYTES)
        version, _ = content["format_version"], content["config"]
    except (OSError, ValueError, TypeError) as error:
        raise HubError(f"{path}: missing, or not the config of a release: {error}") from error
    except KeyError as error:
        if _BACKBONE_KEYS & content.keys():
            raise HubError(
                f"{folder}: holds a backbone of timm or transformers, and no release of avssl. Train on it: avssl "
                f"pretrain SOURCE --model.video.name timm --model.video.pretrained {folder} (or hf; docs/backbones.md)."
            ) from error
        raise HubError(f"{path}: not the config of a release: it has no {error}.") from error
    if version != FORMAT_VERSION:
        other = content.get("avssl_version", "another version")
        advice = (
            f"Use it with the avssl that wrote it ({other}), or train or convert the model again with this one."
            if isinstance(version, int) and version < FORMAT_VERSION
            else f"Install a newer avssl: {other} wrote it."
        )
        raise HubError(f"{path}: release format {version}, but avssl {__version__} reads {FORMAT_VERSION}. {advice}")
    assert isinstance(content, dict), "it has keys"
    return content


def check_tensors(folder: Path, **parts: nn.Module) -> None:
    """Compare the names and shapes of ``model.safetensors`` with those of modules, by its header alone.

    Args:
        folder: The release.
        **parts: Modules, which may be on the meta device: the model is built of memory after this check only.

    Raises:
        HubError: If the file cannot be read, or a tensor is missing, unknown or of another shape.
    """
    source = folder / WEIGHTS_NAME
    with _reading(source), safe_open(regular_file(source), framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    expected = stored_tensors(**parts)
    for name, value in expected.items():
        if name not in shapes:
            raise HubError(f"{source}: {name} is missing; this is not the model that {CONFIG_NAME} describes.")
        if shapes[name] != value.shape:
            raise HubError(f"{source}: {name} is {shapes[name]}, but {CONFIG_NAME} describes {tuple(value.shape)}.")
    unknown = sorted(set(shapes) - set(expected))
    if unknown:
        raise HubError(f"{source}: {unknown[0]} is not in the model that {CONFIG_NAME} describes.")


def load_tensors(folder: Path, **parts: nn.Module) -> None:
    """Load modules from ``model.safetensors``, which must hold exactly their tensors.

    Raises:
        HubError: As :func:`check_tensors`, or if a value is not finite; names the tensor.
    """
    check_tensors(folder, **parts)
    source = folder / WEIGHTS_NAME
    with _reading(source):
        tensors = load_file(regular_file(source))
    for name, value in tensors.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise HubError(
                f"{source}: {name} holds NaN or infinite values: the run diverged, it never saw audio, or the file is "
                "damaged. Train it again with a lower learning rate, or fetch it again."
            )
    for part, module in parts.items():
        own = {name.removeprefix(f"{part}."): t for name, t in tensors.items() if name.startswith(f"{part}.")}
        module.load_state_dict(own, strict=False)  # complete, apart from the bases
    _load_bases(folder, **parts)


def _load_bases(folder: Path, **parts: nn.Module) -> None:
    """Load the public weights that a release names, and compare them with those that it was made with."""
    noted = _read(folder).get("bases", {})
    for name, base in bases(**parts).items():
        entry = noted.get(name) if isinstance(noted, Mapping) else None
        if not isinstance(entry, Mapping) or "hash" not in entry:
            raise HubError(f"{folder / CONFIG_NAME}: bases lacks {name}, whose weights the release leaves out.")
        try:
            base.encoder.load_pretrained()
        except InputError as error:
            raise HubError(
                f"{folder}: holds what was trained on top of {base.encoder.pretrained} ({name}), which cannot be "
                f"loaded: {error}"
            ) from error
        if base.describe(named_tensors(**parts))["hash"] != entry["hash"]:
            raise HubError(f"{folder}: was trained on other weights than {base.encoder.pretrained} holds now ({name}).")


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except HubError:
        raise
    except Exception as error:  # safetensors raises its own errors
        raise HubError(f"{source}: not a readable safetensors file: {error}") from error
