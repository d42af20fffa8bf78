"""House rules for avssl/ that no linter checks: sizes, printing, opening files, and documentation."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from avssl.cli import VERBS
from avssl.config.declared import read_declaration

PACKAGE = Path(__file__).resolve().parent.parent / "avssl"
FILES = sorted(PACKAGE.rglob("*.py"))

MAX_TOP_LEVEL_ENTRIES = 19
MAX_FILE_LINES = 350
MAX_BODY_LINES = 60

PRINTS_ELSEWHERE = {"config/command.py"}

FIRST_WORDS = re.compile(r"(What|Of|As|Likewise|Whether|How|Where|Which|When|Why|Who|That)\b")
"""Openings of a summary line that neither names a thing nor says what a function does."""


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0]


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of every docstring, and of every string under a field or a constant."""
    for node in ast.walk(parsed(path)):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        for before, statement in zip([None, *body], body, strict=False):
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                continue
            documents = before is None or isinstance(before, ast.Assign | ast.AnnAssign)
            if documents and isinstance(statement.value.value, str):
                yield statement.lineno, statement.value.value


def test_top_level_has_few_entries():
    entries = [path.name for path in PACKAGE.iterdir() if not path.name.startswith("__") and path.name != "py.typed"]
    assert len(entries) <= MAX_TOP_LEVEL_ENTRIES, sorted(entries)


def test_no_file_is_too_long():
    lines = {relative(path): sum(map(bool, map(str.strip, path.read_text().splitlines()))) for path in FILES}
    long = {name: number for name, number in lines.items() if number > MAX_FILE_LINES}
    assert long == {}, f"split these files (non-blank lines, at most {MAX_FILE_LINES})"


def test_no_function_body_is_too_long():
    long = {}
    for path in FILES:
        lines = path.read_text().splitlines()
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                length = sum(map(bool, map(str.strip, lines[body[0].lineno - 1 : node.end_lineno]))) if body else 0
                if length > MAX_BODY_LINES:
                    long[f"{relative(path)}:{node.name}"] = length
    assert long == {}, f"split these functions (lines of the body, at most {MAX_BODY_LINES})"


def test_library_reports_through_logging_and_never_prints():
    prints = {
        relative(path)
        for path in FILES
        if room(path) not in ("recipes", "cli.py")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert prints - PRINTS_ELSEWHERE == set(), "use logging.getLogger(__name__)"


@pytest.mark.parametrize("verb", VERBS)
def test_verb_and_each_of_its_options_are_documented(verb):
    declared = read_declaration(VERBS[verb])
    assert declared.summary
    assert [name for name, option in declared.options.items() if not option.help] == []


def test_docstrings_open_with_a_verb_or_a_noun_phrase():
    found = [
        f"{relative(path)}:{line}: {text.strip().splitlines()[0]}"
        for path in FILES
        for line, text in docstrings(path)
        if FIRST_WORDS.match(text.strip())
    ]
    assert found == [], "open with a verb in the imperative, or with a noun phrase that names the thing"


# ---------------------------------------------------------------- opening files

GUARDS = {"open_regular", "regular_file", "torch_file", "local_file", "read_bytes", "read_text", "whole_file"}
OPENERS = {
    *("open", "io.open", "os.open", "np.load", "np.fromfile", "np.loadtxt", "np.memmap", "torch.load", "load_file"),
    *("safe_open", "pq.read_table", "pq.read_schema", "pq.read_metadata", "pq.ParquetFile", "pa_csv.read_csv"),
    *("pa.OSFile", "pa.memory_map", "Image.open", "zipfile.ZipFile", "tarfile.open", "av.open", "wave.open"),
    *("yaml.load", "yaml.safe_load", "json.load", "ElementTree.parse", "pickle.load", "sqlite3.connect"),
}
METHODS = {"open", "read_text", "read_bytes"}
"""Of a path."""
OPENED_BARE = {
    ("cli.py", "os.open"): "the null device",
    ("core/cpus.py", "read_text"): "files of /proc and /sys",
    ("core/data_files.py", "open"): "a member of an archive that is open",
    ("core/user_files.py", "os.open"): "the guard itself",
    ("core/whole_file.py", "os.open"): "a file that was just written",
    ("core/lazy.py", "read_text"): "source code of this package",
    ("core/lock.py", "read_text"): "files of /proc",
    ("engine/precision.py", "read_text"): "a file of /proc",
    ("config/declared.py", "read_text"): "source code of this package",
    ("data/health/killable.py", "open"): "a file of /proc",
    ("data/packed/tars.py", "open"): "an object of a store",
    ("data/packed/tars.py", "tarfile.open"): "a file that is open",
    ("data/health/killable.py", "os.open"): "the null device",
    ("media/prepared/writer.py", "av.open"): "bytes in memory",
    ("models/foreign/spec.py", "yaml.safe_load"): "the text of a setting",
    ("models/foreign/weights.py", "yaml.safe_load"): "a text from read_text",
    ("media/pyav/source.py", "av.open"): "a path from local_file",
}


def name_of(node: ast.expr) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


def is_writing(call: ast.Call) -> bool:
    """True for an opening in a mode that makes a file; a path of whole_file is new."""
    modes = [
        value.value for value in [*call.args, *(k.value for k in call.keywords)] if isinstance(value, ast.Constant)
    ]
    return any(isinstance(mode, str) and mode[:1] in "wax" and len(mode) <= 3 for mode in modes)


def is_guarded(call: ast.Call, guarded: set[str]) -> bool:
    """True if what is opened came out of a guard: called here, or bound to a name in the same function."""
    subject = call.func.value if isinstance(call.func, ast.Attribute) and call.func.attr in METHODS else None
    first = call.args[0] if call.args else subject
    for node in filter(None, (first, subject)):
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and part.id in guarded:
                return True
            if isinstance(part, ast.Call) and name_of(part.func).rpartition(".")[2] in GUARDS | {"BufferReader"}:
                return True
    return False


def names_from_guards(function: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(function):
        pairs = []
        if isinstance(node, ast.Assign):
            pairs = [(target, node.value) for target in node.targets]
        elif isinstance(node, ast.With):
            pairs = [(item.optional_vars, item.context_expr) for item in node.items if item.optional_vars]
        for target, value in pairs:
            calls = [part for part in ast.walk(value) if isinstance(part, ast.Call)]
            if isinstance(target, ast.Name) and any(name_of(c.func).rpartition(".")[2] in GUARDS for c in calls):
                found.add(target.id)
    return found


def test_every_opening_passes_the_guard():
    bare, used = [], set()
    for path in sorted(PACKAGE.rglob("*.py")):
        tree, file = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(PACKAGE).as_posix()
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
            name = name_of(call.func)
            method = call.func.attr if isinstance(call.func, ast.Attribute) else ""
            if name not in OPENERS and method not in METHODS:
                continue
            kind = name if name in OPENERS else method
            inside = [f for f in functions if f.lineno <= call.lineno <= (f.end_lineno or 0)]
            guarded = set().union(*map(names_from_guards, inside))
            if is_writing(call) or is_guarded(call, guarded):
                continue
            if (file, kind) in OPENED_BARE:
                used.add((file, kind))
            else:
                bare.append(f"{file}:{call.lineno}: {ast.unparse(call)[:80]}")
    assert bare == [], "open these with avssl.core.user_files, or pass their paths through regular_file"
    assert used == set(OPENED_BARE), "entries that are no longer needed"


def test_no_large_file_is_tracked():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PACKAGE.parent, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [PACKAGE.parent / name for name in listed.stdout.split("\0") if name]
    assert [str(file) for file in files if file.is_file() and file.stat().st_size > 2 * 2**20] == []
