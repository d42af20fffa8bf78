"""The one path from raw clips to features, embeddings, stage maps and the cells of a heat map.

Feature extraction, stage similarity, training monitors, energy curves, heat maps and localization scores all run a
model through :class:`ClipEncoder`, and tests of a fine-tuned classifier run it through :class:`ClipClassifier`.

Dimensions: B clips, T frames, S samples, C features, D embedding size, K heads; T', h and w cells of the video map.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import Batch, Modality
from avssl.core.errors import InputError
from avssl.core.moments import at_moments, unit_heads, unit_instants
from avssl.models.av_model import AVModel
from avssl.models.blocks import Detail
from avssl.models.classifier import Classifier
from avssl.models.heads import HEAD

What = Literal["features", "embeddings"]
"""Kind of the vectors of a clip: those before the heads ("features"), or those after them, of unit length
("embeddings")."""
TableVectors = Literal["features", "embeddings", "moments"]
"""Kind of the vectors of a feature table: as :data:`What`, or the unit embeddings of all moments of a clip side by
side, together of unit length ("moments")."""


class Preprocessing(Protocol):
    """The evaluation half of a transform; :class:`avssl.transforms.ClipTransform` implements it."""

    training: bool

    def __call__(self, batch: Batch, /) -> Batch:
        """Raw batch of B clips to model inputs of V * B views."""

    def video_input(self, video: Tensor, valid_hw: Tensor | None = None, chroma: Tensor | None = None) -> Tensor:
        """(B, T, 3, H, W) uint8 to (B, 3, T, H', W') float."""

    def audio_input(self, waveform: Tensor) -> Tensor:
        """(B, S) to (B, 1, time, freq)."""


class Numerics(Protocol):
    """Number format and memory layout; :class:`avssl.engine.Precision` implements it."""

    def computing(self, model: nn.Module, device: torch.device) -> AbstractContextManager[Any]: ...

    def arrange(self, x: Tensor) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class Encoding:
    """One modality of B clips, as a model encodes it.

    Example:
        >>> encoding = Encoding(features=torch.randn(2, 16), embedding=torch.ones(2, 4), stages={})
        >>> encoding.vectors("embeddings")[0]  # of unit length
        tensor([0.5000, 0.5000, 0.5000, 0.5000])
    """

    features: Tensor
    """(B, C) before the head."""
    embedding: Tensor
    """(B, D) after the head, not normalized."""
    stages: Mapping[str, Tensor]
    """(B, C, cells ...) of each stage from input to output; with blocks also (B, width) of the head's layers, the last
    of which is the embedding. Empty unless requested."""

    def vectors(self, what: What) -> Tensor:
        """Return (B, C) features, or (B, D) embeddings of unit length, in float32."""
        return self.features.float() if what == "features" else F.normalize(self.embedding.float(), dim=1)


class _ClipModel:
    """The input side of :class:`ClipEncoder` and :class:`ClipClassifier`."""

    def __init__(self, model: nn.Module, transform: Preprocessing, precision: Numerics | None = None) -> None:
        for name, module in (("model", model), ("transform", transform)):
            if module.training:
                raise InputError(
                    f"{name} is in training mode, which is random and changes its statistics. Call {name}.eval()."
                )
        self.model, self.transform, self.precision = model, transform, precision
        self.device = next(model.parameters()).device
        for parameter in model.parameters():
            parameter.data = self._arrange(parameter.data)

    @torch.no_grad()
    def video_input(self, video: Tensor, valid_hw: Tensor | None = None, chroma: Tensor | None = None) -> Tensor:
        """Return (B, 3, T, H', W') model input for (B, T, 3, H, W) uint8 frames, or the fields of a raw batch."""
        valid_hw, chroma = (None if x is None else x.to(self.device) for x in (valid_hw, chroma))
        return self.transform.video_input(video.to(self.device), valid_hw, chroma)

    @torch.no_grad()
    def audio_input(self, waveforms: Tensor) -> Tensor:
        """Return (B, 1, time, freq) model input for (B, S) waveforms."""
        return self.transform.audio_input(waveforms.to(self.device))

    def model_input(self, batch: Batch, modality: Modality) -> Tensor:
        """Return the model input of one modality of a raw batch; the other one is neither moved nor transformed."""
        if modality == "video":
            return self.video_input(batch.video, batch.valid_hw, batch.chroma)
        return self.audio_input(batch.audio)

    def _computing(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.precision is None else self.precision.computing(self.model, self.device)

    def _arrange(self, x: Tensor) -> Tensor:
        return x if self.precision is None else self.precision.arrange(x)


class ClipEncoder(_ClipModel):
    """A model with its preprocessing, run without gradient on raw clips, on the device of its weights.

    Args:
        model: In evaluation mode. Its kernels are laid out as ``precision`` says, in place.
        transform: In evaluation mode, on the same device. Heat maps need the whole frame (``crop="full"``).
        precision: Number format and layout of the model; None computes in float32.

    Raises:
        InputError: If ``model`` or ``transform`` is in training mode.

    Example:
        >>> pretrained = avssl.from_pretrained("runs/first")
        >>> encoder = ClipEncoder(pretrained.model, pretrained.transform)
        >>> x = encoder.audio_input(torch.randn(2, 8000))  # two waveforms of a second
        >>> encoder.encode("audio", x).vectors("embeddings").shape
        torch.Size([2, 8])
    """

    model: AVModel

    def __init__(self, model: AVModel, transform: Preprocessing, precision: Numerics | None = None) -> None:
        super().__init__(model, transform, precision)

    @property
    def num_heads(self) -> int:
        """K: channel groups of a cell that are compared with an audio query separately."""
        return self.model.num_heads

    @property
    def frames_alone(self) -> bool:
        """True if the cells of a frame do not depend on the other frames of its clip."""
        return self.model.video_encoder.frames_alone

    @property
    def framewise(self) -> bool:
        """True if the model compares each frame with the audio of its own moment."""
        return self.model.framewise

    @torch.no_grad()
    def instants(self, modality: Modality, x: Tensor) -> Tensor:
        """Return the (B, T', D) unit embeddings of the moments of model input, averaged over space."""
        with self._computing():
            x = self._arrange(x)
            return unit_instants(self.model.video_map(x) if modality == "video" else self.model.audio_map(x))

    def vectors(self, modality: Modality, x: Tensor, what: TableVectors, num_moments: int = 0) -> Tensor:
        """Return the (B, C) float32 vectors of model input that a feature table holds.

        Args:
            modality: ``"video"`` or ``"audio"``.
            x: From :meth:`video_input` or :meth:`audio_input`.
            what: Kind of vector.
            num_moments: L of ``"moments"``, which have L * D numbers. A model with fewer steps in time repeats them.
        """
        if what != "moments":
            return self.encode(modality, x).vectors(what)
        found = self.instants(modality, x)
        return found[:, at_moments(found.shape[1], num_moments, found.device)].flatten(1) / num_moments**0.5

    @property
    def has_joint(self) -> bool:
        """True if the model embeds video and audio together."""
        return self.model.joint_head is not None

    @torch.no_grad()
    def joint(self, video: Tensor | None, audio: Tensor | None) -> Tensor:
        """Return the (B, D) float32 joint embeddings of unit length of model input, one of which may be missing.

        Raises:
            ValueError: If the model has no joint head, or both are missing.
        """
        with self._computing():
            seen = None if video is None else self.model.encode_video(self._arrange(video))
            heard = None if audio is None else self.model.encode_audio(self._arrange(audio))
            return F.normalize(self.model.embed_joint(seen, heard).float(), dim=1)

    def encode_batch(self, batch: Batch, modality: Modality, *, detail: Detail | None = None) -> Encoding:
        """Encode one modality of a raw batch."""
        return self.encode(modality, self.model_input(batch, modality), detail)

    @torch.no_grad()
    def encode(self, modality: Modality, x: Tensor, detail: Detail | None = None) -> Encoding:
        """Encode model input of one modality.

        Args:
            modality: ``"video"`` or ``"audio"``.
            x: From :meth:`video_input` or :meth:`audio_input`.
            detail: Also return the map of every encoder stage, or of every block and layer of the head; None for
                neither.
        """
        model = self.model
        encoder, head = (
            (model.video_encoder, model.video_head) if modality == "video" else (model.audio_encoder, model.audio_head)
        )
        with self._computing():
            x = self._arrange(x)
            if detail is None:
                features = encoder(x)
                return Encoding(features, head(features), {})
            stages = encoder.forward_stages(x, detail)
            features = encoder.pool(list(stages.values())[-1]) if encoder.pools_map else encoder(x)
            layers = head.forward_layers(features)
            return Encoding(features, layers[HEAD], stages | layers if detail == "blocks" else stages)

    @torch.no_grad()
    def feature_map(self, video: Tensor) -> Tensor:
        """Return the last map of the video encoder, (B, C, T', h, w)."""
        with self._computing():
            return self.model.video_encoder.forward_features(self._arrange(video))

    @torch.no_grad()
    def cells(self, video: Tensor) -> Tensor:
        """Return :func:`unit_cells` of video input: (B, D, T', h, w) float32."""
        with self._computing():
            return unit_cells(self.model, self._arrange(video))

    @torch.no_grad()
    def mirrored_cells(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cells of video input and of its mirror image, whose mean is :meth:`cells`, as the same place."""
        with self._computing():
            return mirrored_cells(self.model, self._arrange(video))

    @torch.no_grad()
    def queries(self, audio: Tensor) -> Tensor:
        """Return the queries that audio input puts to the cells: (B, D, steps), one step for the audio as a whole."""
        with self._computing():
            return self.model.sound_queries(self._arrange(audio))


class ClipClassifier(_ClipModel):
    """A classifier with its preprocessing, run as :class:`ClipEncoder` runs a model.

    Args:
        model: In evaluation mode.
        transform: In evaluation mode, on the same device.
        precision: Number format and layout of the model; None computes in float32.

    Raises:
        InputError: If ``model`` or ``transform`` is in training mode.

    Example:
        >>> from avssl.data import ClipDataset, EvalLoader
        >>> trained = avssl.load_classifier("runs/first-finetune")
        >>> dataset = ClipDataset(avssl.read_manifest("corpus/manifest.csv"), trained.sampling)
        >>> batch, rows, failures = next(iter(EvalLoader(dataset, batch_size=4)))
        >>> ClipClassifier(trained.model, trained.transform).logits(batch).shape  # four clips, two classes
        torch.Size([4, 2])
    """

    model: Classifier

    @torch.no_grad()
    def features(self, batch: Batch, modality: Modality) -> Tensor:
        """Return the (B, C) float32 pooled features of one modality of a raw batch; with crops, (V * B, C) of video."""
        with self._computing():
            features: Tensor = self.model.encoders[modality](self._arrange(self.model_input(batch, modality)))
        return features.float()

    @torch.no_grad()
    def logits(self, batch: Batch) -> Tensor:
        """Return (V * B, K) float32 logits of a raw batch."""
        views = self.transform(batch.to(self.device))
        with self._computing():
            logits: Tensor = self.model(self._arrange(views.video), self._arrange(views.audio))
        return logits.float()


class LocatingModel(Protocol):
    """Interface that :func:`unit_cells` needs; :class:`~avssl.models.AVModel` implements it."""

    @property
    def num_heads(self) -> int: ...

    def visual_cells(self, video: Tensor, /) -> Tensor: ...


def unit_cells(model: LocatingModel, video: Tensor) -> Tensor:
    """Return unit embeddings of the video cells, averaged over the video and its mirror image.

    Each head's channels have length 1. The mean of two cosines is the cosine with the mean cell, so any number of
    audio queries can be compared with this one map.

    Args:
        model: In evaluation mode.
        video: (B, 3, T, H, W) model input.

    Returns:
        (B, D, T', h, w) float32.

    Example:
        >>> model = avssl.from_pretrained("runs/first").model
        >>> cells = unit_cells(model, torch.randn(1, 3, 2, 32, 32))
        >>> cells.shape == (1, model.embedding_size, 2, 4, 4)  # a cell for 8 x 8 pixels of each frame
        True
    """
    straight, mirrored = mirrored_cells(model, video)
    return (straight + mirrored) / 2


def mirrored_cells(model: LocatingModel, video: Tensor) -> tuple[Tensor, Tensor]:
    """Return unit embeddings of the video cells and of those of its mirror image, mirrored back.

    Args:
        model: In evaluation mode.
        video: (B, 3, T, H, W) model input.

    Returns:
        Two of (B, D, T', h, w) float32, in which each head's channels have length 1.
    """
    straight, mirrored = model.visual_cells(video), model.visual_cells(video.flip(-1)).flip(-1)
    both = [unit_heads(cells, model.num_heads).flatten(1, 2) for cells in (straight, mirrored)]
    return both[0], both[1]
