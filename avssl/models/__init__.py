"""Encoders, projection heads and the models made of them.

A new encoder costs its file, one line in a table here and one test file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from avssl.core.lazy import load, make_lazy
from avssl.core.registry import build, entry

if TYPE_CHECKING:
    from avssl.models.av_model import AVModel as AVModel
    from avssl.models.classifier import Classifier as Classifier
    from avssl.models.classifier_losses import ClassifierLoss as ClassifierLoss
    from avssl.models.clip_encoder import ClipClassifier as ClipClassifier
    from avssl.models.clip_encoder import ClipEncoder as ClipEncoder
    from avssl.models.clip_encoder import Encoding as Encoding
    from avssl.models.clip_encoder import TableVectors as TableVectors
    from avssl.models.clip_encoder import What as What
    from avssl.models.clip_encoder import unit_cells as unit_cells
    from avssl.models.encoder import Encoder as Encoder
    from avssl.models.heads import HeadPair as HeadPair
    from avssl.models.heads import LogitScale as LogitScale
    from avssl.models.heads import ProjectionHead as ProjectionHead
    from avssl.models.objective_heads import ObjectiveHeads as ObjectiveHeads
    from avssl.models.objective_heads import objective_heads as objective_heads
    from avssl.models.stage_pooling import StagePooling as StagePooling
    from avssl.models.text_encoder import TextEncoder as TextEncoder

VIDEO_ENCODERS: dict[str, str] = {
    "avid_r2plus1d_10": "avssl.models.avid_video:avid_r2plus1d_10",
    "avid_r2plus1d_18": "avssl.models.avid_video:avid_r2plus1d_18",
    "avid_r2plus1d_34": "avssl.models.avid_video:avid_r2plus1d_34",
    "r2plus1d_18": "avssl.models.torchvision_video:r2plus1d_18",
    "r3d_18": "avssl.models.torchvision_video:r3d_18",
    "mc3_18": "avssl.models.torchvision_video:mc3_18",
    "resnet18_image": "avssl.models.resnet_image:ResNetImageEncoder",
    "small_video": "avssl.models.small:SmallVideoEncoder",
    "dense_av_video": "avssl.models.dense_av:DenseAvVideo",
    "vit_frames": "avssl.models.vit:VitFrames",
    "timm": "avssl.models.foreign.timm:TimmEncoder",
    "image_text": "avssl.models.foreign.image_text:ImageTextEncoder",
    "pe_video": "avssl.models.foreign.pe:PeVideoEncoder",
    "hf": "avssl.models.foreign.hf:HFVideoEncoder",
    "torchvision": "avssl.models.foreign.torchvision:TorchvisionEncoder",
}
"""Import path of each video encoder by its name in the configuration."""

AUDIO_ENCODERS: dict[str, str] = {
    "avid_audio_cnn_10": "avssl.models.avid_audio:AvidAudioEncoder",
    "resnet18_audio": "avssl.models.resnet_audio:ResNetAudioEncoder",
    "small_audio": "avssl.models.small:SmallAudioEncoder",
    "dense_av_audio": "avssl.models.dense_av:DenseAvAudio",
    "vit_spectrogram": "avssl.models.vit:VitSpectrogram",
    "shared_vit": "avssl.models.shared_vit:SharedVit",
    "pe_audio": "avssl.models.foreign.pe:PeAudioEncoder",
    "audio_text": "avssl.models.foreign.audio_text:AudioTextEncoder",
    "hf": "avssl.models.foreign.hf:HFAudioEncoder",
}
"""Import path of each audio encoder by its name in the configuration."""

HEADS: dict[str, str] = {
    "mlp": "avssl.models.heads:mlp",
    "mlp_bn": "avssl.models.heads:mlp_bn",
    "linear": "avssl.models.heads:linear",
    "norm_linear": "avssl.models.heads:norm_linear",
}
"""Import path of each projection head by its name in the configuration."""

CLASSIFIER_LOSSES: dict[str, str] = {
    "softmax": "avssl.models.classifier_losses:Softmax",
    "logit_norm": "avssl.models.classifier_losses:LogitNorm",
    "cosine_softmax": "avssl.models.classifier_losses:CosineSoftmax",
    "sigmoid": "avssl.models.classifier_losses:Sigmoid",
    "squared_error": "avssl.models.classifier_losses:SquaredError",
}
"""Import path of each loss of a classifier by its name in the configuration."""


def encoder_builder(name: str, modality: str = "") -> Callable[..., Encoder]:
    """Return the class or function that builds an encoder; its arguments with a default are the encoder's options.

    Args:
        name: A key of :data:`VIDEO_ENCODERS` or :data:`AUDIO_ENCODERS`.
        modality: ``"video"`` or ``"audio"``, for names of both tables.

    Raises:
        ValueError: If the name is unknown; lists the known ones.

    Example:
        >>> encoder_builder("small_audio").__name__
        'SmallAudioEncoder'
    """
    builder: Callable[..., Encoder] = load(entry("encoder", _encoders(modality), name))
    return builder


def _encoders(modality: str) -> dict[str, str]:
    """Return the table of a modality, or both, where a name of both is that of the video encoder."""
    tables = {"video": VIDEO_ENCODERS, "audio": AUDIO_ENCODERS}
    return tables.get(modality) or VIDEO_ENCODERS | {k: v for k, v in AUDIO_ENCODERS.items() if k not in VIDEO_ENCODERS}


def create_encoder(name: str, *, modality: str = "", **options: Any) -> Encoder:
    """Build an untrained encoder.

    Args:
        name: A key of :data:`VIDEO_ENCODERS` or :data:`AUDIO_ENCODERS`.
        modality: ``"video"`` or ``"audio"``, for names of both tables; those are video encoders otherwise.
        **options: The encoder's own options, such as ``stem_pool=False`` or ``width=48``.

    Raises:
        ValueError: If the name, an option or its value is unknown; lists the known ones.

    Example:
        >>> create_encoder("small_video", width=48).num_features
        192
    """
    encoder: Encoder = build("encoder", _encoders(modality), name, **options)
    return encoder


def create_head(name: str, in_features: int, *sizes: int, **options: Any) -> ProjectionHead:
    """Build a projection head, which acts on the last dimension of an input of any rank.

    Args:
        name: A key of :data:`HEADS`: ``"mlp"`` (AVID: two hidden layers with ReLU), ``"mlp_bn"`` (with BatchNorm),
            ``"linear"`` or ``"norm_linear"`` (LayerNorm and a linear layer).
        in_features: The encoder's ``num_features``.
        *sizes: The first of the head's options, by position.
        **options: The head's own options: ``out_features``, and ``hidden`` and ``depth`` of the two with hidden layers.

    Raises:
        ValueError: If the name or an option is unknown; lists the known ones.

    Example:
        >>> create_head("mlp", 512, hidden=256, out_features=128)(torch.randn(4, 512)).shape
        torch.Size([4, 128])
    """
    head: ProjectionHead = build("head", HEADS, name, in_features, *sizes, **options)
    return head


def create_classifier_loss(name: str, **options: Any) -> ClassifierLoss:
    """Build a loss of a classifier, with the last layer that belongs to it.

    Args:
        name: A key of :data:`CLASSIFIER_LOSSES`.
        **options: The loss's own options, such as ``temperature=0.1``.

    Raises:
        ValueError: If the name or an option is unknown; lists the known ones.

    Example:
        >>> type(create_classifier_loss("logit_norm", temperature=0.1)).__name__
        'LogitNorm'
    """
    loss: ClassifierLoss = build("classifier loss", CLASSIFIER_LOSSES, name, **options)
    return loss


make_lazy(__name__)
