"""A sound and a picture to a heat map; a heat map to something people can watch."""

from avssl.localization.drawing import contact_sheet as contact_sheet
from avssl.localization.drawing import overlay_image as overlay_image
from avssl.localization.heatmap import cosine_map as cosine_map
from avssl.localization.heatmap import heatmap_readout as heatmap_readout
from avssl.localization.heatmap import localize as localize
from avssl.localization.heatmap import localize_each as localize_each
from avssl.localization.heatmap import maps_at as maps_at
from avssl.localization.heatmap import upsample as upsample
from avssl.localization.matching import EnergyCurve as EnergyCurve
from avssl.localization.matching import SyncCurve as SyncCurve
from avssl.localization.matching import energy_curve as energy_curve
from avssl.localization.matching import sync_curve as sync_curve
from avssl.localization.matching_plot import draw_sync_curve as draw_sync_curve
from avssl.localization.overlay import overlay_picture as overlay_picture
from avssl.localization.overlay import overlay_video as overlay_video
from avssl.localization.panel import Look as Look
from avssl.localization.readout import readout as readout
