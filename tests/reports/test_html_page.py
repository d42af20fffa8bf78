import base64
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from jinja2 import UndefinedError

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


def macros():
    return html_page.page_macros("pieces.html")


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_an_image_in_a_page_can_be_decoded(kind):
    pixels = np.zeros((16, 32, 3), dtype=np.uint8)
    pixels[:, :16] = 200, 100, 50
    picture = html_page.encode_picture(pixels, kind)
    (_, found), *_ = Tags(str(macros().figure(picture, ""))).tags[1:]
    media, _, data = found["src"].partition(";base64,")
    assert media == f"data:image/{kind}"
    back = matplotlib.image.imread(BytesIO(base64.b64decode(data)), format=kind)[..., :3]
    back = np.asarray(back, dtype=float) * (255 if kind == "png" else 1)
    assert np.abs(back - pixels).mean() < (0.01 if kind == "png" else 3)  # JPEG smears color over the edge


def test_markup_in_names_is_escaped():
    picture = html_page.encode_picture(np.zeros((2, 2, 3), dtype=np.uint8))
    pieces = [
        macros().table([HOSTILE], [[HOSTILE]], HOSTILE),
        macros().figure(picture, HOSTILE),
        macros().image(picture, '" onerror="alert(1)'),
    ]
    found = Tags("".join(map(str, pieces)))
    assert "script" not in {tag for tag, _ in found.tags}
    assert not any("onerror" in attributes for _, attributes in found.tags)
    assert found.text.count(HOSTILE) == 3


def write_search_page(path, name):
    moment = {"headline": name, "start_seconds": 0.0, "stop_seconds": 1.0, "link": "a", "fragment": "a#t=0,1"}
    moment |= {"name": name, "problem": name, "thumbnail": None, "is_weak": True}
    groups = [{"title": name, "note": name, "moments": [moment]}]
    html_page.write_page(path, "search.html", title=name, query=[moment], groups=groups, warning=name)
    return path.read_text(encoding="utf-8")


def test_a_page_appears_whole_in_a_new_folder_and_escapes_every_value(tmp_path):
    found = Tags(write_search_page(tmp_path / "new" / "page.html", HOSTILE))
    assert "script" not in {tag for tag, _ in found.tags}
    assert found.text.count(HOSTILE) == 11
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["page.html"]


def test_a_template_without_a_value_is_an_error(tmp_path):
    with pytest.raises(UndefinedError, match="title"):
        html_page.write_page(tmp_path / "page.html", "search.html")
    assert not (tmp_path / "page.html").exists()


def test_templates_need_nothing_from_elsewhere_and_write_no_value_into_a_script():
    templates = list((Path(html_page.__file__).parent / "templates").glob("*.html"))
    assert len(templates) >= 8
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"https?:|url\(|@import|<script(?!>)|\|\s*safe|autoescape", text), template.name
        assert not any(re.search(r"{{|{%", script) for script in re.findall(r"<script>.*?</script>", text, re.DOTALL))


def test_file_names_that_are_not_utf8_are_written(tmp_path):
    page = write_search_page(tmp_path / "page.html", b"\xff.mp4".decode("utf-8", "surrogateescape"))
    assert "<h1>?.mp4</h1>" in page


def test_the_row_of_interest_is_highlighted():
    assert macros().table(["a"], [["x"], ["y"]], "y").count('class="ours"') == 1
    assert "class" not in macros().table(["a"], [["x"]])
