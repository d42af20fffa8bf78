from pathlib import Path

from avssl.media import MediaError
from avssl.recipes.app import words
from avssl.recipes.app.looking import Heard, Looked
from avssl.recipes.app.settings import AppError

PEAKS = (
    {"second": 0.25, "x": 10.0, "y": 20.4, "confidence": 0.5},
    {"second": 1.75, "x": 30.6, "y": 40.0, "confidence": 0.75},
)
HOSTILE = "<img src=x onerror=alert(1)>"


def looked(**changes) -> Looked:
    heard = (Heard("its own sound", 0.625, PEAKS[1]), Heard(HOSTILE, 0.25, PEAKS[0]))
    plain = {"video": Path("a.mp4"), "frame_hw": (48, 64), "heard": heard, "scale": (0.1, 0.75), "peaks": PEAKS}
    return Looked(**(plain | {"seconds": 2.0} | changes))


def test_the_surest_map_is_named_with_its_place():
    assert words.verdict(looked()) == ("Surest at <b>1.75 s</b>, at x 31, y 40 of 64 × 48 pixels: cosine <b>0.75</b>.")


def test_what_was_left_out_is_said():
    said = words.verdict(looked(left_out_seconds=93.0))
    assert "This video is 95 s long; its first 2 s are shown." in said
    assert "avssl app --seconds" in said


def test_every_sound_has_a_row_and_no_markup_of_its_own():
    said = words.sounds(looked())
    assert "<td>its own sound</td><td>0.750</td><td>0.625</td><td>1.75 s</td><td>31</td><td>40</td>" in said
    assert "&lt;img src=x onerror=alert(1)&gt;" in said
    assert HOSTILE not in said
    assert "from cosine 0.10 to 0.75" in said


def test_every_peak_has_a_row():
    said = words.peaks(PEAKS)
    assert said.count("<tr>") == 3
    assert "<tr><td>0.25</td><td>0.500</td><td>10</td><td>20</td></tr>" in said


def test_failures_are_sentences_with_advice():
    no_audio = MediaError(
        f"/tmp/x/{HOSTILE}.mp4", "audio", "no_audio", "there is no sound track.", "Do this in Python."
    )
    said = words.failure(no_audio)
    assert said == (
        "<b>&lt;img src=x onerror=alert(1)&gt;.mp4</b>: there is no sound track. "
        "Choose another sound for it, such as silence, noise or that of another file."
    )
    damaged = MediaError("/tmp/b.mp4", "container", "not_media", "no <i>known</i> format.", "")
    assert words.failure(damaged).startswith(
        "<b>b.mp4</b>: no &lt;i&gt;known&lt;/i&gt; format. Choose another file, or"
    )
    assert words.failure(AppError("a <b>")) == "a &lt;b&gt;"
