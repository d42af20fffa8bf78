"""avssl: learn from video with its own sound, without labels.

The public names below are imported when they are first used, so that ``import avssl`` and
``avssl --help`` are quick.

Example:
    >>> import avssl
    >>> pretrained = avssl.from_pretrained("runs/first")
    >>> encoder = avssl.create_encoder("avid_r2plus1d_18")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from avssl.core.version import __version__ as __version__

if TYPE_CHECKING:
    from avssl.core.batch import Batch as Batch
    from avssl.core.batch import Embeddings as Embeddings
    from avssl.core.manifest import Manifest as Manifest
    from avssl.core.manifest import read_manifest as read_manifest
    from avssl.features.localize import localize as localize
    from avssl.features.table import FeatureTable as FeatureTable
    from avssl.features.table import read_feature_table as read_feature_table
    from avssl.hub.classifier import load_classifier as load_classifier
    from avssl.hub.pretrained import from_pretrained as from_pretrained
    from avssl.hub.pretrained import save_pretrained as save_pretrained
    from avssl.localization import overlay_video as overlay_video
    from avssl.media import MediaError as MediaError
    from avssl.media import open_media as open_media
    from avssl.media import write_video as write_video
    from avssl.models import AVModel as AVModel
    from avssl.models import create_encoder as create_encoder
    from avssl.models import create_head as create_head
    from avssl.objectives import create_objective as create_objective
    from avssl.objectives import info_nce as info_nce
    from avssl.synthetic import synthesize_corpus as synthesize_corpus
    from avssl.transforms import avid_log_spectrogram as avid_log_spectrogram


_MODULES = {
    "Batch": "core.batch",
    "Embeddings": "core.batch",
    "load_classifier": "hub.classifier",
    "localize": "features.localize",
    "FeatureTable": "features.table",
    "read_feature_table": "features.table",
    "from_pretrained": "hub.pretrained",
    "save_pretrained": "hub.pretrained",
    "overlay_video": "localization",
    "Manifest": "core.manifest",
    "read_manifest": "core.manifest",
    "MediaError": "media",
    "open_media": "media",
    "write_video": "media",
    "AVModel": "models",
    "create_encoder": "models",
    "create_head": "models",
    "create_objective": "objectives",
    "info_nce": "objectives",
    "synthesize_corpus": "synthetic",
    "avid_log_spectrogram": "transforms",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'avssl' has no attribute {name!r}")
    return getattr(importlib.import_module(f"avssl.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES])
