"""Releases: a folder with the weights and everything needed to use them.

::

    weights/
    ├── model.safetensors   the model, and the spectrogram statistics of its training data
    ├── config.json         all preprocessing and the architecture, with a format version
    └── README.md           a model card

Nothing in it is code or pickle: loading somebody's release runs none of theirs.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import avssl
from avssl.build import build_model, build_sampling, build_transform
from avssl.config import Config, config_from_dict, to_dict
from avssl.data.sampling import ClipSampling
from avssl.models import AVModel
from avssl.transforms import ClipTransform

FORMAT_VERSION = 1
WEIGHTS_NAME, CONFIG_NAME, CARD_NAME = "model.safetensors", "config.json", "README.md"

Crop = Literal["center", "full"]


class HubError(ValueError):
    """A release that is missing, incomplete or of another kind; the message says which and why."""


@dataclass
class Pretrained:
    """A model that is ready for use, with the preprocessing it was trained with."""

    model: AVModel
    """In evaluation mode."""
    transform: ClipTransform
    """Raw batch → model input, in evaluation mode."""
    sampling: ClipSampling
    """The shape of a clip."""
    config: Config
    """Of the run that made it."""
    source: str
    """Where it came from: a folder, a hub id, or ``random_init(...)``."""

    def to(self, device: torch.device | str) -> Pretrained:
        """Moves model and transform, in place."""
        self.model.to(device)
        self.transform.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    def weights_hash(self) -> str:
        """16 hex digits that name every weight and statistic."""
        digest = hashlib.sha256()
        for name, value in _tensors(self.model, self.transform).items():
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


def save_pretrained(
    folder: Path | str,
    model: AVModel,
    transform: ClipTransform,
    config: Config,
    about: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a release; files of an earlier one in the same folder are replaced.

    Args:
        folder: Made when missing.
        model: On any device.
        transform: With its spectrogram statistics set.
        config: Of the run.
        about: What the card tells, such as ``{"rows": 1200, "passes": 20}``.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in _tensors(model, transform).items()}
    settings = to_dict(config)
    settings["data"]["source"] = ""  # a path of the machine it was made on
    content = {"format_version": FORMAT_VERSION, "avssl_version": avssl.__version__, "config": settings}
    temporary = folder / (WEIGHTS_NAME + ".tmp")
    save_file(tensors, temporary, metadata={"format": "pt"})
    temporary.replace(folder / WEIGHTS_NAME)
    (folder / CONFIG_NAME).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / CARD_NAME).write_text(_card(model, config, dict(about or {})), encoding="utf-8")
    return folder


def from_pretrained(
    path_or_hub_id: Path | str, device: torch.device | str = "cpu", crop: Crop | None = None
) -> Pretrained:
    """Loads a release.

    Args:
        path_or_hub_id: A release folder, a run folder (its ``weights/``), or ``owner/name`` on the
            Hugging Face hub (needs the extra ``avssl[hub]``). A folder wins over a hub id.
        device: Where the model goes.
        crop: In place of the run's own cropping in evaluation; localization takes ``"full"``.

    Raises:
        HubError: If there is no release there, or it cannot be used.

    Example:
        >>> pretrained = from_pretrained("runs/first")
        >>> pretrained.model, pretrained.transform, pretrained.sampling
    """
    folder = _find(path_or_hub_id)
    config = _read_config(folder)
    pretrained = _assemble(config, config.train.seed, crop, str(path_or_hub_id))
    try:
        tensors = load_file(folder / WEIGHTS_NAME)
    except Exception as error:  # safetensors raises its own kind for whatever is no such file
        raise HubError(f"{folder / WEIGHTS_NAME}: not a readable safetensors file: {error}") from error
    _load(pretrained, tensors, folder / WEIGHTS_NAME)
    return pretrained.to(device)


def random_init(like: Pretrained, seed: int = 0) -> Pretrained:
    """The same architecture, preprocessing and statistics with fresh weights: the baseline of a table."""
    twin = _assemble(like.config, seed, like.transform.video_eval.crop, f"random_init(seed={seed})")
    twin.transform.load_state_dict(like.transform.state_dict())
    return twin.to(like.device)


def _assemble(config: Config, seed: int, crop: Crop | None, source: str) -> Pretrained:
    transform = build_transform(config, crop=crop)
    return Pretrained(build_model(config, seed).eval(), transform.eval(), build_sampling(config), config, source)


def _tensors(model: nn.Module, transform: nn.Module) -> dict[str, Tensor]:
    parts = {"model": model, "transform": transform}
    return {f"{part}.{name}": value for part, module in parts.items() for name, value in module.state_dict().items()}


def _load(pretrained: Pretrained, tensors: dict[str, Tensor], source: Path) -> None:
    expected = _tensors(pretrained.model, pretrained.transform)
    for name, value in expected.items():
        if name not in tensors:
            raise HubError(f"{source}: {name} is missing; this is not the model that {CONFIG_NAME} describes.")
        if tensors[name].shape != value.shape:
            shapes = f"{tuple(tensors[name].shape)}, but {CONFIG_NAME} describes {tuple(value.shape)}"
            raise HubError(f"{source}: {name} is {shapes}.")
    unknown = sorted(set(tensors) - set(expected))
    if unknown:
        raise HubError(f"{source}: {unknown[0]} has no place in the model that {CONFIG_NAME} describes.")
    for part, module in (("model.", pretrained.model), ("transform.", pretrained.transform)):
        module.load_state_dict({n.removeprefix(part): v for n, v in tensors.items() if n.startswith(part)})


def _find(path_or_hub_id: Path | str) -> Path:
    """The folder that holds the release."""
    folder = Path(path_or_hub_id)
    for candidate in (folder, folder / "weights"):
        if (candidate / WEIGHTS_NAME).is_file():
            return candidate
    if (folder / "config.yaml").is_file():
        raise HubError(f"{folder}: this run has no weights yet. Finish it with: avssl pretrain --resume {folder}")
    if folder.exists():
        raise HubError(f"{folder}: neither a release ({WEIGHTS_NAME}, {CONFIG_NAME}) nor a run folder.")
    if str(path_or_hub_id).count("/") != 1 or str(path_or_hub_id).startswith((".", "/", "~")):
        raise HubError(f"{folder}: no such folder.")
    return _download(str(path_or_hub_id))


def _download(hub_id: str) -> Path:
    try:
        snapshot_download = importlib.import_module("huggingface_hub").snapshot_download
    except ImportError as error:
        raise HubError(
            f"{hub_id}: no such folder. If it is on the Hugging Face hub, install the client: pip install 'avssl[hub]'"
        ) from error
    try:
        return Path(snapshot_download(hub_id, allow_patterns=[WEIGHTS_NAME, CONFIG_NAME, CARD_NAME]))
    except Exception as error:  # network, permission and name errors all mean the same to the user
        raise HubError(f"{hub_id}: no such folder, and not on the hub either: {error}") from error


def _read_config(folder: Path) -> Config:
    path = folder / CONFIG_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, tree = content["format_version"], content["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HubError(f"{path}: missing, or not the config of a release: {error}") from error
    if version != FORMAT_VERSION:
        raise HubError(
            f"{path}: release format {version}, but this avssl ({avssl.__version__}) reads {FORMAT_VERSION}."
        )
    return config_from_dict(tree, f"{path}: ")


def _card(model: AVModel, config: Config, about: dict[str, Any]) -> str:
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    sampling, video = config.sampling, config.transform.video
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    return f"""---
library_name: avssl
tags: [video, audio, self-supervised-learning, sound-source-localization]
---

# {config.model.video.name} + {config.model.audio.name}

Trained without labels on video with its own sound, by {config.objective.name}. {millions:.2f} M parameters.

- video: {sampling.num_frames} frames at {sampling.frames_per_second:g} a second, {video.size} x {video.size}
- sound: {sampling.audio_seconds:g} s at {sampling.sample_rate_hz} Hz, {config.transform.spectrogram.name}
{facts}

```python
import avssl

pretrained = avssl.from_pretrained("this folder")
pretrained.model, pretrained.transform, pretrained.sampling
```
"""
