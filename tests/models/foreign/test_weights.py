"""Folders of public weights: safetensors, licenses, and errors for everything else."""

import json

import pytest
import torch
from safetensors.torch import save_file

from avssl.core.checkpoint_names import HubError
from avssl.models.foreign import libraries
from avssl.models.foreign.libraries import LibraryError, library
from avssl.models.foreign.weights import WeightsError, read_tensors, weight_folder


def test_shards_are_joined_by_their_index(tmp_path):
    for number in range(2):
        save_file({f"x{number}": torch.full((2,), number + 0.0)}, tmp_path / f"model-{number}.safetensors")
    index = {"weight_map": {f"x{number}": f"model-{number}.safetensors" for number in range(2)}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert {name: value[0].item() for name, value in read_tensors(weight_folder(str(tmp_path))).items()} == {
        "x0": 0,
        "x1": 1,
    }
    index["weight_map"]["x1"] = "../model-1.safetensors"
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match="outside of the folder"):
        read_tensors(weight_folder(str(tmp_path)))


def test_a_pickle_is_never_read(tmp_path):
    torch.save({"x": torch.zeros(2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"pytorch_model.bin, a pickle, which could run code.*safetensors"):
        read_tensors(weight_folder(str(tmp_path)))


def test_a_damaged_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(WeightsError, match=r"model.safetensors: not a readable safetensors file"):
        read_tensors(weight_folder(str(tmp_path)))
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(WeightsError, match="must hold a JSON object"):
        weight_folder(str(tmp_path)).read("config.json")


@pytest.mark.parametrize(
    ("card", "license_id"),
    [
        ("---\nlicense: mit\n---\n", "mit"),
        ("# none", "unknown"),
        ("---\nlicense: [a\n---\n", "unknown"),
        (None, "unknown"),
    ],
)
def test_license_is_read_from_the_card(tmp_path, card, license_id):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert weight_folder(str(tmp_path)).license_id == license_id


def test_missing_names_are_errors_without_the_network(tmp_path, monkeypatch):
    with pytest.raises(WeightsError, match="no such folder"):
        weight_folder(str(tmp_path / "gone"))
    (tmp_path / "file").write_text("x")
    with pytest.raises(WeightsError, match="is a file"):
        weight_folder(str(tmp_path / "file"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        weight_folder("hf-hub:someone/something-that-is-not-cached")


def test_a_missing_library_is_an_error_with_the_line_that_installs_it(monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(libraries.importlib, "import_module", missing)
    with pytest.raises(LibraryError, match=r"needs transformers.*pip install 'avssl\[hf\]'"):
        library("transformers")
