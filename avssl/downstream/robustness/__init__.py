"""Robustness: scores of disturbed and corrupted clips, and of groups of clips."""

from avssl.downstream.robustness.classification import Classification as Classification
from avssl.downstream.robustness.cutouts import find_cutouts as find_cutouts
from avssl.downstream.robustness.disturbances import CLEAN as CLEAN
from avssl.downstream.robustness.disturbances import DisturbedFeatures as DisturbedFeatures
from avssl.downstream.robustness.disturbances import encode_disturbed as encode_disturbed
from avssl.downstream.robustness.measure import CONDITIONS as CONDITIONS
from avssl.downstream.robustness.measure import Measure as Measure
from avssl.downstream.robustness.measure import chosen_corruptions as chosen_corruptions
from avssl.downstream.robustness.measure import run_conditions as run_conditions
from avssl.downstream.robustness.models import RobustnessModel as RobustnessModel
from avssl.downstream.robustness.models import finetuned_model as finetuned_model
from avssl.downstream.robustness.models import linear_probe_model as linear_probe_model
from avssl.downstream.robustness.page import Example as Example
from avssl.downstream.robustness.page import write_robustness_page as write_robustness_page
from avssl.downstream.robustness.plots import draw_corruptions as draw_corruptions
from avssl.downstream.robustness.plots import draw_group_gaps as draw_group_gaps
from avssl.downstream.robustness.scores import score_corruptions as score_corruptions
from avssl.downstream.robustness.scores import score_disturbances as score_disturbances
from avssl.downstream.robustness.scores import score_groups as score_groups
from avssl.downstream.robustness.text import as_text as as_text
