import subprocess
import sys
from types import SimpleNamespace

import pytest

from avssl import __version__, cli
from avssl.core.errors import ConfigError, InputError


def run_with(monkeypatch, action):
    """The status of a verb whose recipe calls ``action``."""
    monkeypatch.setattr(cli.importlib, "import_module", lambda name: SimpleNamespace(main=action))
    return cli.main(["doctor"])


def raiser(error):
    """Raises from a module of the package, as its own code does."""
    scope = {"__name__": "avssl.fake"}
    exec("def action(argv):\n    raise error", scope | {"error": error}, namespace := {})
    return namespace["action"]


def test_version_and_help_do_not_import_torch():
    code = (
        "import sys; from avssl.cli import main; main(['--version']); main(['--help']);"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'av')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"avssl {__version__}\n")


def test_help_has_a_line_for_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f"\n  {verb} " in text


def test_unknown_verb_is_answered_with_the_nearest(capsys):
    assert cli.main(["pretrian"]) == 2
    assert 'Did you mean "avssl pretrain"?' in capsys.readouterr().err


def test_no_verb_shows_help(capsys):
    assert cli.main([]) == 2
    assert "usage: avssl VERB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status"), [(ConfigError("no\nsuch"), 2), (InputError("no such"), 1), (FileNotFoundError("no such"), 1)]
)
def test_users_errors_are_one_line(monkeypatch, capsys, error, status):
    assert run_with(monkeypatch, raiser(error)) == status
    assert capsys.readouterr().err == "avssl: error: no such\n"


def test_bugs_keep_their_traceback(monkeypatch):
    with pytest.raises(TypeError):
        run_with(monkeypatch, raiser(TypeError("a bug")))
    with pytest.raises(ValueError, match="invalid literal"):
        run_with(monkeypatch, lambda argv: int("x"))


def test_control_c_is_quiet(monkeypatch, capsys):
    assert run_with(monkeypatch, raiser(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_reader_that_has_gone_ends_help_quietly():
    words = f"{sys.executable} -m avssl --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")
