"""Print the tests of what changed since the branch left main: ``make fast`` runs them.

tests/ mirrors avssl/, so avssl/data/loader.py has tests/data/test_loader.py; where a module has no test of its own,
the tests of its folder stand for it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
ALWAYS = ("tests/test_house.py", "tests/test_words.py", "tests/test_numbers.py", "tests/test_cli.py")
OTHERS = {
    "configs": "tests/test_configs.py",
    "docs": "tests/test_docs.py",
    "demos": "tests/test_demos.py",
    "pyproject.toml": "tests/test_packaging.py::test_every_dependency_is_pinned_within_its_bounds",
    "constraints.txt": "tests/test_packaging.py::test_every_dependency_is_pinned_within_its_bounds",
}
"""First part of a path outside the mirrored folders: the tests that stand for it."""


def changed_files() -> list[str]:
    """Return the tracked files that differ from the merge base with main, and new files that git does not ignore."""

    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True, check=False)
        return done.stdout.splitlines() if done.returncode == 0 else []

    base = next(iter(git("merge-base", "HEAD", "main") or git("merge-base", "HEAD", "origin/main")), "HEAD")
    return sorted({*git("diff", "--name-only", base), *git("ls-files", "--others", "--exclude-standard")})


def tests_of(file: str) -> str | None:
    """Return the test file or folder that stands for a changed file, or None."""
    first, *rest = Path(file).parts
    if first == "tests":
        is_test = Path(file).name.startswith("test_") and (REPOSITORY / file).is_file()
        return file if is_test else None
    if first in OTHERS or file.endswith(".md"):
        return OTHERS.get(first, "tests/test_docs.py")
    if first not in ("avssl", "benchmarks", "datasets") or not file.endswith(".py"):
        return None
    folder = Path("tests", *([] if first == "avssl" else [first]), *rest[:-1])
    own = folder / f"test_{Path(file).name}"
    if (REPOSITORY / own).is_file():
        return own.as_posix()
    while not (REPOSITORY / folder).is_dir():
        folder = folder.parent
    return None if folder == Path("tests") else folder.as_posix()


def selection(files: Iterable[str]) -> list[str]:
    """Return what pytest is to run for these changed files: test files first, then whole folders."""
    found = {test for file in files if (test := tests_of(file))}
    inside = {test for test in found if any(test.startswith(f"{other}/") for other in found)}
    return [*ALWAYS, *sorted(found - inside - set(ALWAYS), key=lambda test: (not test.endswith(".py"), test))]


if __name__ == "__main__":
    print(*selection(changed_files()), sep="\n")
