import json

import pytest
import torch

from avssl.core.errors import RunError
from avssl.engine import choose_device, deterministic, environment_report, seed_everything, set_threads


def test_choose_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == choose_device("cpu") == torch.device("cpu")
    with pytest.raises(ValueError, match="sees no GPU"):
        choose_device("cuda")
    for name in ("gpu", "meta"):
        with pytest.raises(ValueError, match='must be "auto", "cpu"'):
            choose_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device() == torch.device("cuda")
    with pytest.raises(ValueError, match="shows 2 GPUs"):
        choose_device("cuda:2")


def test_set_threads():
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == 1
        assert set_threads() == 1
        with pytest.raises(ValueError, match=r"threads \(0\)"):
            set_threads(0)
    finally:
        torch.set_num_threads(before)


def test_seed_everything_repeats():
    seed_everything(3)
    first = torch.rand(2)
    seed_everything(3)
    assert torch.equal(first, torch.rand(2))


def test_environment_report_is_plain_json():
    report = environment_report()
    assert json.loads(json.dumps(report)) == report
    assert report["packages"]["torch"] == torch.__version__
    assert report["threads"] == torch.get_num_threads()
    assert report["git_commit"] is None or len(report["git_commit"]) == 40


def test_deterministic_mode_ends_with_its_context_and_names_what_cannot_be():
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()
    message = r"^put_ has no deterministic form on this device, and train\.deterministic is set\."
    with pytest.raises(RunError, match=message), deterministic(True):
        torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    assert not torch.are_deterministic_algorithms_enabled()
    with pytest.raises(RuntimeError, match=r"must match"), deterministic(True):
        torch.zeros(3) + torch.zeros(2)
