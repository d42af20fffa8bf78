"""The page itself, in gradio. It shows; :class:`avssl.recipes.app.viewer.Viewer` works."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

import gradio as gr

from avssl.features.table import FeatureTableError
from avssl.media import MediaError
from avssl.models import Modality
from avssl.recipes.app import words
from avssl.recipes.app.looking import NOISE, OWN, SILENCE, ChosenSound, Looked
from avssl.recipes.app.settings import AppError
from avssl.recipes.app.similar import Answer
from avssl.recipes.app.viewer import Viewer

_FAILURES = (MediaError, AppError, FeatureTableError)
"""What a user can cause. Anything else is a bug, whose traceback belongs into the terminal."""

_SOUNDS = {sound.name: sound for sound in (OWN, SILENCE, NOISE)}
_EXAMPLE, _FILE = "another example's sound", "another file's sound"

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
#message .said { padding: .7rem 1rem; border-left: 4px solid #7c3aed; background: #f5f3ff; color: #2e1065;
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
    """Fonts of the system alone: others would be fetched."""
    sans = [gr.themes.Font(name) for name in ("system-ui", "sans-serif")]
    mono = [gr.themes.Font(name) for name in ("ui-monospace", "monospace")]
    return gr.themes.Soft(primary_hue="violet", neutral_hue="slate", font=sans, font_mono=mono)


def build_page(viewer: Viewer, model: str) -> gr.Blocks:
    """The page, not yet served.

    Args:
        viewer: What does the work.
        model: A line on which model it is.
    """
    with gr.Blocks(title="avssl: where is the sound?", analytics_enabled=False, delete_cache=(600, 7200)) as page:
        gr.Markdown(
            "# Where is the sound?\n"
            "The model learned from video with its own sound, without labels: which sound belongs to which picture. "
            "Here it points at what you hear. Everything stays on this machine.",
            elem_classes="title",
        )
        known, answer = gr.State(None), gr.State(None)
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=300):
                video, sound, other_example, other_file = _inputs(viewer)
                look = gr.Button("Show where the sound is", variant="primary", elem_id="look")
            with gr.Column(scale=7, min_width=300):
                message = gr.HTML(elem_id="message")
                with gr.Tab("Heat map"):
                    shown = _heat_map()
                with gr.Tab("Similar moments"):
                    asked, search, found, moment = _search()
        gr.Markdown(f"<small>{html.escape(model)}</small>", elem_classes="title")

        results = [*shown, known, message]
        video.change(lambda: (None, "", "", None, ""), None, results, **_AT_ONCE)
        chosen = [video, sound, other_example, other_file, known]
        look.click(_looker(viewer), chosen, results, show_progress_on=shown[0], **_ONE_AT_A_TIME)
        answers = [found, answer, moment, message]
        search.click(_searcher(viewer), [video, *asked], answers, show_progress_on=found, **_ONE_AT_A_TIME)
        found.select(_player(viewer), answer, [moment, message], show_progress_on=moment, **_ONE_AT_A_TIME)
    return page


def _inputs(viewer: Viewer) -> tuple[gr.Video, gr.Radio, gr.Dropdown, gr.File]:
    """The left side: a video and a sound."""
    gr.Markdown("### 1 · A video", elem_classes="step")
    video = gr.Video(label="Video", show_label=False, sources=["upload"], height=250, elem_id="video")
    gr.Markdown("or take one of these:")
    examples = _gallery([(example.picture, example.name) for example in viewer.examples], 3, "examples")
    gr.Markdown("### 2 · A sound to look for", elem_classes="step")
    sound = gr.Radio([*_SOUNDS, _EXAMPLE, _FILE], value=OWN.name, label="Sound", show_label=False, elem_id="sound")
    names = [(example.name, number) for number, example in enumerate(viewer.examples)]
    first_other = min(1, len(names) - 1)
    other_example = gr.Dropdown(names, value=first_other, label="Which example", visible=False, elem_id="other_example")
    other_file = gr.File(
        label="A sound or a video", file_types=["audio", "video"], height=130, visible=False, elem_id="other_file"
    )

    def choose(event: gr.SelectData) -> str:
        return str(viewer.example(int(event.index)))

    def uncover(name: str) -> tuple[Any, Any]:
        return gr.update(visible=name == _EXAMPLE), gr.update(visible=name == _FILE)

    examples.select(choose, None, video, **_AT_ONCE)
    sound.change(uncover, sound, [other_example, other_file], **_AT_ONCE)
    return video, sound, other_example, other_file


def _gallery(pictures: list[tuple[Any, str]] | None, columns: int, name: str) -> gr.Gallery:
    """Captioned pictures to choose from."""
    return gr.Gallery(
        pictures,
        show_label=False,
        columns=columns,
        height="auto",
        allow_preview=False,
        object_fit="cover",
        interactive=False,
        buttons=[],
        elem_id=name,
    )


def _heat_map() -> list[Any]:
    """The first tab: the video, its numbers, and the peak of every map."""
    result = gr.Video(
        label="Heat map", interactive=False, autoplay=True, height=430, buttons=["download"], elem_id="result"
    )
    numbers = gr.HTML(elem_id="numbers", elem_classes="numbers")
    with gr.Accordion("The peak of every map", open=False):
        peaks = gr.HTML(elem_id="peaks", elem_classes="numbers")
    return [result, numbers, peaks]


def _search() -> tuple[list[Any], gr.Button, gr.Gallery, gr.Video]:
    """The second tab: what to look for, and what was found."""
    with gr.Row():
        by = gr.Radio([("its sound", "audio"), ("its picture", "video")], value="audio", label="Look for")
        gallery = gr.Radio([("pictures", "video"), ("sounds", "audio")], value="video", label="among")
        at = gr.Textbox("", label="around second", placeholder="the middle", max_lines=1, min_width=120, elem_id="at")
    search = gr.Button("Search", variant="primary", elem_id="search")
    gr.Markdown("Best first. Choose one to play it.")
    found = _gallery(None, 4, "found")
    moment = gr.Video(label="The moment", interactive=False, autoplay=True, height=260, buttons=[], elem_id="moment")
    return [by, gallery, at], search, found, moment


def _looker(viewer: Viewer) -> Any:
    """Draws a heat map: values of the video, the numbers, the peaks, what is known, and the message."""

    def run(
        video: str | None,
        sound: str,
        other_example: int | None,
        other_file: str | None,
        known: Looked | None,
        progress: gr.Progress = _PROGRESS,
    ) -> tuple[Any, ...]:
        try:
            chosen = _chosen(viewer, sound, other_example, other_file)
            out, looked = viewer.look(_given(video), chosen, known, lambda share, doing: progress(share, desc=doing))
        except _FAILURES as error:
            return None, "", "", known, _failure(error)
        return str(out), words.sounds(looked), words.peaks(looked.peaks), looked, _said(words.verdict(looked))

    return run


def _searcher(viewer: Viewer) -> Any:
    """Searches: values of the gallery, the answer itself, the player, and the message."""

    def run(
        video: str | None, by: Modality, gallery: Modality, at: str, progress: gr.Progress = _PROGRESS
    ) -> tuple[Any, ...]:
        def report(done: int, total: int) -> None:
            progress(done / total, desc="embedding the examples")

        try:
            answer = viewer.search(_given(video), by, gallery, _second(at), report)
        except _FAILURES as error:
            return [], None, None, _failure(error)
        pictures = [(card.picture, card.caption) for card in answer.cards]
        return pictures, answer, None, _said(html.escape(answer.note))

    return run


def _player(viewer: Viewer) -> Any:
    """Plays a moment that was found."""

    def run(answer: Answer, event: gr.SelectData) -> tuple[Any, str]:
        try:
            return str(viewer.moment(answer.cards[int(event.index)].moment)), gr.skip()
        except _FAILURES as error:
            return None, _failure(error)

    return run


def _given(video: str | None) -> Path:
    if video is None:
        raise AppError("Choose a video first: drop a file on the left, or take an example.")
    return Path(video)


def _second(text: str) -> float | None:
    """What was typed; None where nothing was."""
    try:
        return float(text) if text.strip() else None
    except ValueError:
        raise AppError(f"{text.strip()!r:.20} is no number of seconds; leave it empty for the middle.") from None


def _chosen(viewer: Viewer, name: str, example: int | None, file: str | None) -> ChosenSound:
    if name == _EXAMPLE:
        chosen = viewer.examples[example or 0]
        return ChosenSound(f"sound of {chosen.name}", chosen.file)
    if name == _FILE:
        if file is None:
            raise AppError("Choose the file whose sound to look for, or another sound.")
        return ChosenSound(f"sound of {Path(file).name}", Path(file))
    return _SOUNDS[name]


def _failure(error: Exception) -> str:
    return f"<div class='failure' role='alert'>{words.failure(error)}</div>"


def _said(text: str) -> str:
    return f"<div class='said' role='status'>{text}</div>"
