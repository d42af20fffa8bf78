import json

import pytest
import torch

from avssl.cli import main
from avssl.media import open_media, read_image, write_image


def test_localize_writes_a_video_with_audio_and_a_readout(videos, run, tmp_path, capsys):
    out, readout = tmp_path / "new" / "map.mp4", tmp_path / "peaks.json"
    video = videos / "clip00.mp4"
    words = ["localize", str(video), "--checkpoint", str(run), "-o", str(out), "--readout", str(readout)]
    assert main([*words, "--device", "cpu"]) == 0
    with open_media(out) as reader:
        assert reader.info.has_audio
        assert reader.info.duration_seconds == pytest.approx(2.0, abs=0.3)
    peaks = json.loads(readout.read_text())["maps"][0]["peaks"]
    assert len(peaks) == 8  # 2 s, one every 0.25 s
    assert all(0 <= peak["x"] <= 48 and 0 <= peak["y"] <= 32 and -1 <= peak["confidence"] <= 1 for peak in peaks)
    assert f"video: {out}" in capsys.readouterr().out


def test_other_audio_gives_other_maps(videos, run, tmp_path):
    base = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(run), "--device", "cpu"]
    peaks = []
    for number, sound in enumerate(([], ["--audio", str(videos / "clip19.mp4")], ["--silence"], ["--noise"])):
        readout = tmp_path / f"{number}.json"
        assert main([*base, *sound, "-o", str(tmp_path / f"{number}.mp4"), "--readout", str(readout)]) == 0
        peaks.append(str(json.loads(readout.read_text())["maps"][0]["peaks"]))
    assert len(set(peaks)) == 4


def test_only_the_first_seconds(videos, run, tmp_path):
    out = tmp_path / "short.mp4"
    words = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(run), "-o", str(out), "--device", "cpu"]
    assert main([*words, "--seconds", "1"]) == 0
    with open_media(out) as reader:
        assert reader.info.video_stop_seconds == pytest.approx(1.0, abs=0.1)


def test_several_sounds_side_by_side(videos, run, tmp_path):
    out, readout = tmp_path / "both.mp4", tmp_path / "both.json"
    words = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(run), "-o", str(out), "--device", "cpu"]
    words += ["--side_by_side", "--audio", str(videos / "clip19.mp4"), "--noise", "--boxes", "0.8", "--no_strip"]
    assert main([*words, "--readout", str(readout), "--scale", "-0.5", "0.5", "--seconds", "1"]) == 0
    numbers = json.loads(readout.read_text())
    assert [row["sound"] for row in numbers["maps"]] == ["own audio", "clip19.mp4", "white noise"]
    assert numbers["scale"] == {"lowest": -0.5, "highest": 0.5}
    assert numbers["box"] == {"share": 0.8, "cosine": pytest.approx(0.3)}
    assert all("box" in peak for row in numbers["maps"] for peak in row["peaks"])
    with open_media(out) as result, open_media(videos / "clip00.mp4") as source:
        assert result.info.width == 3 * 8 * 48  # three of the width that LONGEST_SIDE allows
        heard, own = (reader.read_audio(0.2, 0.8, 8000)[0] for reader in (result, source))
        assert torch.corrcoef(torch.stack([heard, own]))[0, 1] > 0.99


def test_side_by_side_alone_compares_with_silence(videos, run, tmp_path):
    readout = tmp_path / "a.json"
    words = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(run), "-o", str(tmp_path / "a.png")]
    assert main([*words, "--device", "cpu", "--side_by_side", "--readout", str(readout)]) == 0
    assert [row["sound"] for row in json.loads(readout.read_text())["maps"]] == ["own audio", "silence"]


@pytest.fixture
def still(videos, tmp_path):
    with open_media(videos / "clip00.mp4") as reader:
        write_image(tmp_path / "still.png", reader.read_frames([1.0])[0])
    return tmp_path / "still.png"


def test_an_image_and_audio_become_an_image(videos, run, still, tmp_path, capsys):
    out = tmp_path / "out.png"
    words = ["localize", str(still), "--checkpoint", str(run), "--device", "cpu", "-o", str(out)]
    assert main([*words, "--audio", str(videos / "clip03.mp4")]) == 0
    assert f"image: {out}" in capsys.readouterr().out
    assert read_image(out).shape == (3, 12 * 32 + 120, 12 * 48)
    assert main(words) == 1
    assert "out.png: exists already, with audio" in capsys.readouterr().err
    assert main([*words, "--overwrite"]) == 1
    assert "no audio stream. Name other audio: --audio FILE" in capsys.readouterr().err


def test_an_image_lasts_as_long_as_its_audio(videos, run, still, tmp_path):
    out = tmp_path / "out.mp4"
    words = ["localize", str(still), "--checkpoint", str(run), "--device", "cpu", "-o", str(out), "--side_by_side"]
    assert main([*words, "--audio", str(videos / "clip03.mp4"), "--silence"]) == 0
    with open_media(out) as result:
        assert result.info.video_stop_seconds == pytest.approx(2.0, abs=0.05)
        assert result.read_audio(0.0, 1.0).abs().max() > 0.3


def test_without_a_checkpoint_the_demo_weights_are_used(videos, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("avssl.features.localize.demo_weights", lambda: run)
    words = ["localize", str(videos / "clip00.mp4"), "--device", "cpu", "-o", str(tmp_path / "a.mp4")]
    assert main(words) == 0
    (note,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("model: ")]
    assert "know SoundingShapes and one speaker of GRID. For other videos name weights with --checkpoint" in note
    assert "avssl convert dense-av hf-hub:mhamilton723/DenseAV-sound OUT makes (MIT)" in note
    assert main([*words, "--checkpoint", str(run), "--overwrite"]) == 0
    assert "model: " not in capsys.readouterr().out


def test_contradictions_and_missing_files_raise(videos, run, tmp_path, capsys):
    video = str(videos / "clip00.mp4")
    assert main(["localize", video, "--checkpoint", str(run), "--silence", "--noise"]) == 2
    assert "exclude each other" in capsys.readouterr().err
    for scale in (["frame"], ["0.5", "0.1"], ["0.5"], ["0.1", "0.2", "0.3"]):
        assert main(["localize", video, "--checkpoint", str(run), "--scale", *scale]) == 2
        assert f"--scale ({' '.join(scale)}) must " in capsys.readouterr().err
    assert main(["localize", video, "--checkpoint", str(run), "-o", "map.avi"]) == 1
    assert "map.avi: a heat map is written as a video (.mp4) or as one image (.png)" in capsys.readouterr().err
    assert main(["localize", video, "--checkpoint", str(run), "--heads", "-o", str(tmp_path / "x.mp4")]) == 1
    assert "the model has one head" in capsys.readouterr().err
    assert main(["localize", video, "--checkpoint", str(run), "-o", video]) == 1
    assert "would be overwritten" in capsys.readouterr().err
    assert main(["localize", str(tmp_path / "none.mp4"), "--checkpoint", str(run), "-o", str(tmp_path / "x.mp4")]) == 1
    assert "none.mp4" in capsys.readouterr().err
    assert main(["localize", video, "--checkpoint", str(tmp_path / "none")]) == 1
    assert "no such folder" in capsys.readouterr().err


def test_a_video_without_audio_raises_with_advice(run, video_maker, tmp_path, capsys):
    video_maker(tmp_path / "mute.mp4", 3, sound=False)
    words = ["localize", str(tmp_path / "mute.mp4"), "--checkpoint", str(run), "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "out.mp4")]) == 1
    assert "no audio stream. Name other audio: --audio FILE, --silence or --noise" in capsys.readouterr().err
    assert main([*words, "--side_by_side", "-o", str(tmp_path / "out.mp4")]) == 1
    assert "has no audio to compare with silence or noise" in capsys.readouterr().err
    assert not (tmp_path / "out.mp4").exists()
