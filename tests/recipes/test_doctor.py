import torch

from avssl.cli import main
from avssl.recipes import doctor


def test_doctor_reports_versions_and_backends(capsys):
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for word in (f"torch {torch.__version__}", "pyav: loads", "CPU cores", "GB free", "ready."):
        assert word in text


def test_doctor_reports_why_a_backend_is_missing_and_fails_without_any(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "available_backends", lambda: {"pyav": "av does not load:\nno libx264"})
    assert main(["doctor"]) == 1
    text, error = capsys.readouterr()
    assert "pyav: av does not load: no libx264" in text
    assert "not ready" in error
