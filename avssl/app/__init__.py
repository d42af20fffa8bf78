"""The page of ``avssl app``: a video, the heat map of its sound or of another one, and moments that are alike.

Everything but the page itself (:mod:`avssl.app.page`) works without a browser and without gradio.
"""

from avssl.app.settings import AppError as AppError
from avssl.app.settings import AppSettings as AppSettings
