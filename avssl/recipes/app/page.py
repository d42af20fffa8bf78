"""The layout of the page, in gradio; :class:`avssl.recipes.app.viewer.Viewer` does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from avssl.core.batch import Modality
from avssl.features.table import FeatureTableError
from avssl.media import MediaError
from avssl.recipes.app import page_texts
from avssl.recipes.app.heatmap_video import NOISE, OWN, SILENCE, AudioChoice, VideoAnalysis
from avssl.recipes.app.moment_search import SearchResult
from avssl.recipes.app.settings import AppError
from avssl.recipes.app.viewer import Viewer

_FAILURES = (MediaError, AppError, FeatureTableError)
"""Errors that a user can cause. Any other is a bug, whose traceback goes to the terminal."""

_AUDIO_CHOICES = {choice.name: choice for choice in (OWN, SILENCE, NOISE)}
_EXAMPLE, _FILE = "audio of another example", "audio of another file"

_ONE_AT_A_TIME: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
_AT_ONCE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_PROGRESS = gr.Progress()

STYLE = """
.gradio-container { max-width: 1180px !important; margin: 0 auto !important; }
.title h1 { font-size: 1.7rem; margin: .4rem 0 0; }
.title p { margin: .2rem 0 0; opacity: .8; }
.step h3 { margin: .2rem 0 0; font-size: 1.05rem; }
#message .failure { padding: .7rem 1rem; border-left: 4px solid #c2410c; background: #fff7ed; color: #7c2d12;
    border-radius: 4px; overflow-wrap: anywhere; }
#message .message { padding: .7rem 1rem; border-left: 4px solid #7c3aed; background: #f5f3ff; color: #2e1065;
    border-radius: 4px; }
.numbers table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.numbers th, .numbers td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #8884; }
.numbers th:first-child, .numbers td:first-child { text-align: left; overflow-wrap: anywhere; }
.numbers .note { font-size: .88rem; opacity: .8; margin: .5rem 0 0; }
#examples .grid-wrap, #found .grid-wrap { min-height: 0; max-height: 24rem; overflow-y: auto; }
#examples .caption-label, #found .caption-label { inset: auto 0 0 0; max-width: none; width: 100%; padding: .1rem .3rem;
    border-radius: 0; font-size: .75rem; line-height: 1.25; white-space: normal; }
#found .thumbnail-item { aspect-ratio: 4 / 5; } #found .caption-label { background: var(--background-fill-primary); }
#peaks { max-height: 16rem; overflow-y: auto; }
"""


def theme() -> gr.Theme:
    """Return a theme with system fonts only, because others would be fetched."""
    sans = [gr.themes.Font(name) for name in ("system-ui", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "monospace")]
    return gr.themes.Soft(primary_hue="violet", neutral_hue="slate", font=sans, font_mono=mono)


def build_page(viewer: Viewer, model: str) -> gr.Blocks:
    """Build the page.

    Args:
        viewer: Does the work.
        model: One line about the model.
    """
    with gr.Blocks(
        title="avssl: where is the sound source?", analytics_enabled=False, delete_cache=(600, 7200)
    ) as page:
        gr.Markdown(
            "# Where is the sound source?\n"
            "The model was trained on video with audio, without labels, to match the audio of a clip with its frames. "
            "Here it shows where in the frame the audio comes from. Everything stays on this machine.",
            elem_classes="title",
        )
        analysis, search_result = gr.State(None), gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                video, audio, other_example, other_file = _inputs(viewer)
                localize = gr.Button("Show the sound source", variant="primary", elem_id="localize")
            with gr.Column(scale=7, min_width=300):
                message = gr.HTML(elem_id="message")
                with gr.Tab("Heat map"):
                    shown = _heatmap_tab()
                with gr.Tab("Similar moments"):
                    query, search, found, moment = _search_tab()
        gr.HTML(page_texts.footnote(model), elem_classes="title")

        results = [*shown, analysis, message]
        video.change(lambda: (None, "", "", None, ""), None, results, **_AT_ONCE)
        chosen = [video, audio, other_example, other_file, analysis]
        localize.click(_localizer(viewer), chosen, results, show_progress_on=shown[0], **_ONE_AT_A_TIME)
        answers = [found, search_result, moment, message]
        search.click(_searcher(viewer), [video, *query], answers, show_progress_on=found, **_ONE_AT_A_TIME)
        found.select(_player(viewer), search_result, [moment, message], show_progress_on=moment, **_ONE_AT_A_TIME)
    return page


def _inputs(viewer: Viewer) -> tuple[gr.Video, gr.Radio, gr.Dropdown, gr.File]:
    """Build the left side: a video and the audio to localize."""
    gr.Markdown("### 1 · A video", elem_classes="step")
    video = gr.Video(label="Video", show_label=False, sources=["upload"], height=250, elem_id="video")
    gr.Markdown("or choose an example:")
    examples = _gallery([(example.picture, example.name) for example in viewer.examples], 3, "examples")
    gr.Markdown("### 2 · The audio to localize", elem_classes="step")
    choices = [*_AUDIO_CHOICES, _EXAMPLE, _FILE]
    audio = gr.Radio(choices, value=OWN.name, label="Audio", show_label=False, elem_id="audio")
    names = [(example.name, number) for number, example in enumerate(viewer.examples)]
    first_other = min(1, len(names) - 1)
    other_example = gr.Dropdown(names, value=first_other, label="Which example", visible=False, elem_id="other_example")
    other_file = gr.File(
        label="An audio or video file", file_types=["audio", "video"], height=130, visible=False, elem_id="other_file"
    )

    def choose(event: gr.SelectData) -> str:
        return str(viewer.example(int(event.index)))

    def show_choice(name: str) -> tuple[Any, Any]:
        return gr.update(visible=name == _EXAMPLE), gr.update(visible=name == _FILE)

    examples.select(choose, None, video, **_AT_ONCE)
    audio.change(show_choice, audio, [other_example, other_file], **_AT_ONCE)
    return video, audio, other_example, other_file


def _gallery(images: list[tuple[Any, str]] | None, columns: int, name: str) -> gr.Gallery:
    """Build a gallery of captioned images to choose from."""
    return gr.Gallery(
        images,
        show_label=False,
        columns=columns,
        height="auto",
        allow_preview=False,
        object_fit="cover",
        interactive=False,
        buttons=[],
        elem_id=name,
    )


def _heatmap_tab() -> list[Any]:
    """Build the first tab: the video, its numbers, and the peak of every map."""
    result = gr.Video(
        label="Heat map", interactive=False, autoplay=True, height=430, buttons=["download"], elem_id="result"
    )
    numbers = gr.HTML(elem_id="numbers", elem_classes="numbers")
    with gr.Accordion("The peak of every map", open=False):
        peaks = gr.HTML(elem_id="peaks", elem_classes="numbers")
    return [result, numbers, peaks]


def _search_tab() -> tuple[list[Any], gr.Button, gr.Gallery, gr.Video]:
    """Build the second tab: the query and the hits."""
    with gr.Row():
        by = gr.Radio([("its audio", "audio"), ("its frames", "video")], value="audio", label="Search by")
        gallery = gr.Radio([("frames", "video"), ("audio", "audio")], value="video", label="compare with")
        at = gr.Textbox("", label="around second", placeholder="the middle", max_lines=1, min_width=120, elem_id="at")
    search = gr.Button("Search", variant="primary", elem_id="search")
    gr.Markdown("Best first. Choose a hit to play it.")
    found = _gallery(None, 4, "found")
    moment = gr.Video(label="The moment", interactive=False, autoplay=True, height=260, buttons=[], elem_id="moment")
    return [by, gallery, at], search, found, moment


def _localizer(viewer: Viewer) -> Any:
    """Return a function that returns the video, the numbers, the peaks, the analysis and the message."""

    def run(
        video: str | None,
        audio: str,
        other_example: int | None,
        other_file: str | None,
        analysis: VideoAnalysis | None,
        progress: gr.Progress = _PROGRESS,
    ) -> tuple[Any, ...]:
        try:
            choice = _audio_choice(viewer, audio, other_example, other_file)
            out, result = viewer.heatmap_video(
                _uploaded(video), choice, analysis, lambda share, step: progress(share, desc=step)
            )
        except _FAILURES as error:
            return None, "", "", analysis, page_texts.failure(error)
        return (
            str(out),
            page_texts.scores(result),
            page_texts.peaks(result.peaks),
            result,
            page_texts.verdict(result),
        )

    return run


def _searcher(viewer: Viewer) -> Any:
    """Return a function that returns the gallery, the search result, the player and the message."""

    def run(
        video: str | None, by: Modality, gallery: Modality, at: str, progress: gr.Progress = _PROGRESS
    ) -> tuple[Any, ...]:
        def report(done: int, total: int) -> None:
            progress(done / total, desc="embedding the examples")

        try:
            result = viewer.search(_uploaded(video), by, gallery, _second(at), report)
        except _FAILURES as error:
            return [], None, None, page_texts.failure(error)
        images = [(hit.picture, hit.caption) for hit in result.hits]
        return images, result, None, page_texts.message(result.note)

    return run


def _player(viewer: Viewer) -> Any:
    """Return a function that plays a hit."""

    def run(result: SearchResult, event: gr.SelectData) -> tuple[Any, str]:
        try:
            return str(viewer.moment(result.hits[int(event.index)].moment)), gr.skip()
        except _FAILURES as error:
            return None, page_texts.failure(error)

    return run


def _uploaded(video: str | None) -> Path:
    if video is None:
        raise AppError("Choose a video first: drop a file on the left, or choose an example.")
    return Path(video)


def _second(text: str) -> float | None:
    """Parse the text field; None if it is empty."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise AppError(f"{text.strip()!r:.20} is not a number; leave the field empty for the middle.") from None


def _audio_choice(viewer: Viewer, name: str, example: int | None, file: str | None) -> AudioChoice:
    if name == _EXAMPLE:
        chosen = viewer.examples[example or 0]
        return AudioChoice(f"audio of {chosen.name}", chosen.file)
    if name == _FILE:
        if file is None:
            raise AppError("Choose the file whose audio to localize, or another kind of audio.")
        return AudioChoice(f"audio of {Path(file).name}", Path(file))
    return _AUDIO_CHOICES[name]
