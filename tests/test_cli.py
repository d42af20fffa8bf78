import json
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from avssl import cli
from avssl.config import command
from avssl.core.errors import ConfigError, InputError

HEAVY = ("torch", "numpy", "pyarrow", "av", "jsonargparse", "avssl.recipes")
"""Modules that help and errors must not import."""


def run_with(monkeypatch, action):
    """Return the exit status of a verb whose function is ``action``."""
    monkeypatch.setattr(command.importlib, "import_module", lambda name: SimpleNamespace(doctor=action))
    return cli.main(["doctor"])


def raiser(error):
    """Return a function that raises from a module of the package."""
    scope = {"__name__": "avssl.fake"}
    exec("def action():\n    raise error", scope | {"error": error}, namespace := {})
    return namespace["action"]


def run_alone(lines):
    """Run command lines in one new process; return status, processor time, heavy modules and output of each."""
    code = f"""
import contextlib, io, json, sys, time
from avssl.cli import main
for words in {lines!r}:
    before, out = time.process_time(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = main(words)
    heavy = [name for name in {HEAVY!r} if name in sys.modules]
    print(json.dumps([words, status, time.process_time() - before, heavy, out.getvalue()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_help_of_every_verb_is_quick_and_imports_nothing_heavy():
    lines = [[verb, flag] for verb in cli.VERBS for flag in ("--help", "--help-all")]
    for words, status, seconds, heavy, text in run_alone([["--version"], ["--help"], *lines]):
        assert (status, heavy) == (0, []), words
        assert seconds < 1, words
        if len(words) == 2:
            assert text.startswith(f"usage: avssl {words[0]} "), words
            assert max(map(len, text.splitlines())) <= 80, words


def test_help_shows_common_options_and_help_all_the_rest():
    texts = {tuple(words): text for words, *_, text in run_alone([["prepare", f] for f in ("--help", "--help-all")])}
    first, everything = (texts["prepare", flag] for flag in ("--help", "--help-all"))
    assert "--short-side N" in first
    assert "--keyframe-interval" not in first
    assert "--keyframe-interval N" in everything


def test_wrong_options_raise_without_importing_torch():
    lines = [[verb, "--checkpiont", "x"] for verb in cli.VERBS]
    lines += [
        ["pretrain", "--objective.temprature", "1"],
        ["finetune", "x.csv", "--optim.lrr", "1"],
        ["probe", "x.csv"],
    ]
    for words, status, _, heavy, text in run_alone(lines):
        assert (status, heavy) == (2, []), words
        assert text.startswith("avssl: error: "), words
    assert "required: --checkpoint. See avssl probe --help." in text


def test_hyphens_and_underscores_are_both_accepted(monkeypatch):
    given = []
    monkeypatch.setattr(
        command.importlib, "import_module", lambda name: SimpleNamespace(index=lambda **k: given.append(k))
    )
    for words in ("--num-workers 2 --segment-seconds=3", "--num_workers=2 --segment_seconds 3"):
        assert cli.main(["index", "some_folder", *words.split()]) == 0
    assert given == 2 * [{"folder": "some_folder", "num_workers": 2, "segment_seconds": 3.0}]


def test_help_has_a_line_for_every_verb(capsys):
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for verb in cli.VERBS:
        assert f"\n  {verb} " in text


def test_an_unknown_verb_gets_a_suggestion(capsys):
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
        run_with(monkeypatch, lambda: int("x"))


def test_control_c_is_quiet(monkeypatch, capsys):
    assert run_with(monkeypatch, raiser(KeyboardInterrupt())) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_a_closed_pipe_ends_help_quietly():
    words = f"{{ sleep 0.5; exec {sys.executable} -m avssl --help; }} | true; exit ${{PIPESTATUS[0]}}"  # true has ended
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_control_c_while_the_command_line_loads_is_quiet():
    """A process whose import of the command line is interrupted, and one that ignores Ctrl-C."""
    slow = "import sys, time\nclass Slow:\n    def find_spec(self, name, *_):\n        if name == 'avssl.cli':\n"
    slow += "            print('loading', flush=True)\n            time.sleep(0.5 if len(sys.argv) > 1 else 600)\n"
    slow += "sys.meta_path.insert(0, Slow())\nimport runpy\nrunpy.run_module('avssl', run_name='__main__')"
    for words, status in (([], -signal.SIGINT), (["--version"], 0)):
        ignores = (lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if words else None
        command = [sys.executable, "-c", slow, *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=ignores
        )
        assert process.stdout.readline() == "loading\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == status
