"""Heat maps of video and audio, energy curves, and their drawings."""

from avssl.core.batch import Heatmap as Heatmap
from avssl.localization.drawing.blend import overlay_image as overlay_image
from avssl.localization.drawing.energy_plot import draw_sync_curve as draw_sync_curve
from avssl.localization.drawing.overlay import overlay_picture as overlay_picture
from avssl.localization.drawing.overlay import overlay_video as overlay_video
from avssl.localization.drawing.panel import Look as Look
from avssl.localization.drawing.readout import readout as readout
from avssl.localization.energy import EnergyCurve as EnergyCurve
from avssl.localization.energy import energy_curve as energy_curve
from avssl.localization.heatmap import heatmap_readout as heatmap_readout
from avssl.localization.heatmap import sliding_heatmaps as sliding_heatmaps
from avssl.localization.similarity import maps_at as maps_at
from avssl.localization.similarity import upsample as upsample
from avssl.localization.sync import SyncCurve as SyncCurve
from avssl.localization.sync import sync_curve as sync_curve
