"""Published protocols of frozen features, by name: one table, one way to run them.

A new protocol costs its functions and one line in the table here.
"""

from __future__ import annotations

from avssl.protocols.classifiers import KNN, LINEAR, SVM
from avssl.protocols.divisions import DivisionColumns, divided_rows
from avssl.protocols.part import Protocol, ProtocolSettings
from avssl.protocols.retrieval import AV_RETRIEVAL, RETRIEVAL
from avssl.protocols.run import run_protocol
from avssl.protocols.table import protocol_table
from avssl.protocols.trained import ATTENTIVE, LAYERS

PROTOCOLS: dict[str, Protocol] = {
    "linear": LINEAR,
    "svm": SVM,
    "knn": KNN,
    "retrieval": RETRIEVAL,
    "av_retrieval": AV_RETRIEVAL,
    "layers": LAYERS,
    "attentive": ATTENTIVE,
}

__all__ = [
    "PROTOCOLS",
    "DivisionColumns",
    "Protocol",
    "ProtocolSettings",
    "divided_rows",
    "protocol_table",
    "run_protocol",
]
