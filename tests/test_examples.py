"""The examples in the docstrings of public names run, in a folder with a corpus, a release and a feature table."""

import doctest
import importlib
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch

import avssl
from avssl.config import FinetuneConfig, config_from_dict
from avssl.hub.classifier import create_classifier, save_classifier
from avssl.recipes.embed import embed
from avssl.synthetic import SceneSettings, Split, synthesize_corpus

REPOSITORY = Path(__file__).resolve().parent.parent
public_names = runpy.run_path(str(REPOSITORY / "docs" / "site_pages.py"))["_public_names"]
ROOMS = [REPOSITORY / "avssl" / "__init__.py", *sorted((REPOSITORY / "avssl").glob("*/__init__.py"))]
TOP = sorted(public_names(ROOMS[0]))
"""Names of ``avssl`` itself."""


class Unprinted(doctest.OutputChecker):
    """Compares only outputs that the example shows."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        return not want or super().check_output(want, got, optionflags)


def public(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def known_names(path: str) -> dict[str, object]:
    """Return the names that an example may use: public ones of the top level and of the room, and its own."""
    room = importlib.import_module(".".join(path.split(".")[:2]))
    names = {name: getattr(room, name) for name in dir(room) if not name.startswith("_")}
    names |= {own.rpartition(".")[2]: public(own) for own in [*TOP, path]}
    return names | {"avssl": avssl, "torch": torch, "np": np}


def example(path: str) -> str:
    found = public(path)
    text = found.__doc__ if callable(found) else None
    return text if text and ">>>" in text else ""


def with_example() -> list[str]:
    """Return each public name that has an example, once."""
    paths = {id(public(path)): path for room in ROOMS for path in public_names(room) if example(path)}
    return sorted(paths.values())


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
    embed(
        folder / "corpus" / "train",
        checkpoint=tiny_release,
        out=folder / "features.parquet",
        num_workers=0,
        progress=False,
    )
    return folder


@pytest.mark.parametrize("path", with_example())
def test_example_runs(path, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    test = doctest.DocTestParser().get_doctest(example(path), known_names(path), path, None, None)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    runner = doctest.DocTestRunner(checker=Unprinted(), optionflags=flags)
    lines: list[str] = []
    runner.run(test, out=lines.append)
    assert lines == [], "".join(lines)


@pytest.mark.parametrize("path", TOP)
def test_names_of_the_top_level_have_an_example(path):
    assert example(path), f"{path} has no example"
