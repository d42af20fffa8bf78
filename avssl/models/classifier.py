"""Classifier of clips on the encoders of a pretrained model.

Dimensions: B clips, C features of an encoder, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.av_model import AVModel
from avssl.models.classifier_losses import ClassifierLoss, Softmax
from avssl.models.encoder import Encoder
from avssl.models.heads import ProjectionHead
from avssl.models.one_copy import keep_one_copy

Inputs = Literal["video", "audio", "both"]
Fusion = Literal["late", "fused"]


class Classifier(nn.Module):
    """Pooled features, dropout and one linear layer, of one modality or of both.

    With both, ``fusion="late"`` has a head on each modality and averages their logits (up to a
    constant of the clip that is the mean of their log-probabilities), and ``fusion="fused"`` has one
    head on the concatenated features. DDP wraps this module: one :meth:`forward` runs every parameter.

    Args:
        encoders: The video encoder, the audio encoder, or both, in this order.
        num_classes: K.
        fusion: Fusion of two encoders; unused with one.
        dropout: Share of the pooled features to drop in training, in [0, 1). AVID: 0.5.
        loss: Loss the classifier is trained by, which determines its last layers; None for the softmax.
        projections: First layers of the projection head of each modality, between its encoder and the classifier.

    Raises:
        ValueError: If there is no encoder, two of one modality, no class, or a choice is unknown.

    Example:
        >>> classifier = Classifier(avssl.create_encoder("small_video", width=8), num_classes=5)
        >>> classifier(torch.randn(2, 3, 4, 32, 32)).shape
        torch.Size([2, 5])
    """

    def __init__(
        self,
        *encoders: Encoder,
        num_classes: int,
        fusion: Fusion = "late",
        dropout: float = 0.5,
        loss: ClassifierLoss | None = None,
        projections: Mapping[Modality, ProjectionHead] | None = None,
    ) -> None:
        super().__init__()
        modalities = [encoder.modality for encoder in encoders]
        if modalities not in (["video"], ["audio"], ["video", "audio"]):
            raise InputError(
                f"a classifier has a video encoder, an audio one, or both in this order, got {modalities}."
            )
        if num_classes < 1:
            raise InputError(f"num_classes ({num_classes}) must be at least 1.")
        if fusion not in ("late", "fused"):
            raise InputError(f'fusion ({fusion!r}) must be "late" or "fused".')
        if not 0 <= dropout < 1:
            raise InputError(f"dropout ({dropout}) must be in [0, 1).")
        self.num_classes, self.fusion, self.loss = num_classes, fusion, loss or Softmax()
        self.encoders = nn.ModuleDict(dict(zip(modalities, encoders, strict=True)))
        self.dropout = nn.Dropout(dropout)
        given = projections or {}
        self.projections = nn.ModuleDict({name: given[name] for name in modalities if name in given})
        widths: dict[str, int] = {
            encoder.modality: given[encoder.modality].out_features if given else encoder.num_features
            for encoder in encoders
        }
        if fusion == "fused" and len(widths) == 2:
            widths = {"both": sum(widths.values())}
        create = self.loss.create_layer
        self.heads = nn.ModuleDict({name: create(width, num_classes) for name, width in widths.items()})
        keep_one_copy(self)

    @classmethod
    def of(
        cls,
        model: AVModel,
        num_classes: int,
        *,
        inputs: Inputs = "video",
        fusion: Fusion = "late",
        dropout: float = 0.5,
        loss: ClassifierLoss | None = None,
        from_head_layer: int = 0,
    ) -> Classifier:
        """Return a classifier on the encoders of a model, without its projection heads or from a layer of them.

        Args:
            model: The model, whose modules become those of the classifier.
            num_classes: K.
            inputs: Modality of the input.
            fusion: Fusion of two encoders.
            dropout: Share of the features to drop before the last layer in training.
            loss: Loss the classifier is trained by.
            from_head_layer: Layers of the heads to keep; from the middle of the head as in SimCLRv2,
                https://arxiv.org/abs/2006.10029, section 3.2.

        Raises:
            ValueError: If ``inputs`` is unknown or the heads have fewer layers, and as the constructor.
        """
        if inputs not in ("video", "audio", "both"):
            raise InputError(f'inputs ({inputs!r}) must be "video", "audio" or "both".')
        encoders = {"video": model.video_encoder, "audio": model.audio_encoder}
        chosen = [encoder for name, encoder in encoders.items() if inputs in (name, "both")]
        projections: dict[Modality, ProjectionHead] | None = None
        if from_head_layer:
            heads: dict[Modality, ProjectionHead] = {"video": model.video_head, "audio": model.audio_head}
            projections = {
                encoder.modality: heads[encoder.modality].first_layers(from_head_layer) for encoder in chosen
            }
        return cls(*chosen, num_classes=num_classes, fusion=fusion, dropout=dropout, loss=loss, projections=projections)

    @property
    def inputs(self) -> Inputs:
        """Modality of the input."""
        return "both" if len(self.encoders) == 2 else "video" if "video" in self.encoders else "audio"

    def forward(
        self, video: Tensor | None = None, audio: Tensor | None = None, *, each_head: bool = False
    ) -> Tensor | tuple[Tensor, ...]:
        """Return class scores of clips before the softmax or sigmoid.

        Args:
            video: (B, 3, T, H, W) normalized float; unused by an audio classifier.
            audio: (B, 1, time, freq) spectrograms; unused by a video classifier.
            each_head: Return the logits of every head separately; late fusion trains each head.

        Returns:
            (B, K) logits, or a tuple of them, one per head.

        Raises:
            ValueError: If an input is missing.
        """
        logits = tuple(self.head_logits(self.features(video, audio)).values())
        return logits if each_head else torch.stack(logits).mean(dim=0)

    def head_logits(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return (..., K) logits of every last layer, before averaging, from (..., C) features of each modality."""
        if self.projections:
            features = {name: self.projections[name](value) for name, value in features.items()}
        if "both" in self.heads:
            features = {"both": torch.cat(list(features.values()), dim=-1)}
        return {name: head(self.dropout(features[name])) for name, head in self.heads.items()}

    def features(self, video: Tensor | None = None, audio: Tensor | None = None) -> dict[str, Tensor]:
        """Return the (B, C) pooled features of each input modality, before dropout."""
        given = {"video": video, "audio": audio}
        missing = [name for name in self.encoders if given[name] is None]
        if missing:
            raise InputError(f"this classifier reads {self.inputs}, and {missing[0]} is missing.")
        return {name: encoder(given[name]) for name, encoder in self.encoders.items()}

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the last layers."""
        return list(self.heads.parameters())

    def backbone_parameters(self) -> Iterator[tuple[int, list[nn.Parameter]]]:
        """Yield (depth, parameters) of the encoders' stages: depth 0 for the last ones, 1 for those below, and so on.

        Parameters outside of stages belong to the first stage, and layers of a projection head to the last. Those that
        two encoders share are the first one's.
        """
        if self.projections:
            yield 0, list(self.projections.parameters())
        seen: set[int] = set()
        for encoder in self.encoders.values():
            assert isinstance(encoder, Encoder), "the constructor takes nothing else"
            for depth, parameters in encoder.parameters_by_depth():
                yield depth, [p for p in parameters if id(p) not in seen]
                seen.update(map(id, parameters))
