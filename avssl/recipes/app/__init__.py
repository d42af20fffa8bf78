"""The verb ``app``: a page in the browser."""

from __future__ import annotations

from avssl.recipes.app.server import serve
from avssl.recipes.app.settings import AppSettings


def app(*, settings: AppSettings | None = None) -> None:
    """Open a page in the browser to localize and search sound sources in videos.

    Drop a video or choose an example, watch it under its heat map, replace its audio, and search for similar moments.
    The page is served to this machine only, and nothing is sent or fetched. Stop it with Ctrl-C. Needs gradio:
    pip install 'avssl[demo]'.

    Args:
        settings: Model, files and address.

    Raises:
        AppError: If gradio is missing, there are no examples, or the port is taken.
        HubError: If there is no model at the checkpoint.
        FeatureTableError: If the table cannot be used, or was made by another model.
    """
    serve(settings or AppSettings())
