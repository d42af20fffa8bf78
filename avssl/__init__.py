"""avssl: self-supervised learning from video with its own audio.

Public names are imported when they are first used, so that ``import avssl`` and ``avssl --help`` are quick.

Example:
    >>> import avssl
    >>> heatmap = avssl.localize("video.mp4", "runs/first")
    >>> heatmap.values.ndim  # time, height, width
    3
    >>> avssl.create_encoder("avid_r2plus1d_18").num_features
    512
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avssl.core.account import name_unknown_user
from avssl.core.lazy import make_lazy
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

name_unknown_user()  # before any module imports torch
make_lazy(__name__)
