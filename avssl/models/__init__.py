"""Models: tensors to features, features to embeddings.

A new encoder costs its file, one line in the table here and one test file.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from avssl.core.errors import InputError
from avssl.models.av_model import AVModel
from avssl.models.avid_audio import avid_audio_cnn_10
from avssl.models.avid_video import avid_r2plus1d_10, avid_r2plus1d_18, avid_r2plus1d_34
from avssl.models.classifier import Classifier
from avssl.models.clip_encoder import ClipEncoder, Encoding, What, unit_cells
from avssl.models.encoder import Encoder, Modality, Pooling
from avssl.models.heads import HeadPair, LogitScale, ProjectionHead, linear, mlp, mlp_bn
from avssl.models.resnet_audio import resnet18_audio
from avssl.models.resnet_image import resnet18_image
from avssl.models.small import small_audio, small_video
from avssl.models.stage_pooling import StagePooling
from avssl.models.torchvision_video import mc3_18, r2plus1d_18, r3d_18

__all__ = [
    "AVModel",
    "Classifier",
    "ClipEncoder",
    "Encoder",
    "Encoding",
    "HeadPair",
    "LogitScale",
    "Modality",
    "Pooling",
    "ProjectionHead",
    "StagePooling",
    "What",
    "create_encoder",
    "create_head",
    "encoder_builder",
    "encoder_names",
    "head_names",
    "unit_cells",
]

_ENCODERS: dict[Modality, dict[str, Callable[..., Encoder]]] = {
    "video": {
        "avid_r2plus1d_10": avid_r2plus1d_10,
        "avid_r2plus1d_18": avid_r2plus1d_18,
        "avid_r2plus1d_34": avid_r2plus1d_34,
        "r2plus1d_18": r2plus1d_18,
        "r3d_18": r3d_18,
        "mc3_18": mc3_18,
        "resnet18_image": resnet18_image,
        "small_video": small_video,
    },
    "audio": {
        "avid_audio_cnn_10": avid_audio_cnn_10,
        "resnet18_audio": resnet18_audio,
        "small_audio": small_audio,
    },
}

_HEADS: dict[str, Callable[[int, int, int], ProjectionHead]] = {"mlp": mlp, "mlp_bn": mlp_bn, "linear": linear}


def encoder_names(modality: Modality | None = None) -> tuple[str, ...]:
    """Names that :func:`create_encoder` knows, of one modality or of both."""
    tables = _ENCODERS.values() if modality is None else [_ENCODERS[modality]]
    return tuple(name for table in tables for name in table)


def head_names() -> tuple[str, ...]:
    """Names that :func:`create_head` knows."""
    return tuple(_HEADS)


def encoder_builder(name: str) -> Callable[..., Encoder]:
    """The function behind a name; its keyword-only arguments are the encoder's options.

    Raises:
        ValueError: If the name is unknown; lists the known ones.
    """
    for table in _ENCODERS.values():
        if name in table:
            return table[name]
    raise InputError(_unknown("encoder", name, encoder_names()))


def create_encoder(name: str, **options: Any) -> Encoder:
    """Build an untrained encoder.

    Args:
        name: One of :func:`encoder_names`.
        options: The encoder's own options, such as ``stem_pool=False`` or ``width=48``.

    Raises:
        ValueError: If the name, an option or its value is unknown; lists the known ones.

    Example:
        >>> create_encoder("small_video", width=48).num_features
        192
    """
    builder = encoder_builder(name)
    known = inspect.signature(builder).parameters
    for option in options:
        if option not in known:
            raise InputError(_unknown(f"option of {name}", option, known))
    return builder(**options)


def create_head(name: str, in_features: int, out_features: int = 128, hidden: int = 512) -> ProjectionHead:
    """Build a projection head, which acts on the last dimension of an input of any rank.

    Args:
        name: ``"mlp"`` (AVID: two hidden layers with ReLU), ``"mlp_bn"`` (with BatchNorm) or
            ``"linear"``.
        in_features: The encoder's ``num_features``.
        out_features: Embedding size D.
        hidden: Width of the hidden layers; ``"linear"`` has none.

    Raises:
        ValueError: If the name is unknown; lists the known ones.
    """
    if name not in _HEADS:
        raise InputError(_unknown("head", name, head_names()))
    return _HEADS[name](in_features, out_features, hidden)


def _unknown(kind: str, name: str, known: Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{name!r} is not a known {kind}.{hint} Known: {', '.join(known) or 'none'}."
