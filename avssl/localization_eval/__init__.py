"""Sound-source localization measured on clips whose source is known, beside everything it must be compared with."""

from avssl.localization_eval.instants import PointingWindow as PointingWindow
from avssl.localization_eval.instants import choose_window as choose_window
from avssl.localization_eval.measure import LocalizationTable as LocalizationTable
from avssl.localization_eval.measure import measure_localization as measure_localization
