"""The page as a person meets it: served by a process of its own, in a real browser."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from html.parser import HTMLParser
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
WAIT_SECONDS = 120

# The app itself, with a note of every name and address that any library asks for, and a small bound on uploads.
APP = """
import sys

def note(event, arguments):
    if event == "socket.getaddrinfo":
        asked.write(f"{arguments[0]}\\n")
    elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
        asked.write(f"{arguments[1][0]}\\n")

asked = open(sys.argv[1], "w", buffering=1)
sys.addaudithook(note)
import avssl.recipes.app.server
avssl.recipes.app.server.MAX_UPLOAD_BYTES = 200 * 1024
from avssl.cli import main
sys.exit(main(["app", *sys.argv[2:]]))
"""


class App:
    """A running app."""

    def __init__(self, folder, words):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.asked, self.temporary = folder / "asked.txt", folder / "tmp"
        self.temporary.mkdir()
        environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        environment |= {"HTTP_PROXY": "http://10.1.2.3:9", "http_proxy": "http://10.1.2.3:9"}  # nobody is there
        environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), environment.get("PYTHONPATH", "")])
        command = [sys.executable, "-c", APP, self.asked, *words, "--port", self.port, "--device", "cpu"]
        self.process = subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.said: list[str] = []
        self.ready = threading.Event()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self):
        with self.process.stdout as lines:
            for line in lines:
                self.said.append(line)
                if line.startswith("open http"):
                    self.ready.set()
        self.ready.set()

    def wait_until_ready(self):
        assert self.ready.wait(WAIT_SECONDS), "the app did not start in time"
        assert self.process.poll() is None, "".join(self.said)

    def get(self, path="/", sent=None, **headers):
        """Status, headers and body."""
        request = urllib.request.Request(self.url + path, sent, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def stop(self):
        """The exit status after SIGTERM, which is waited for."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(WAIT_SECONDS)
        self.listener.join(WAIT_SECONDS)
        return status


@pytest.fixture(scope="module")
def app(require, release, clips, tmp_path_factory):
    require("chromium")
    folder = tmp_path_factory.mktemp("app")
    app = App(folder, ["--checkpoint", release, "--examples", clips, "--seconds", 1.25])
    yield app
    app.stop()
    print("".join(app.said))  # shown where a test fails


@pytest.fixture(scope="module")
def browser(app, open_browser, tmp_path_factory):
    browser = open_browser(tmp_path_factory.mktemp("browser"), loggingPrefs={"performance": "ALL"})
    app.wait_until_ready()
    yield browser
    browser.quit()


@pytest.fixture
def page(app, browser):
    """The page, fresh."""
    browser.get(app.url)
    return Page(browser)


class Page:
    """What a person does with it. Places are CSS selectors."""

    def __init__(self, browser):
        self.browser = browser
        self.wait(lambda: self.all("#localize"))
        self.wait(lambda: len(self.all("#examples img")) == 2)

    def all(self, place):
        return self.browser.find_elements("css selector", place)

    def wait(self, what):
        from selenium.common.exceptions import StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        until = WebDriverWait(self.browser, WAIT_SECONDS, 0.2, [StaleElementReferenceException])
        return until.until(lambda _: what())

    def text(self, place):
        return self.browser.find_element("css selector", place).text

    def click(self, place, words=""):
        next(element for element in self.all(place) if words in element.text).click()

    def upload(self, place, file):
        self.browser.find_element("css selector", f"{place} input[type=file]").send_keys(str(file))

    def choose_example(self, number):
        self.all("#examples button.thumbnail-item")[number].click()
        return self.wait_for_video("#video")

    def localize(self):
        """Press the button and return the message."""
        self.click("#localize")
        return self.wait(lambda: self.text("#message"))

    def wait_for_video(self, place, other_than=None):
        """(address, seconds, width, height) of the video there, once it could be played."""
        script = """const video = document.querySelector(arguments[0] + ' video');
            return video && video.readyState >= 2 && video.currentSrc != arguments[1]
                ? [video.currentSrc, video.duration, video.videoWidth, video.videoHeight] : null"""
        return self.wait(lambda: self.browser.execute_script(script, place, other_than))

    def rows(self):
        """The table of scores as text."""
        return [row.text for row in self.all("#numbers tbody tr")]


def test_an_example_plays_under_the_map_of_its_sound_and_of_others(page):
    page.choose_example(0)
    said = page.localize()
    assert "Highest at" in said
    assert "of 48 × 48 pixels: cosine" in said
    assert "its first 1.25 s are shown" in said
    own, seconds, width, height = page.wait_for_video("#result")
    assert seconds == pytest.approx(1.25, abs=0.15)
    assert height > width  # the strip is under the square picture
    (row,) = page.rows()
    assert row.startswith("its own audio")

    page.click("#audio label", "silence")
    page.click("#localize")
    page.wait(lambda: len(page.rows()) == 2)
    assert page.rows()[0] == row
    assert page.rows()[1].startswith("silence")
    assert page.rows()[1].removeprefix("silence") != row.removeprefix("its own audio")
    assert page.text("#message") != said
    page.wait_for_video("#result", other_than=own)

    page.click("#audio label", "audio of another example")
    page.wait(lambda: page.all("#other_example input"))
    page.click("#localize")
    page.wait(lambda: len(page.rows()) == 3)
    assert page.rows()[2].startswith("audio of sub/b.mp4")
    page.choose_example(1)  # another video: what was known is gone
    page.wait(lambda: not page.rows())


def test_moments_are_found_and_played(page):
    page.choose_example(1)
    page.click("button[role=tab]", "Similar moments")
    page.wait(lambda: page.all("#search")[0].is_displayed())
    page.click("#search")
    page.wait(lambda: len(page.all("#found img")) == 2)
    assert "Video windows that match the audio" in page.text("#message")
    assert "4 windows of 2 files" in page.text("#message")
    assert "cosine" in page.text("#found")
    page.all("#found button.thumbnail-item")[0].click()
    _, seconds, *_ = page.wait_for_video("#moment")
    assert seconds == pytest.approx(1.0, abs=0.15)


def test_what_cannot_be_shown_is_said_in_words(page, mute, clips, tmp_path):
    assert page.localize() == "Choose a video first: drop a file on the left, or choose an example."
    hostile = tmp_path / "<img src=x onerror=document.title=1>.mp4"
    hostile.write_bytes(mute.read_bytes())
    page.upload("#video", hostile)
    page.wait_for_video("#video")
    page.wait(lambda: not page.text("#message"))
    said = page.localize()
    assert "there is no audio stream. Choose other audio for it" in said
    assert page.browser.title == "avssl: where is the sound source?"
    assert not page.all("#message img")

    page.click("#audio label", "audio of another file")
    page.wait(lambda: page.all("#other_file input[type=file]"))
    page.click("#localize")
    page.wait(lambda: "Choose the file whose audio to localize" in page.text("#message"))
    fake = tmp_path / "fake.mp4"
    fake.write_bytes((clips / "broken.mp4").read_bytes())
    page.upload("#other_file", fake)
    page.wait(lambda: page.all("#other_file .file-preview"))  # while it is sent, its name is already there
    page.click("#localize")
    page.wait(lambda: "fake.mp4: " in page.text("#message"))
    assert "convert this one to mp4" in page.text("#message")
    assert "Traceback" not in page.browser.page_source


class Addresses(HTMLParser):
    """What a page would fetch."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [value for name, value in attributes if name in ("src", "href") and tag != "a"]


def test_nothing_is_fetched_from_elsewhere(app, page):
    _, headers, text = app.get()
    addresses = Addresses(text).found
    assert len(addresses) > 2
    assert not [address for address in addresses if "//" in address and not address.startswith(app.url)]
    assert "default-src 'self'" in headers["content-security-policy"]
    messages = [json.loads(entry["message"])["message"] for entry in page.browser.get_log("performance")]
    requests = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    ours = [url for url in requests if url.startswith(f"{app.url}/")]
    assert len(ours) > 20
    assert not [url for url in requests if url not in ours and not url.startswith(("data:", "blob:", "chrome:"))]
    assert set(app.asked.read_text().split()) <= {"127.0.0.1"}


def test_no_other_page_and_no_other_file_is_served(app, page, clips):
    assert app.get()[0] == 200
    assert app.get(Host="evil.example")[0] == 403
    assert app.get(Origin="http://evil.example")[0] == 403
    for path in ("/etc/passwd", clips / "a.mp4", REPOSITORY / "pyproject.toml", app.asked):
        assert app.get(f"/gradio_api/file={path}")[0] in (403, 404)


def test_an_upload_is_bounded(app, page, tmp_path):
    large = tmp_path / "large.mp4"
    large.write_bytes(os.urandom(300_000))
    page.upload("#video", large)
    page.wait(lambda: 'exceed the maximum allowed size of 200.0 Kb: "large.mp4"' in page.text("body"))
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="large.mp4"\r\n\r\n'
    several = b"\r\n".join(head + large.read_bytes()[:120_000] for _ in range(2))
    for body in (head + large.read_bytes() + b"\r\n--x--\r\n", several + b"\r\n--x--\r\n"):
        assert app.get("/gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=x"})[0] == 413
    assert not [path for path in app.temporary.rglob("*") if path.is_file() and path.stat().st_size > 200_000]


def test_everything_is_removed_at_the_end(app, browser):
    assert list(app.temporary.glob("avssl_app_*"))
    assert app.stop() == 0, "".join(app.said)
    assert not list(app.temporary.glob("avssl_app_*"))
    assert "stopped\n" in app.said
    assert not [line for line in app.said if "Traceback" in line]
