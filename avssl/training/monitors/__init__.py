"""Measurements during training that complement the loss, for every objective.

Each monitor implements :class:`avssl.engine.Monitor`; :func:`create_monitors` makes those of a run.
"""

from avssl.training.monitors.clips import FixedClips as FixedClips
from avssl.training.monitors.create import create_monitors as create_monitors
from avssl.training.monitors.diagnosis import Diagnosis as Diagnosis
from avssl.training.monitors.embedding import BEST_BY as BEST_BY
from avssl.training.monitors.embedding import EmbeddingMonitor as EmbeddingMonitor
from avssl.training.monitors.probe import ProbeMonitor as ProbeMonitor
