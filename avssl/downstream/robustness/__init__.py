"""Robustness of a classifier: its predictions on disturbed clips, and its accuracy by group of clips."""

from avssl.downstream.robustness.cutouts import find_cutouts
from avssl.downstream.robustness.disturbances import DisturbedFeatures, Encode, encode_disturbed
from avssl.downstream.robustness.models import RobustnessModel, finetuned_model, linear_probe_model
from avssl.downstream.robustness.page import Example, write_robustness_page
from avssl.downstream.robustness.scores import score_disturbances, score_groups
from avssl.downstream.robustness.tables import accuracy_table, disturbance_table, group_table

__all__ = [
    "DisturbedFeatures",
    "Encode",
    "Example",
    "RobustnessModel",
    "accuracy_table",
    "disturbance_table",
    "encode_disturbed",
    "find_cutouts",
    "finetuned_model",
    "group_table",
    "linear_probe_model",
    "score_disturbances",
    "score_groups",
    "write_robustness_page",
]
