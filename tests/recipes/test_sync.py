import json

import torch

from avssl.cli import main
from avssl.hub.pretrained import demo_weights
from avssl.media import write_video


def words(videos, run, out, *more):
    base = ["sync", str(videos / "clip00.mp4"), "--checkpoint", str(run), "-o", str(out), "--device", "cpu"]
    return [*base, "--max-offset-seconds", "0.3", *map(str, more)]


def test_sync_draws_the_curve_and_prints_the_offset(videos, run, tmp_path, capsys):
    out, readout = tmp_path / "new" / "curve.png", tmp_path / "curve.json"
    assert main(words(videos, run, out, "--readout", readout)) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    found = json.loads(readout.read_text())
    assert found["offsets"] == [-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3]
    assert found["energy"][found["offsets"].index(found["lowest_at_seconds"])] == min(found["energy"])
    assert 0 <= found["confidence"] < 1
    text = capsys.readouterr().out
    # The clip holds a single stretch: nothing to agree with.
    assert (found["decision"], found["offset_seconds"]) == ("undecided", None)
    assert "undecided: the " in text
    assert "times real time" in text
    assert f"curve: {out}" in text


def test_a_foreign_video_is_undecided_whatever_its_curve(tmp_path, capsys):
    draw = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 255, (40, 3, 96, 96), dtype=torch.uint8, generator=draw)
    noise, out, readout = tmp_path / "noise.mp4", tmp_path / "curve.png", tmp_path / "curve.json"
    write_video(noise, frames, 8.0, [0.1 * torch.randn(1, 5 * 24000, generator=draw)], 24000)
    words = ["sync", noise, "--checkpoint", demo_weights(), "-o", out, "--readout", readout, "--device", "cpu"]
    assert main([str(word) for word in words]) == 0
    found = json.loads(readout.read_text())
    assert found["familiarity"]["is_foreign"]
    assert (found["decision"], found["offset_seconds"]) == ("undecided", None)
    text = capsys.readouterr().out
    assert "undecided: the model does not know such videos" in text
    assert "WARNING" in text


def test_other_audio_gives_another_curve(videos, run, tmp_path):
    curves = []
    for number in (0, 11):
        readout = tmp_path / f"{number}.json"
        sound = videos / f"clip{number:02d}.mp4"
        assert main(words(videos, run, tmp_path / f"{number}.png", "--audio", sound, "--readout", readout)) == 0
        curves.append(json.loads(readout.read_text())["energy"])
    assert curves[0] != curves[1]


def test_wrong_input_raises(videos, run, tmp_path, capsys):
    video = str(videos / "clip00.mp4")
    assert main(["sync", video]) == 2
    assert "required: --checkpoint" in capsys.readouterr().err
    assert main(words(videos, run, video)) == 1
    assert "is read by this command" in capsys.readouterr().err
    assert main(words(videos, run, tmp_path / "x.png", "--max-offset-seconds", "2")) == 1
    assert "Lower --max-offset-seconds" in capsys.readouterr().err
    assert not (tmp_path / "x.png").exists()
