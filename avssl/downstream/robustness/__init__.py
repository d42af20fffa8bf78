"""Robustness of a classifier: its predictions on disturbed clips, and its accuracy by group of clips."""

from avssl.downstream.robustness.cutouts import find_cutouts as find_cutouts
from avssl.downstream.robustness.disturbances import DisturbedFeatures as DisturbedFeatures
from avssl.downstream.robustness.disturbances import encode_disturbed as encode_disturbed
from avssl.downstream.robustness.models import RobustnessModel as RobustnessModel
from avssl.downstream.robustness.models import finetuned_model as finetuned_model
from avssl.downstream.robustness.models import linear_probe_model as linear_probe_model
from avssl.downstream.robustness.page import Example as Example
from avssl.downstream.robustness.page import write_robustness_page as write_robustness_page
from avssl.downstream.robustness.scores import score_disturbances as score_disturbances
from avssl.downstream.robustness.scores import score_groups as score_groups
from avssl.downstream.robustness.tables import accuracy_table as accuracy_table
from avssl.downstream.robustness.tables import disturbance_table as disturbance_table
from avssl.downstream.robustness.tables import group_table as group_table
