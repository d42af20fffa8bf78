"""The wheel: built, installed elsewhere and run outside the checkout."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import avssl

REPOSITORY = Path(__file__).resolve().parent.parent
# Left out of a build: its own leftovers, which would put deleted modules back into the wheel, and results.
NOT_SOURCES = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__", "runs", "avssl_demo", "*.tmp")


def _run(*command: str | Path, **options: object) -> str:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, stdin=subprocess.DEVNULL, **options
    )
    assert done.returncode == 0, f"{command} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(REPOSITORY, folder / "source", ignore=NOT_SOURCES)
    _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", folder / "source")
    (wheel,) = (folder / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel alone into a folder; its dependencies are those of the tests."""
    target = tmp_path_factory.mktemp("installed")
    options = ["--disable-pip-version-check", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    _run(sys.executable, "-m", "pip", "install", *options, "--target", target, wheel)
    return target


@pytest.fixture
def outside(installed: Path, tmp_path: Path) -> dict[str, object]:
    """Return the working folder and environment in which ``import avssl`` finds the installed package."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AVSSL_")}
    return {"cwd": tmp_path, "env": {**environment, "PYTHONPATH": str(installed)}}


def test_version_is_the_same_everywhere() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert str(citation["version"]) == avssl.__version__
    changes = (REPOSITORY / "CHANGELOG.md").read_text()
    newest = re.search(r"^## (\d+\.\d+\.\d+)", changes, re.MULTILINE)
    assert newest is not None
    assert newest[1] == avssl.__version__


def test_wheel_holds_the_package_its_types_and_its_license(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "avssl/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    top = {name.split("/")[0] for name in names}
    assert top == {"avssl", f"avssl-{avssl.__version__}.dist-info"}


def test_wheel_holds_every_module(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "avssl").rglob("*.py")}
    assert modules - names == set()


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in (REPOSITORY / "avssl").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_scripts_are_no_package() -> None:
    # An importable "datasets" would shadow Hugging Face's.
    assert (REPOSITORY / "datasets" / "README.md").is_file()
    assert list((REPOSITORY / "datasets").rglob("__init__.py")) == []


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}
    assert len(pins) == len(lines), "one line for each package"
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [*project["dependencies"], *extras["codec"], *extras["dev"]]
    while waiting:
        wanted = Requirement(waiting.pop())
        if wanted.name == project["name"]:  # avssl[demo]
            waiting += [text for name in wanted.extras for text in extras[name]]
            continue
        (pin,) = pins[canonicalize_name(wanted.name)].specifier
        assert pin.operator == "=="
        assert wanted.specifier.contains(pin.version), f"{wanted} but constraints.txt has {pin.version}"


def test_commit_hooks_lint_with_the_pinned_version() -> None:
    hooks = (REPOSITORY / ".pre-commit-config.yaml").read_text()
    pinned = re.search(r"^ruff==\S+$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    assert pinned is not None
    assert hooks.count(f"[{pinned[0]}]") == 2


def test_every_import_of_another_project_is_declared() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    extras = [texts for name, texts in project["optional-dependencies"].items() if name != "dev"]
    declared = sum(extras, project["dependencies"])
    names = {re.sub("[-_.]+", "_", Requirement(text).name.lower()) for text in declared}
    names |= {"PIL", "sklearn", "yaml", "mlflow", "faiss"}  # modules under other names than their packages
    undeclared = {
        f"{module} in {path.relative_to(REPOSITORY)}"
        for path in (REPOSITORY / "avssl").rglob("*.py")
        for module in _imported_modules(path)
        if module not in {*names, *sys.stdlib_module_names, "avssl"}
    }
    assert undeclared == set()


def _imported_modules(path: Path) -> set[str]:
    """Top-level names of all imports of a file, those inside functions included."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {name.partition(".")[0] for name in names}


def test_wheel_holds_the_page_templates(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "avssl").rglob("*.html")}
    assert templates
    assert templates - names == set()


def test_installed_package_is_not_the_checkout(installed: Path, outside: dict[str, object]) -> None:
    place = _run(sys.executable, "-c", "import avssl; print(avssl.__file__)", **outside).strip()
    assert Path(place) == installed / "avssl" / "__init__.py"


def test_installed_command_prints_its_version(installed: Path, outside: dict[str, object]) -> None:
    assert avssl.__version__ in _run(installed / "bin" / "avssl", "--version", **outside)
    assert avssl.__version__ in _run(sys.executable, "-m", "avssl", "--version", **outside)


def test_installed_demo_runs_outside_the_checkout(installed: Path, outside: dict[str, object], tmp_path: Path) -> None:
    printed = _run(installed / "bin" / "avssl", "demo", tmp_path / "demo", "--tiny", timeout=600, **outside)
    report = Path(printed.strip().splitlines()[-1].strip())
    assert report.suffix == ".html"
    assert (tmp_path / report).resolve().is_relative_to((tmp_path / "demo").resolve())
    assert (tmp_path / report).stat().st_size > 10_000


def test_page_of_installation_names_every_extra() -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (REPOSITORY / "docs" / "install.md").read_text(encoding="utf-8")
    rows = "".join(line.partition("|")[2].partition("|")[0] for line in page.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"`(\w+)`", rows)) == set(extras)
