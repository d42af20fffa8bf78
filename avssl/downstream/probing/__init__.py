"""Published protocols of frozen features, by name: one table, one way to run them.

A new protocol costs its functions and one line in the table here.
"""

from __future__ import annotations

from avssl.downstream.probing.classifiers import KNN, LINEAR, SVM
from avssl.downstream.probing.divisions import DivisionColumns, divided_rows
from avssl.downstream.probing.part import Protocol, ProtocolSettings
from avssl.downstream.probing.retrieval import AV_RETRIEVAL, RETRIEVAL
from avssl.downstream.probing.run import run_protocol
from avssl.downstream.probing.table import protocol_table
from avssl.downstream.probing.trained import ATTENTIVE, LAYERS

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
