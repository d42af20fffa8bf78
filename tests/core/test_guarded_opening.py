"""No place opens a file of a user on its own: avssl.core.user_files decides what may be opened."""

from __future__ import annotations

import ast
from pathlib import Path

AVSSL = Path(__file__).resolve().parents[2] / "avssl"
GUARDS = {"open_regular", "regular_file", "torch_file", "local_file", "read_bytes", "read_text", "whole_file"}
OPENERS = {
    *("open", "io.open", "os.open", "np.load", "np.fromfile", "np.loadtxt", "np.memmap", "torch.load", "load_file"),
    *("safe_open", "pq.read_table", "pq.read_schema", "pq.read_metadata", "pq.ParquetFile", "pa_csv.read_csv"),
    *("pa.OSFile", "pa.memory_map", "Image.open", "zipfile.ZipFile", "tarfile.open", "av.open", "wave.open"),
    *("yaml.load", "yaml.safe_load", "json.load", "ElementTree.parse", "pickle.load", "sqlite3.connect"),
}
METHODS = {"open", "read_text", "read_bytes"}
"""Of a path."""
ALLOWED = {
    ("cli.py", "os.open"): "the null device",
    ("core/data_files.py", "open"): "a member of an archive that is open",
    ("core/user_files.py", "os.open"): "the guard itself",
    ("core/whole_file.py", "os.open"): "a file that was just written",
    ("core/lazy.py", "read_text"): "source code of this package",
    ("core/lock.py", "read_text"): "files of /proc",
    ("engine/precision.py", "read_text"): "a file of /proc",
    ("config/declared.py", "read_text"): "source code of this package",
    ("data/health/killable.py", "open"): "a file of /proc",
    ("data/health/killable.py", "os.open"): "the null device",
    ("media/prepared/writer.py", "av.open"): "bytes in memory",
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
    for path in sorted(AVSSL.rglob("*.py")):
        tree, file = ast.parse(path.read_text(encoding="utf-8")), path.relative_to(AVSSL).as_posix()
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
            if (file, kind) in ALLOWED:
                used.add((file, kind))
            else:
                bare.append(f"{file}:{call.lineno}: {ast.unparse(call)[:80]}")
    assert bare == [], "open these with avssl.core.user_files, or pass their paths through regular_file"
    assert used == set(ALLOWED), "entries that are no longer needed"
