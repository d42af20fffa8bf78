"""Evaluation of sound source localization on clips with known truth, beside baselines."""

from avssl.downstream.localization.clip_scores import HeatmapClips as HeatmapClips
from avssl.downstream.localization.clip_scores import heatmap_clips as heatmap_clips
from avssl.downstream.localization.clips import InstantClips as InstantClips
from avssl.downstream.localization.instants import Instant as Instant
from avssl.downstream.localization.instants import shapes_instant as shapes_instant
from avssl.downstream.localization.instants import visible_objects as visible_objects
from avssl.downstream.localization.maps import TRAINED as TRAINED
from avssl.downstream.localization.measure import LocalizationTable as LocalizationTable
from avssl.downstream.localization.measure import measure_localization as measure_localization
from avssl.downstream.localization.page import write_localization_page as write_localization_page
from avssl.downstream.localization.report import as_plain as as_plain
from avssl.downstream.localization.report import conditions as conditions
from avssl.downstream.localization.report import sections as sections
