import json

import pytest

from avssl.cli import main


def words(videos, run, *more):
    return ["energy", str(videos / "clip00.mp4"), "--checkpoint", str(run), "--device", "cpu", *map(str, more)]


def test_energy_prints_every_window_and_the_mean_beside_shuffled_windows(videos, run, tmp_path, capsys):
    readout = tmp_path / "new" / "energy.json"
    assert main(words(videos, run, "--readout", readout)) == 0
    text = capsys.readouterr().out
    assert text.count(" s  ") == 4  # 2 s, one every half second
    assert "with audio from other times" in text
    found = json.loads(readout.read_text())
    assert found["seconds"] == [0.25, 0.75, 1.25, 1.75]
    assert found["mean"] == pytest.approx(sum(found["energy"]) / 4, abs=1e-4)
    assert all(0 <= energy <= 2 for energy in found["energy"] + found["shuffled"])


def test_other_audio_has_another_energy(videos, run, tmp_path):
    means = []
    for number in (0, 7, 19):
        readout = tmp_path / f"{number}.json"
        assert main(words(videos, run, "--audio", videos / f"clip{number:02d}.mp4", "--readout", readout)) == 0
        means.append(json.loads(readout.read_text())["mean"])
    assert len(set(means)) == 3


def test_missing_input_raises(videos, run, tmp_path, capsys):
    assert main(["energy", str(videos / "clip00.mp4")]) == 2
    assert "required: --checkpoint" in capsys.readouterr().err
    assert main(words(videos, run, "--stride_seconds", "0")) == 2
    assert "stride-seconds (0.0) must be >= 0.01" in capsys.readouterr().err
    assert main(words(videos, tmp_path / "none")) == 1
    assert "no such folder" in capsys.readouterr().err
    assert main(["energy", "--help"]) == 0
    assert "1 minus the cosine" in capsys.readouterr().out
