import importlib.util
import re
import signal
from pathlib import Path

import pytest

from avssl.recipes.dataset_script import run_script, script_parser

FOLDER = Path(__file__).resolve().parents[2] / "datasets"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
SCRIPTS = sorted(path.name for path in FOLDER.glob("*.py"))


def test_there_is_no_package_of_this_name():
    assert SCRIPTS
    assert "__init__.py" not in SCRIPTS


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_is_described(name):
    doc = (FOLDER / name).read_text(encoding="utf-8").split('"""')[1]
    for part in ("Source: ", "Expects: ", f"Run: python datasets/{name} "):
        assert part in doc, part
    assert README.count(f"| `{name}") >= 2, "a row with counts and splits, and one with source, license and command"
    assert f"`python datasets/{name} " in README


def test_the_example_works(root, touch, write, tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    script = tmp_path / "example.py"
    script.write_text(example)
    spec = importlib.util.spec_from_file_location("example", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    write("list.csv", "file,label,split\na.mp4,dog,training\nb.mp4,cat,test\n")
    touch("some/folder/a.webm")
    assert module.run_script(module.script_parser("NAME"), module.collect, [str(root)]) == 0
    assert "NAME: 1 of 2 listed clips found (50.0 %)" in capsys.readouterr().out
    assert (root / "manifest.csv").read_text().splitlines()[1].startswith('"some/folder/a.webm"')


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "stopped by SIGTERM")],
)
def test_a_script_that_is_stopped_says_so(root, capsys, number, status, word):
    def collect(options):
        signal.raise_signal(number)

    assert run_script(script_parser("NAME"), collect, [str(root)]) == status
    assert capsys.readouterr().err.endswith(f": {word}.\n")
    assert not list(root.glob("*.csv"))
