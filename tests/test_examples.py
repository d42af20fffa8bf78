"""The examples in all docstrings run, in a folder with a corpus, a release and a feature table."""

import ast
import dataclasses
import doctest
import importlib
import inspect
import runpy
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import get_origin

import numpy as np
import pytest
import torch

import avssl
from avssl.config import FinetuneConfig, config_from_dict, field_docs
from avssl.hub.classifier import create_classifier, save_classifier
from avssl.recipes.embed import embed
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

REPOSITORY = Path(__file__).resolve().parent.parent
public_names = runpy.run_path(str(REPOSITORY / "docs" / "site_pages.py"))["_public_names"]
PACKAGES = [REPOSITORY / "avssl" / "__init__.py", *sorted((REPOSITORY / "avssl").glob("*/__init__.py"))]
TOP = sorted(public_names(PACKAGES[0]))
"""Names of ``avssl`` itself."""
COMPLETE = [init.parent.name for init in PACKAGES if public_names(init)]
"""Packages whose every public class and function has an example that checks what it shows."""

NOT_RUN = {
    "avssl.hub.pretrained.PretrainedModel.embed_text": "needs a model with a text tower, which is large",
    "avssl.integrations.mteb": "mteb downloads its tasks",
    "avssl.integrations.vggsounder": "needs the labels of the benchmark and three runs",
    "avssl.synthetic.stamps.world.StampWorld": "needs packages of Debian with photographs",
}
"""Examples in docstrings that need what a test does not have."""


def public(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def known_names(path: str) -> dict[str, object]:
    """Return the names that an example may use: public ones of the top level and of the room, and its own."""
    room = importlib.import_module(".".join(path.split(".")[:2]))
    names = {name: getattr(room, name) for name in dir(room) if not name.startswith("_")}
    names |= {own.rpartition(".")[2]: public(own) for own in [*TOP, path]}
    return names | {"avssl": avssl, "torch": torch, "np": np}


def needs_example(path: str) -> bool:
    """Return True for classes and functions; constants and names of types need none."""
    found = public(path)
    return callable(found) and get_origin(found) is None


def example(path: str) -> str:
    text = public(path).__doc__ if needs_example(path) else None
    return text if text and ">>>" in text else ""


def is_described(path: str) -> bool:
    """Return True if a string stands under the assignment of a constant or of the name of a type."""
    module, _, name = path.rpartition(".")
    body = ast.parse(Path(importlib.import_module(module).__file__ or "").read_text(encoding="utf-8")).body
    for statement, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.ImportFrom) and any(alias.asname == name for alias in statement.names):
            return is_described(f"{statement.module}.{name}")
        targets = getattr(statement, "targets", [getattr(statement, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    return False


def members_without_text(path: str) -> list[str]:
    """Return the public methods, properties and fields of a class that neither it nor a base class describes."""
    found = public(path)
    if not inspect.isclass(found):
        return []
    names = [
        name
        for name, value in vars(found).items()
        if not name.startswith("_") and (inspect.isfunction(value) or isinstance(value, property | classmethod))
    ]
    missing = [n for n in names if not any(getattr(getattr(c, n, None), "__doc__", None) for c in found.__mro__)]
    if dataclasses.is_dataclass(found):
        missing += [field.name for field in dataclasses.fields(found) if not field_docs(found).get(field.name)]
    return [f"{path}.{name}" for name in missing]


def is_checked(text: str) -> bool:
    """Return True if an example shows an output other than dots alone, or has an assertion."""
    steps = doctest.DocTestParser().get_examples(text)
    return any(step.want.strip(". \n") or step.source.startswith("assert ") for step in steps)


def names_of(packages: list[Path]) -> list[str]:
    """Return each public class and function once, however many packages export it."""
    paths = {id(public(path)): path for package in packages for path in public_names(package) if needs_example(path)}
    return sorted(paths.values())


def constants_of(packages: list[Path]) -> list[str]:
    """Return the other public names."""
    return sorted({path for package in packages for path in public_names(package) if not needs_example(path)})


def save_small_classifier(folder: Path) -> None:
    network = {
        "sampling": {"num_frames": 2, "audio_seconds": 1.0, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16, "window_length": 256}},
        "model": {"video": {"width": 4}, "audio": {"width": 4}},
        "train": {"precision": "fp32", "memory_format": "contiguous"},
    }
    config = config_from_dict(network, root=FinetuneConfig)
    model, transform = create_classifier(config, 2)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    save_classifier(folder, model, transform, ["robin", "wren"], config)


def save_sine(file: Path, sample_rate_hz: int = 16_000) -> None:
    seconds = np.arange(sample_rate_hz) / sample_rate_hz
    with wave.open(str(file), "wb") as writer:
        writer.setparams((1, 2, sample_rate_hz, 0, "NONE", ""))
        writer.writeframes((8000 * np.sin(2 * np.pi * 440 * seconds)).astype("<i2").tobytes())


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_release) -> Path:
    """Return a folder with ``corpus/``, ``runs/first`` (a release), ``video.mp4``, ``bark.wav`` and a table."""
    folder = tmp_path_factory.mktemp("examples")
    scene = SceneSettings(width=48, height=48, duration_seconds=2.0)
    corpus = synthesize_corpus(folder / "corpus", {"train": Split(8, scene)}, num_workers=0, progress=False)
    (folder / "runs").mkdir()
    (folder / "runs" / "first").symlink_to(tiny_release)
    save_small_classifier(folder / "runs" / "first-finetune")
    (folder / "video.mp4").symlink_to(corpus.file(0))
    save_sine(folder / "bark.wav")
    embed(
        folder / "corpus" / "train",
        checkpoint=tiny_release,
        out=folder / "features.parquet",
        num_workers=0,
        progress=False,
    )
    return folder


@pytest.fixture
def own_place(place, tmp_path, monkeypatch) -> Path:
    """Return a folder with the same content, for one example, which may write into it."""
    for folder in (place, place / "runs"):
        own = tmp_path / folder.relative_to(place)
        own.mkdir(exist_ok=True)
        for entry in folder.iterdir():
            if entry != place / "runs":
                (own / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def failures_of(path: str, text: str, names: dict[str, object] | None = None) -> str:
    """Run an example with the names that it may use, and return the report of its failures."""
    test = doctest.DocTestParser().get_doctest(text, known_names(path) if names is None else names, path, None, None)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    lines: list[str] = []
    doctest.DocTestRunner(optionflags=flags).run(test, out=lines.append)
    return "".join(lines)


def other_examples() -> Iterator[tuple[str, str, str]]:
    """Yield (module, name, docstring) of the examples of modules, methods, and classes and functions of no package."""
    own = {(public(path).__module__, public(path).__qualname__) for path in names_of(PACKAGES)}  # type: ignore[attr-defined]
    for file in sorted((REPOSITORY / "avssl").rglob("*.py")):
        module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        waiting: list[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef]] = [("", ast.parse(file.read_text()))]
        while waiting:
            name, node = waiting.pop()
            text = ast.get_docstring(node) or ""
            if ">>>" in text and (module, name) not in own:
                yield module, name, text
            inner = [child for child in node.body if isinstance(child, ast.ClassDef | ast.FunctionDef)]
            waiting += [(f"{name}.{child.name}".removeprefix("."), child) for child in inner]


OTHERS = {f"{module}.{name}".removesuffix("."): (module, text) for module, name, text in other_examples()}


@pytest.mark.parametrize("path", [path for path in names_of(PACKAGES) if example(path)])
def test_example_runs(path, own_place, capsys):
    failures = failures_of(path, example(path))
    assert failures == "", failures


@pytest.mark.parametrize("path", [path for path in OTHERS if path not in NOT_RUN])
def test_other_example_runs_and_checks_something(path, own_place, capsys):
    module, text = OTHERS[path]
    names = {"avssl": avssl, "torch": torch, "np": np} | vars(importlib.import_module(module))
    failures = failures_of(path, text, names)
    assert failures == "", failures
    assert is_checked(text), "it shows no output"


def test_examples_that_do_not_run_exist():
    assert set(NOT_RUN) <= set(OTHERS)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (">>> 1 + 1\n3", "Got"),
        (">>> 1 + 1", "Expected nothing"),
        (">>> 1 / 0", "ZeroDivisionError"),
        (">>> x = 1 / 0\n>>> 2\n2", "ZeroDivisionError"),
        (">>> int('1')\nTraceback (most recent call last):\n    ...\nValueError: no number", "Expected"),
        (">>> int('x')\nTraceback (most recent call last):\n    ...\nValueError: no number", "invalid literal"),
    ],
)
def test_wrong_example_fails(text, word):
    assert word in failures_of("avssl.objectives.info_nce.info_nce", text)


def test_example_that_checks_nothing_is_found():
    assert not is_checked(">>> x = 1")
    assert not is_checked(">>> x\n...")
    assert is_checked(">>> 1 + 1\n2")
    assert is_checked(">>> assert 1 + 1 == 2")


@pytest.mark.parametrize("package", COMPLETE)
def test_every_public_name_has_an_example_that_checks_something(package):
    chosen = [init for init in PACKAGES if init.parent.name == package]
    paths = names_of(chosen)
    assert [path for path in paths if not example(path)] == [], "these have no example"
    assert [path for path in paths if not is_checked(example(path))] == [], "these show no output"


@pytest.mark.parametrize("package", COMPLETE)
def test_every_public_constant_is_described(package):
    chosen = [init for init in PACKAGES if init.parent.name == package]
    assert [path for path in constants_of(chosen) if not is_described(path)] == [], "write a string under these"


def test_every_member_of_a_public_class_is_described():
    assert [member for path in names_of(PACKAGES) for member in members_without_text(path)] == []
