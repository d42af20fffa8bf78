"""Serve the page on 127.0.0.1 until the process is interrupted."""

from __future__ import annotations

import importlib.util
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from avssl.core.manifest import is_url
from avssl.engine import choose_device
from avssl.features.search import model_of_table, table_place
from avssl.features.table import FeatureTable, read_feature_table
from avssl.hub.pretrained import PretrainedModel, demo_weights, from_pretrained
from avssl.recipes.app.examples import find_examples, render_examples
from avssl.recipes.app.local_only import LocalOnly, block_connections
from avssl.recipes.app.moment_search import SearchTable
from avssl.recipes.app.request_limit import RequestLimit
from avssl.recipes.app.settings import MAX_UPLOAD_BYTES, AppError, AppSettings
from avssl.recipes.app.viewer import Viewer

_ADDRESS = "127.0.0.1"


def serve(settings: AppSettings) -> None:
    """Serve the page until Ctrl-C or SIGTERM, then remove every file that it wrote.

    Raises:
        AppError: If gradio is missing, there are no examples, or the port is taken.
        HubError: If there is no model at ``settings.checkpoint``.
        FeatureTableError: If the table cannot be used, or was made by another model.
    """
    if importlib.util.find_spec("gradio") is None:
        raise AppError("the page needs gradio: pip install 'avssl[demo]'")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="avssl_app_")))
        stack.enter_context(_sigterm_as_interrupt())
        stack.enter_context(_environment(folder / "cache"))
        viewer = make_viewer(settings, folder)
        block_connections()
        page = _launch(viewer, settings.port)
        stack.callback(page.close, verbose=False)
        print(f"open http://{_ADDRESS}:{page.server_port} in a browser; press Ctrl-C to stop", flush=True)
        _wait()


def make_viewer(settings: AppSettings, folder: Path) -> Viewer:
    """Load the model, the table and the examples.

    Args:
        settings: The options.
        folder: Folder for rendered examples (``examples/``) and results (``cache/``).
    """
    search_table = None
    if settings.features is not None:
        table = read_feature_table(settings.features)
        cropped = model_of_table(table, settings.features, settings.checkpoint, settings.device)
        search_table = SearchTable(table, _root(table, settings), limits=settings.limits)
    else:
        cropped = from_pretrained(settings.checkpoint or demo_weights(), choose_device(settings.device))
    # The map is drawn over the whole frame, so the model must get the whole frame.
    whole = replace(from_pretrained(cropped.source, cropped.device, crop="full"), model=cropped.model)
    examples_folder = Path(settings.examples) if settings.examples is not None else folder / "examples"
    if settings.examples is not None:
        examples = find_examples(examples_folder, settings.limits)
    else:
        examples = render_examples(examples_folder)
    results = folder / "cache" / "results"
    return Viewer(
        whole, cropped, results, settings.seconds, examples, examples_folder, search_table, limits=settings.limits
    )


def describe(pretrained: PretrainedModel) -> str:
    """Return a line about the model."""
    config, sampling = pretrained.config, pretrained.sampling
    millions = sum(parameter.numel() for parameter in pretrained.model.parameters()) / 1e6
    source, warning = pretrained.source, ""
    if source == str(demo_weights()):
        source = "the small one that comes with avssl"
        warning = (
            " It was trained on rendered scenes and one talking face; train one on your own videos with avssl pretrain."
        )
    return (
        f"Model: {source}, {config.model.video.title} + {config.model.audio.title}, {millions:.1f} M parameters, "
        f"trained with {config.objective.name}. Its input is {sampling.video_seconds:g} s of video and "
        f"{sampling.audio_seconds:g} s of audio.{warning}"
    )


def _root(table: FeatureTable, settings: AppSettings) -> Path:
    """Return the folder of a table's files."""
    if settings.root is not None:
        return Path(settings.root)
    if is_url(table.info.root):
        raise AppError(f"{settings.features}: its files are at {table.info.root}. Copy them here and set --root.")
    assert settings.features is not None
    return table_place(settings.features, table.info.root)


def _launch(viewer: Viewer, port: int | None) -> Any:
    """Start serving the page from threads of this process."""
    from starlette.middleware import Middleware

    from avssl.recipes.app.page import STYLE, build_page, theme

    page = build_page(viewer, describe(viewer.whole))
    page.queue(max_size=32)
    try:
        page.launch(
            server_name=_ADDRESS,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            root_path="",
            max_file_size=MAX_UPLOAD_BYTES,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            theme=theme(),
            css=STYLE,
            app_kwargs={"middleware": [Middleware(LocalOnly), Middleware(RequestLimit, max_bytes=MAX_UPLOAD_BYTES)]},
        )
    except OSError as error:  # gradio's message names its own options
        taken = "ports 7860 to 7959 are" if port is None else f"port {port} is"
        raise AppError(f"{taken} taken on this machine. Choose another with --port.") from error
    return page


def _wait() -> None:
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("\nstopped", flush=True)


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Turn SIGTERM into KeyboardInterrupt, so that files are removed in both cases."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _environment(cache: Path) -> Iterator[None]:
    """Set options that gradio reads from the environment only, and override the user's."""
    ours = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_TEMP_DIR": str(cache),
        "GRADIO_ALLOWED_PATHS": "",
        "GRADIO_NUM_WORKERS": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    for name in ("no_proxy", "NO_PROXY"):  # gradio checks that its own server responds
        ours[name] = ",".join(filter(None, [os.environ.get(name), _ADDRESS]))
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
