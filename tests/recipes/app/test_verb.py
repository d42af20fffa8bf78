import subprocess
import sys

import pytest

from avssl.cli import main
from avssl.recipes import app
from avssl.recipes.app import AppSettings


def test_options_reach_the_app(monkeypatch):
    served = []
    monkeypatch.setattr(app, "serve", served.append)
    words = "--checkpoint runs/x --examples videos --features f.parquet --root r --port 8000 --seconds 5 --device cpu"
    assert main(["app", *words.split()]) == 0
    assert main(["app"]) == 0
    assert served == [AppSettings("runs/x", "videos", "f.parquet", "r", 8000, 5.0, "cpu"), AppSettings()]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ("--ports 8000", 2, "--port"),
        ("--port 99999", 2, "--port (99999) must be >= 1 and <= 65535"),
        ("--seconds 0", 2, "--seconds (0.0) must be >= 0.001"),
        ("--checkpoint none/at/all", 1, "no such folder"),
    ],
)
def test_wrong_options_raise_in_one_line(words, status, said, capsys):
    assert main(["app", *words.split()]) == status
    assert said in capsys.readouterr().err


def test_help_needs_no_gradio_and_its_lack_is_said():
    code = (
        "import sys; sys.modules['gradio'] = None; from avssl.cli import main;"
        "main(['app', '--help']); sys.exit(main(['app', '--checkpoint', 'x']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("usage: avssl app [options]")
    assert done.returncode == 1
    assert done.stderr == "avssl: error: the page needs gradio: pip install 'avssl[demo]'\n"
