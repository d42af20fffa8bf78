"""Releases on a stand-in of the Hugging Face hub: download, cache, offline mode and errors."""

import subprocess
import sys

import pytest
import torch
from huggingface_hub import constants

from avssl.hub.pretrained import from_pretrained
from avssl.hub.release import RELEASE_FILES, HubError, find_release
from avssl.training.run_directory import FILES

RELEASE = ("model.safetensors", "config.json", "README.md")


def test_a_release_is_downloaded_once_and_works_offline(hub, tiny_release, monkeypatch):
    old = hub.add("owner/tiny", tiny_release)
    old.branches["v1"] = old.branches["main"]
    hub.add("owner/tiny", tiny_release).files()["model.safetensors"] = b"newer"
    hub.repositories["owner/tiny"] = old
    ours, theirs = from_pretrained(tiny_release), from_pretrained("hf-hub:owner/tiny@v1")
    for name, value in ours.model.state_dict().items():
        assert torch.equal(theirs.model.state_dict()[name], value)
    assert theirs.source == "hf-hub:owner/tiny@v1"
    from_pretrained("owner/tiny")  # without a prefix, as no folder has this name
    assert sum(request.startswith("GET") and "/resolve/" in request for request in hub.requests) == len(RELEASE)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert from_pretrained("hf-hub:owner/tiny").weights_hash() == ours.weights_hash()
    with pytest.raises(HubError, match=r"HF_HUB_OFFLINE is set. Did you mean hf-hub:owner/tiny\?"):
        find_release("hf-hub:owner/tyni")
    assert hub.requests == []


def test_environment_variables_of_the_hub_are_respected(hub, tiny_release, tmp_path):
    hub.add("owner/tiny", tiny_release, private=True)
    words = [
        sys.executable,
        "-c",
        "from avssl.hub.release import find_release; print(find_release('hf-hub:owner/tiny'))",
    ]
    environment = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path), "HF_TOKEN": "hf_may_read", "PATH": ""}
    environment["PYTHONPATH"] = ":".join(sys.path)
    first = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(str(tmp_path / "hub" / "models--owner--tiny"))
    again = environment | {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    assert subprocess.run(words, env=again, capture_output=True, text=True, timeout=120).stdout == first.stdout


def test_errors_of_the_hub_say_what_to_do(hub, tiny_release, monkeypatch):
    hub.add("owner/tiny", tiny_release)
    hub.add("owner/private", tiny_release, private=True)
    hub.add("owner/other", {"pytorch_model.bin": b"", "config.json": b"{}"})
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    for name, message in {
        "hf-hub:owner/none": "no such repository at http.*, or it is private.*hf auth login",
        "owner/none": "owner/none: no such folder here. hf-hub:owner/none: no such repository",
        "hf-hub:owner/private": "or it is private",
        "hf-hub:owner/tiny@v9": "hf-hub:owner/tiny@v9: the repository has no revision v9",
        "hf-hub:owner/other": r"no release of avssl: model.safetensors missing. It has .*_model.bin.* runs its code",
        "hf-hub:owner/a--b": "not a name of a repository",
    }.items():
        with pytest.raises(HubError, match=message):
            find_release(name)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError, match=r"http://127.0.0.1:9 cannot be reached: .*refused. Look at the network"):
        find_release("hf-hub:owner/tiny")


def test_tokens_and_terms_that_the_hub_does_not_accept(hub, tiny_release, monkeypatch):
    hub.add("owner/gated", tiny_release).gated = True
    hub.add("owner/tiny", tiny_release)
    monkeypatch.setenv("HF_TOKEN", "hf_may_read")
    with pytest.raises(HubError, match=r"is gated: accept its terms at http://.*/owner/gated. Log in with"):
        find_release("hf-hub:owner/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_invalid")
    with pytest.raises(HubError, match=r"does not accept the token. Log in with: hf auth login, or set HF_TOKEN"):
        find_release("hf-hub:owner/tiny")


def test_a_download_that_breaks_off_is_continued(hub, tiny_release, monkeypatch):
    hub.add("owner/tiny", tiny_release)
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between the attempts of the client
    hub.cut["model.safetensors"] = 1000
    with pytest.raises(HubError, match=r"the connection to http://.* broke off \(.*\). Try again: what has arrived is"):
        find_release("hf-hub:owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=r"is not in the cache|is only partly in the cache"):
        find_release("hf-hub:owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    hub.cut.clear()
    assert from_pretrained("hf-hub:owner/tiny").weights_hash() == from_pretrained(tiny_release).weights_hash()


def test_a_file_that_arrives_damaged_is_removed(hub, tiny_release):
    hub.add("owner/tiny", tiny_release)
    hub.damaged.add("model.safetensors")
    with pytest.raises(HubError, match=r"model.safetensors has arrived damaged, as its hash differs"):
        find_release("hf-hub:owner/tiny")
    hub.damaged.clear()
    assert from_pretrained("hf-hub:owner/tiny").weights_hash() == from_pretrained(tiny_release).weights_hash()


def test_every_file_of_a_release_belongs_to_its_run():
    """``--overwrite`` removes those files, and takes any other one for a stranger's."""
    assert {f"{folder}/{name}" for folder in ("weights", "weights_best") for name in RELEASE_FILES} <= set(FILES)
