"""Published protocols for frozen features, by name.

A new protocol costs its functions and one line in the table here.
"""

from __future__ import annotations

from avssl.downstream.probing.classifiers import KNN, LINEAR, SVM
from avssl.downstream.probing.clip_scores import ProtocolClips as ProtocolClips
from avssl.downstream.probing.clip_scores import protocol_clips as protocol_clips
from avssl.downstream.probing.gradient_probes import ATTENTIVE, LAYERS
from avssl.downstream.probing.multi_label import MULTI_LABEL_KNN, MULTI_LABEL_LINEAR
from avssl.downstream.probing.protocol import ProbeProtocol as ProbeProtocol
from avssl.downstream.probing.protocol import ProbeSettings as ProbeSettings
from avssl.downstream.probing.retrieval import AV_RETRIEVAL, MOMENTS, RETRIEVAL
from avssl.downstream.probing.run import run_protocol as run_protocol
from avssl.downstream.probing.table import protocol_table as protocol_table

PROTOCOLS: dict[str, ProbeProtocol] = {
    "linear": LINEAR,
    "svm": SVM,
    "knn": KNN,
    "retrieval": RETRIEVAL,
    "av_retrieval": AV_RETRIEVAL,
    "moments": MOMENTS,
    "layers": LAYERS,
    "attentive": ATTENTIVE,
}

MULTI_LABEL_PROTOCOLS: dict[str, ProbeProtocol] = {"linear": MULTI_LABEL_LINEAR, "knn": MULTI_LABEL_KNN}
"""Protocols for rows that may have several classes."""
