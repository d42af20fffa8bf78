"""Sound-source localization measured on clips whose source is known, beside everything it must be compared with."""

from avssl.localization_eval.clips import InstantClips as InstantClips
from avssl.localization_eval.embed import TRAINED as TRAINED
from avssl.localization_eval.instants import Instant as Instant
from avssl.localization_eval.instants import shapes_instant as shapes_instant
from avssl.localization_eval.instants import visible_objects as visible_objects
from avssl.localization_eval.measure import LocalizationTable as LocalizationTable
from avssl.localization_eval.measure import measure_localization as measure_localization
from avssl.localization_eval.page import write_localization_page as write_localization_page
from avssl.localization_eval.report import as_plain as as_plain
from avssl.localization_eval.report import conditions as conditions
from avssl.localization_eval.report import sections as sections
