"""The site builds without a warning, and its pages fit a screen and a phone."""

import functools
import http.server
import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files and prints nothing."""

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_site_has_every_page_of_its_navigation(site):
    for page in ("", "install", "concepts", "objectives", "datasets", "changelog", "api", "api/objectives"):
        assert (site / page / "index.html").is_file(), page


def test_api_shows_public_names_with_their_examples(site):
    page = (site / "api" / "objectives" / "index.html").read_text(encoding="utf-8")
    assert 'id="avssl.objectives.vicreg.vicreg"' in page
    assert ":func:" not in page
    assert "Example:" not in page
    for path in (site / "api").rglob("index.html"):
        page = path.read_text(encoding="utf-8")
        prompts = page.count("&gt;&gt;&gt;")
        assert 0 < prompts == page.count('<span class="gp">&gt;&gt;&gt; </span>'), f"{path}: examples are code"
    settings = (site / "api" / "config" / "index.html").read_text(encoding="utf-8")
    assert "Probability of a horizontal flip" in settings, "fields of a class that is made when it is imported"


def test_page_of_objectives_is_up_to_date():
    script = runpy.run_path(str(REPOSITORY / "docs" / "make_objectives.py"))
    page = script["PAGE"].read_text(encoding="utf-8")
    assert page == script["page"](), "run python docs/make_objectives.py"


def test_pages_fit_the_window(site, open_browser, tmp_path):
    pages = sorted(path.parent.relative_to(site).as_posix() for path in site.rglob("index.html"))
    pages = [page for page in pages if not page.startswith("api/") or page == "api/objectives"]
    handler = functools.partial(QuietHandler, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = open_browser(tmp_path / "profile")
        try:
            too_wide = []
            for width in (1280, 400):
                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                for page in pages:
                    browser.get(f"http://127.0.0.1:{server.server_port}/{page}/")
                    script = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
                    too_wide += [f"{page} at {width} pixels"] * bool(browser.execute_script(script))
        finally:
            browser.quit()
            server.shutdown()
    assert too_wide == []
