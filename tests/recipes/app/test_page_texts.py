from pathlib import Path

from avssl.media import MediaError
from avssl.recipes.app import page_texts
from avssl.recipes.app.heatmap_video import AudioScore, VideoAnalysis
from avssl.recipes.app.settings import AppError

PEAKS = (
    {"second": 0.25, "x": 10.0, "y": 20.4, "confidence": 0.5},
    {"second": 1.75, "x": 30.6, "y": 40.0, "confidence": 0.75},
)
HOSTILE = "<img src=x onerror=alert(1)>"


def analysis(total_seconds: float = 2.0) -> VideoAnalysis:
    scores = (AudioScore("its own audio", 0.625, PEAKS[1]), AudioScore(HOSTILE, 0.25, PEAKS[0]))
    return VideoAnalysis(Path("a.mp4"), (48, 64), scores, (0.1, 0.75), PEAKS, 2.0, total_seconds)


def one_line(text: str) -> str:
    return " ".join(text.split())


def test_verdict_names_the_highest_peak():
    assert one_line(page_texts.verdict(analysis())) == (
        '<div class="message" role="status"> Highest at <b>1.75 s</b>, at x 31, y 40 of 64 × 48 pixels: '
        "cosine <b>0.75</b>. </div>"
    )


def test_verdict_says_how_much_was_left_out():
    said = one_line(page_texts.verdict(analysis(total_seconds=95.0)))
    assert "The video is 95 s long; its first 2 s are shown." in said
    assert "avssl app --seconds" in said


def test_every_audio_has_a_row_and_names_are_escaped():
    said = one_line(page_texts.scores(analysis()))
    assert "<td>its own audio</td><td>0.750</td><td>0.625</td><td>1.75 s</td><td>31</td><td>40</td>" in said
    assert "&lt;img src=x onerror=alert(1)&gt;" in said
    assert HOSTILE not in said
    assert "from cosine 0.10 to 0.75" in said


def test_every_peak_has_a_row():
    said = page_texts.peaks(PEAKS)
    assert said.count("<tr>") == 3
    assert "<tr><td>0.25</td><td>0.500</td><td>10</td><td>20</td></tr>" in said


def test_failures_have_advice_and_are_escaped():
    no_audio = MediaError(
        f"/tmp/x/{HOSTILE}.mp4", "audio", "no_audio", "there is no audio stream.", "Do this in Python."
    )
    assert page_texts.failure(no_audio) == (
        '<div class="failure" role="alert"><b>&lt;img src=x onerror=alert(1)&gt;.mp4</b>: there is no audio stream. '
        "Choose other audio for it: silence, noise or that of another file.</div>"
    )
    damaged = MediaError("/tmp/b.mp4", "container", "not_media", "no <i>known</i> format.", "")
    assert "<b>b.mp4</b>: no &lt;i&gt;known&lt;/i&gt; format. Choose another file, or" in page_texts.failure(damaged)
    assert ">a &lt;b&gt;<" in page_texts.failure(AppError("a <b>"))
    assert "<i>" not in page_texts.message("<i>")
