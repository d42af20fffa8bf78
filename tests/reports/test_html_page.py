import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import matplotlib.image
import numpy as np
import pytest

from avssl.reports import html_page

HOSTILE = "<script>alert('x')</script>\"&.mp4"


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its plain text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_a_picture_in_a_page_is_the_picture(kind):
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 200, 100, 50
    picture = html_page.encode_picture(pixels, kind)
    (_, found), *_ = Tags(html_page.figure(picture, "")).tags[1:]
    media, _, data = found["src"].partition(";base64,")
    assert media == f"data:image/{kind}"
    back = matplotlib.image.imread(BytesIO(base64.b64decode(data)), format=kind)[..., :3]
    back = np.asarray(back, dtype=float) * (255 if kind == "png" else 1)
    assert np.abs(back - pixels).mean() < (0.01 if kind == "png" else 3)  # JPEG smears color over the edge


def test_hostile_names_stay_text(tmp_path):
    picture = html_page.encode_picture(np.zeros((2, 2, 3), dtype=np.uint8))
    body = [
        html_page.table([HOSTILE], [[HOSTILE]], ours=HOSTILE),
        html_page.figure(picture, HOSTILE),
        html_page.image(picture, "' onerror='alert(1)"),
    ]
    html_page.write_page(tmp_path / "new" / "page.html", HOSTILE, body)
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    found = Tags(page)
    assert "script" not in {tag for tag, _ in found.tags}
    assert not any("onerror" in attributes for _, attributes in found.tags)
    assert found.text.count(HOSTILE) == 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_page_needs_nothing_from_elsewhere(tmp_path):
    html_page.write_page(tmp_path / "page.html", "title", ["<p>text</p>"], "p { color: red; }")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.endswith("<body><p>text</p></body></html>\n")
    assert "p { color: red; }" in page
    assert not re.search(r"https?:|url\(|@import|<script", page)


def test_names_that_are_no_text_are_written_all_the_same(tmp_path):
    name = b"\xff.mp4".decode("utf-8", "surrogateescape")
    html_page.write_page(tmp_path / "page.html", name, [html_page.table(["file"], [[name]])])
    assert "<td>?.mp4</td>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_row_of_interest_is_set_off():
    assert html_page.table(["a"], [["x"], ["y"]], ours="y").count("class=ours") == 1
    assert "class=ours" not in html_page.table(["a"], [["x"]])
