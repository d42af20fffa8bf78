"""Pretrained models: release folders with the weights and everything needed to use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from avssl.config import Config, config_from_dict, to_dict
from avssl.core.batch import Batch, Modality
from avssl.core.errors import InputError
from avssl.data.sampling import ClipSampling
from avssl.engine import Precision
from avssl.hub.model_input import check_input, describe_input
from avssl.hub.pe_av import load_pe_av, pe_av_config
from avssl.hub.release import (
    CONFIG_NAME,
    PRETRAINED,
    HubError,
    card_note,
    check_tensors,
    find_release,
    load_tensors,
    public_type,
    read_content,
    write_release,
)
from avssl.hub.tensors import describe_bases, named_tensors, public_weights, stored_tensors, tensors_hash
from avssl.hub.text import load_text
from avssl.hub.training_world import TrainingWorld, load_worlds, save_worlds
from avssl.models import AVModel, ClipEncoder, Encoding, TextEncoder
from avssl.models.foreign.contract import VideoContract
from avssl.models.foreign.pe import PE_AV
from avssl.models.foreign.text import text_encoder
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.foreign.weights import UNKNOWN_LICENSE, weight_folder
from avssl.training.build import Crop, build_model, build_sampling, build_transform
from avssl.transforms import ClipTransform

FULL_FRAME_SCALE = 4 / 3
"""Scale of full frames at inference relative to the training crop, which random crops enlarge (Touvron et al., 2019,
"Fixing the train-test resolution discrepancy"). It also gives maps of more cells. ``benchmarks/localization.py``
measures its effect on SoundingShapes. Models trained on whole squares (``transform.video.scale`` 1 1) keep their
size."""


RANDOM = "random:"
"""Prefix of a checkpoint that stands for the same network with random weights."""


@dataclass
class PretrainedModel:
    """A trained model with its preprocessing."""

    model: AVModel
    """In evaluation mode."""
    transform: ClipTransform
    """Raw batch to model input, in evaluation mode."""
    sampling: ClipSampling
    """Shape of a clip."""
    config: Config
    """Settings of the run that made it."""
    source: str
    """Its origin: a folder, a hub id, or ``random_init(...)``."""
    worlds: tuple[TrainingWorld, ...] = ()
    """Statistics of its training clips by corpus, to tell foreign videos; empty if the release has none."""
    trained_on: str = ""
    """Note of the card on the training clips."""
    load_text: Callable[[], TextEncoder] | None = None
    """Loads the text tower; None for that of the model's own encoders (:mod:`avssl.hub.text`)."""
    _text: TextEncoder | None = field(default=None, init=False, repr=False)

    def to(self, device: torch.device | str) -> PretrainedModel:
        """Move model and transform in place, and return this object."""
        self.model.to(device)
        self.transform.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    @property
    def precision(self) -> Precision:
        """The precision the model was trained in, the fastest on that machine.

        It is float32 where that is not known, and where this processor would emulate bf16.
        """
        settings = self.config.train
        return Precision(
            "bf16" if settings.precision == "bf16" else "fp32",
            "contiguous" if settings.memory_format == "auto" else settings.memory_format,
        ).native(self.device)

    def encoder(self, precision: Precision | None = None) -> ClipEncoder:
        """Return the model as :class:`~avssl.models.ClipEncoder`, in :attr:`precision` unless another one is given."""
        return ClipEncoder(self.model, self.transform, self.precision if precision is None else precision)

    def encode(self, batch: Batch) -> dict[Modality, Encoding]:
        """Encode both modalities of a raw batch: features, embeddings.

        Example:
            >>> from avssl.data import ClipDataset, EvalLoader
            >>> pretrained = avssl.from_pretrained("runs/first")
            >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), pretrained.sampling)
            >>> batch, _, _ = next(iter(EvalLoader(dataset, batch_size=4)))
            >>> pretrained.encode(batch)["video"].vectors("embeddings").shape
            torch.Size([4, 8])
        """
        encoder = self.encoder()
        return {modality: encoder.encode_batch(batch, modality) for modality in ("video", "audio")}

    def num_moments(self) -> int:
        """Return the number of moments of a clip: the steps in time of the longer of its maps."""
        encoder, described = self.encoder(), describe_input(self.config)
        inputs: dict[Modality, torch.Tensor] = {
            name: torch.zeros(1, *described[name]["shape"], device=self.device) for name in ("video", "audio")
        }
        return max(encoder.instants(name, x).shape[1] for name, x in inputs.items())

    def text_encoder(self) -> TextEncoder:
        """Return the text tower on the model's device; it is loaded when it is first used.

        Raises:
            HubError: If the model has none; names models that have one.
        """
        if self._text is None:
            self._text = (self.load_text or partial(load_text, self.model, self.source))().eval()
        return self._text.to(self.device)

    def embed_text(self, texts: Sequence[str], stream: Modality = "audio") -> torch.Tensor:
        """Embed texts in the space of the model's embeddings.

        Args:
            texts: N texts, such as ``["a dog barks"]``.
            stream: Stream whose embeddings the result is compared with. Some models, such as PE-AV, project text
                differently for each.

        Returns:
            (N, D) float32 unit vectors.

        Raises:
            HubError: If the model has no text tower; names models that have one.
            InputError: If a text is empty or too long.

        Example:
            >>> pretrained.embed_text(["a dog barks", "rain"]).shape
            torch.Size([2, 1024])
        """
        return self.text_encoder()(texts)[stream]

    def weights_hash(self) -> str:
        """Return a hash of all weights and statistics, as 16 hex digits."""
        return tensors_hash(named_tensors(model=self.model, transform=self.transform))


def save_pretrained(
    folder: Path | str,
    model: AVModel,
    transform: ClipTransform,
    config: Config,
    about: Mapping[str, Any] | None = None,
    *,
    license_id: str | None = None,
    notice: str = "",
    worlds: Sequence[TrainingWorld] = (),
) -> Path:
    """Write a release, replacing an earlier one in the same folder.

    Args:
        folder: Output folder, created if missing.
        model: Model on any device.
        transform: Transform with spectrogram statistics.
        config: Settings of the run.
        about: Facts for the card, such as ``{"rows": 1200, "epochs": 20}``.
        license_id: License of the weights, as model hubs write it, such as ``"cc-by-nc-4.0"``.
        notice: Terms of use for the card, in Markdown.
        worlds: Statistics of the training clips of each corpus, to tell foreign videos.

    Returns:
        The folder.

    Example:
        >>> pretrained = avssl.from_pretrained("runs/first")
        >>> folder = save_pretrained(
        ...     "shared", pretrained.model, pretrained.transform, pretrained.config, license_id="cc-by-4.0"
        ... )
        >>> sorted(file.name for file in folder.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
    """
    content = {"config": to_dict(config), "input": describe_input(config), **describe_bases(model=model)}
    card = _card(model, config, dict(about or {}), license_id, notice)
    written = write_release(folder, stored_tensors(model=model, transform=transform), PRETRAINED, content, card)
    save_worlds(written, worlds)
    return written


def from_pretrained(
    path_or_hub_id: Path | str, device: torch.device | str = "cpu", crop: Literal["center", "full"] | None = None
) -> PretrainedModel:
    """Load a release, or PE-AV in the format of transformers (``hf-hub:facebook/pe-av-small``).

    Args:
        path_or_hub_id: A release folder, a run directory (its ``weights/``), or ``hf-hub:owner/name`` or
            ``hf-hub:owner/name@revision`` on the Hugging Face hub (needs the extra ``avssl[hub]``). ``local-dir:PATH``
            is always a folder; without a prefix, a folder takes precedence over a repository.
        device: Device to move the model to.
        crop: Cropping in evaluation; None keeps the run's. Localization needs ``"full"``, the whole frame, which is
            resized to :data:`FULL_FRAME_SCALE` times the training size.

    Raises:
        HubError: If there is no release, or it cannot be used.

    Example:
        >>> pretrained = from_pretrained("runs/first")
        >>> pretrained.sampling.num_frames, pretrained.sampling.audio_seconds, pretrained.model.training
        (2, 1.0, False)
    """
    folder = find_release(path_or_hub_id)
    if kind := public_type(folder):
        return _public(kind, str(path_or_hub_id), crop).to(device)
    content = read_content(folder, PRETRAINED)
    config = config_from_dict(content["config"], f"{folder / CONFIG_NAME}: ", Config)
    check_input(content, describe_input(config), folder)
    with torch.device("meta"):
        model = build_model(config)
    check_tensors(folder, model=model, transform=build_transform(config))
    video = config.transform.video
    size = video.size
    if crop == "full" and video.scale[0] < 1:
        size = _full_frame_size(model, size)
    pretrained = _assemble(config, config.train.seed, crop, size, str(path_or_hub_id))
    load_tensors(folder, model=pretrained.model, transform=pretrained.transform)
    pretrained.worlds, pretrained.trained_on = load_worlds(folder), card_note(folder, "trained on")
    return pretrained.to(device)


def _public(kind: str, name: str, crop: Literal["center", "full"] | None) -> PretrainedModel:
    """Load a public model that is not a release; raise HubError if it is no PE-AV."""
    if kind != PE_AV:
        raise HubError(
            f"{name}: holds a model of type {kind}, but a whole model of video and audio must be a release of avssl or "
            f"PE-AV ({PE_AV}). As one tower of a run: --model.video.pretrained or --model.audio.pretrained."
        )
    try:
        weights = weight_folder(name)
        config = pe_av_config(weights)
        pretrained = _assemble(config, config.train.seed, crop, config.transform.video.size, name)
        load_pe_av(pretrained.model, weights)
    except HubError:
        raise
    except InputError as error:
        raise HubError(f"{name}: cannot be used as PE-AV: {error}") from error
    pretrained.load_text = partial(text_encoder, weights)
    return pretrained


def _full_frame_size(model: AVModel, size: int) -> int:
    """Return the size for whole frames, as far as the video encoder takes others than that of training."""
    encoder = model.video_encoder
    if isinstance(encoder, ForeignEncoder) and isinstance(encoder.contract, VideoContract):
        return encoder.contract.full_frame_size(size, FULL_FRAME_SCALE)
    return max(size, 16 * round(size * FULL_FRAME_SCALE / 16))


def demo_weights() -> Path:
    """Return the release that comes with avssl, for first steps, examples and tests.

    A small model trained on SoundingShapes and one speaker of GRID by ``benchmarks/demo_weights.py``; of real videos it
    knows his only. Its card has its scores.

    Example:
        >>> pretrained = from_pretrained(demo_weights())
        >>> pretrained.model.training
        False
    """
    return Path(__file__).parent / "demo_weights"


DEMO_NOTE = (
    "the packaged weights, which know SoundingShapes and one speaker of GRID. For other videos name weights with "
    "--checkpoint: what avssl convert dense-av hf-hub:mhamilton723/DenseAV-sound OUT makes (MIT), "
    "hf-hub:facebook/pe-av-small (PE-AV, Apache-2.0), or a run of avssl pretrain on your own."
)
"""A line for whoever uses :func:`demo_weights` without naming them."""


def random_init(like: PretrainedModel, seed: int = 0) -> PretrainedModel:
    """Return an untrained baseline: the same architecture, preprocessing and statistics with new weights."""
    video = like.transform.video_eval
    twin = _assemble(like.config, seed, video.crop, video.size, f"random_init(seed={seed})")
    twin.transform.load_state_dict(like.transform.state_dict())
    return twin.to(like.device)


def from_pretrained_or_random(
    checkpoint: Path | str,
    device: torch.device | str = "cpu",
    crop: Literal["center", "full"] | None = None,
    seed: int = 0,
) -> PretrainedModel:
    """Load a release, or for ``random:RELEASE`` the same network with random weights of a seed.

    Raises:
        HubError: As :func:`from_pretrained`.
    """
    name = str(checkpoint)
    pretrained = from_pretrained(name.removeprefix(RANDOM) if name.startswith(RANDOM) else checkpoint, device, crop)
    if not name.startswith(RANDOM):
        return pretrained
    twin = random_init(pretrained, seed)
    twin.source = f"{name} (seed {seed})"
    return twin


def _assemble(config: Config, seed: int, crop: Crop | None, size: int, source: str) -> PretrainedModel:
    transform = build_transform(config, crop=crop, eval_size=size)
    return PretrainedModel(build_model(config, seed).eval(), transform.eval(), build_sampling(config), config, source)


def _card(model: AVModel, config: Config, about: dict[str, Any], license_id: str | None, notice: str) -> str:
    towers = public_weights(model)
    if license_id is None and len(found := {tower.license_id for tower in towers.values()}) == 1:
        license_id = found.pop()  # what is made of weights of one license
    about |= {f"{name} starts from": f"{t.pretrained}, license: {t.license_id}" for name, t in towers.items()}
    license_field = f"license: {license_id}\n" if license_id and license_id != UNKNOWN_LICENSE else ""
    section = f"\n## License\n\n{notice}\n" if notice else ""
    millions = sum(p.numel() for p in model.parameters()) / 1e6
    sampling, video = config.sampling, config.transform.video
    facts = "\n".join(f"- {name}: {value}" for name, value in about.items())
    return f"""---
library_name: avssl
tags: [video, audio, self-supervised-learning, sound-source-localization]
{license_field}---

# {config.model.video.title} + {config.model.audio.title}

Trained without labels on video and its audio, by {config.objective.name}. {millions:.2f} M parameters.

- video: {sampling.num_frames} frames at {sampling.frames_per_second:g} per second, {video.size} x {video.size}
- audio: {sampling.audio_seconds:g} s at {sampling.sample_rate_hz} Hz, {config.transform.spectrogram.name}
{facts}

```python
import avssl

pretrained = avssl.from_pretrained("this folder")
pretrained.model, pretrained.transform, pretrained.sampling
```
{section}"""
