"""Manifests of the dataset scripts, scored by avssl localize-eval: every layout and every kind of ground truth.

The files are made here, in the folders and formats of the official ones.
"""

from __future__ import annotations

import importlib
import json
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from avssl.cli import main

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets"


@pytest.fixture
def script(monkeypatch):
    """Run a script of datasets/; it must succeed."""
    monkeypatch.syspath_prepend(SCRIPTS)

    def run(name: str, *words: object) -> None:
        assert importlib.import_module(name).main([str(word) for word in words]) == 0

    return run


@pytest.fixture
def evaluate(run, tmp_path, capsys):
    """Score a manifest; returns the numbers and what was printed."""

    def score(manifest: Path, *words: str):
        out = tmp_path / "scores"
        command = ["localize-eval", str(manifest), "--checkpoint", str(run), "-o", str(out), "--num-examples", "1"]
        capsys.readouterr()
        assert main([*command, "--device", "cpu", "--rules", "ezvsl", *words]) == 0
        return json.loads((out / "results.json").read_text()), capsys.readouterr().out

    return score


def image(path: Path, number: int, hw: tuple[int, int] = (48, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(0, 255, (*hw, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def mask(path: Path, left: int, right: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((48, 64, 3), dtype=np.uint8)
    pixels[:, left:right] = (0, 128, 255)
    Image.fromarray(pixels).save(path)


def tone(path: Path, hz: float, seconds: float = 5.0, rate: int = 8000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 8000 * np.sin(np.arange(round(seconds * rate)) / rate * 2 * np.pi * hz)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


def test_avsbench_masks_of_images_and_audio(tmp_path, script, evaluate):
    root = tmp_path / "avs"
    base = root / "Single-source/s4_data"
    rows = ["name,start,category,split"]
    for number, (name, category) in enumerate((("aaaaaaaaaaa_1", "dog"), ("bbbbbbbbbbb_2", "cat"))):
        rows.append(f"{name},1,{category},test")
        tone(base / f"audio_wav/test/{category}/{name}.wav", 300 + 200 * number)
        for second in range(1, 6):
            image(base / f"visual_frames/test/{category}/{name}/{name}_{second}.png", 10 * number + second)
            mask(base / f"gt_masks/test/{category}/{name}/{name}_{second}.png", 0, 32 if second > 1 or number else 0)
    (root / "Single-source/s4_meta_data.csv").write_text("\n".join(rows) + "\n")
    script("avsbench", root)
    found, printed = evaluate(root / "s4.csv")
    assert found["masks"]["trained model"]["n"] == 10
    # Half of the frame is masked: the whole frame has an IoU of 1/2, and of 0 where nothing sounds.
    assert found["masks"]["whole frame"]["miou"] == pytest.approx((9 * 0.5 + 0) / 10, abs=0.01)
    assert found["masks"]["whole frame"]["f"] == pytest.approx(1.3 * 0.5 / (0.3 * 0.5 + 1), abs=0.01)
    assert found["prompted"]["trained model"]["num_classes"] == 2
    assert "AVSBench, maps as masks, in %" in printed
    assert "mIoU" in printed


@pytest.mark.parametrize(
    ("subset", "script_name"), [("s4", "avsbench"), ("ms3", "avsbench"), ("ss", "vpo"), ("ms", "vpo")]
)
def test_boxes_of_images_and_audio(tmp_path, script, evaluate, subset, script_name):
    root, entries = tmp_path / "boxes", []
    for number, name in enumerate(("000000000001_7", "000000000001_8", "000000000002_9")):
        if script_name == "avsbench":
            places = (f"visual_frames/{name}/{name}.mp4_1.png", f"audio_wav/test/{name}.wav")
        else:
            places = (f"visual_frames/{name}.jpg", f"audio_wav/{name}.wav")
        image(root / places[0], number)
        tone(root / places[1], 300 + 100 * number)
        box = [0.0, 0.0, 0.0, 0.0] if (subset, number) == ("ms3", 2) else [0.0, 0.0, 112.0, 224.0]
        entries.append({"image": f"/mnt/x/{places[0]}", "audio": f"/mnt/x/{places[1]}", "gt_box": box})
    name = {"avsbench": f"{subset}_box.json", "vpo": f"vpo_{subset}_bbox.json"}[script_name]
    (root / name).write_text(json.dumps(entries))
    script(script_name, root, "--subset", subset, *(["--truth", "boxes"] if script_name == "avsbench" else []))
    found, _ = evaluate(root / (f"{subset}_boxes.csv" if script_name == "avsbench" else f"vpo_{subset}.csv"))
    assert (found["about"]["n"], found["about"]["n_without_source"]) == ((2, 1) if subset == "ms3" else (3, 0))
    assert found["rows"]["whole frame"]["ciou_mean_ezvsl"] == pytest.approx(0.5, abs=0.01)
    assert found["about"]["num_pairs"] == (1 if script_name == "vpo" else 0)
    assert ("iiou_ezvsl" in found["rows"]["trained model"]) == (script_name == "vpo")
    if subset == "ms3":
        assert "ap_peak" in found["rejection"]["trained model"]


def test_vggss_frames_audio_and_pairs_in_which_nothing_sounds(tmp_path, script, evaluate):
    root = tmp_path / "vggss"
    names = ["aaaaaaaaaaa_000001", "bbbbbbbbbbb_000030", "ccccccccccc_000005"]
    for number, name in enumerate(names):
        image(root / f"frames/{name}.jpg", number)
        tone(root / f"audio/{name}.wav", 300 + 100 * number, seconds=10.0)
    entries = [{"file": name, "class": "x", "bbox": [[0, 0, 0.5, 1]]} for name in names]
    (root / "vggss.json").write_text(json.dumps(entries))
    silent = f"video,audio,label\n{names[0]},{names[1]},non-sounding\n" + "".join(f"{n},{n},x\n" for n in names)
    (root / "vggss_test_plus_silent.csv").write_text(silent)
    script("vggss", root, "--list", "vggss_test_plus_silent.csv")
    found, printed = evaluate(root / "vggss.csv")
    assert (found["about"]["n"], found["about"]["n_without_source"], found["about"]["left_out"]) == (3, 1, {})
    assert found["rejection"]["trained model"]["share_of_sources"] == 0.75
    assert found["about"]["overlap"]["num_trained_on"] == 0
    assert "none of 4 test clips is trained on" in printed


def test_avsbench_semantic_masks(tmp_path, script, evaluate):
    root, rows = tmp_path / "v2", ["vid,uid,s_min,s_sec,a_obj,split,label"]
    for number, uid in enumerate(("aaaaaaaaaaa_0_10000", "bbbbbbbbbbb_0_10000")):
        rows.append(f"{uid[:11]},{uid},0,0,dog,test,v2")
        tone(root / f"v2/{uid}/audio.wav", 300 + 100 * number, seconds=10.0)
        for second in range(10):
            image(root / f"v2/{uid}/frames/{second}.jpg", 10 * number + second)
            mask(root / f"v2/{uid}/labels_rgb/{second}.png", 0, 32)
    (root / "metadata.csv").write_text("\n".join(rows) + "\n")
    script("avsbench", root, "--subset", "v2")
    found, _ = evaluate(root / "v2.csv")
    assert found["masks"]["whole frame"]["n"] == 20
    assert found["masks"]["whole frame"]["miou"] == pytest.approx(0.5, abs=0.01)


def test_mixtures_of_two_clips_and_their_sources(tmp_path, script, evaluate):
    root = tmp_path / "duet"
    names = ["aaaaaaaaaaa_000001", "bbbbbbbbbbb_000030", "ccccccccccc_000005"]
    for number, name in enumerate(names):
        image(root / f"frames/{name}.jpg", number)
        tone(root / f"audio/{name}.wav", 300 + 100 * number, seconds=10.0)
    entries = [{"file": name, "class": "x", "bbox": [[0, 0, 0.5, 1]]} for name in names]
    (root / "vggss.json").write_text(json.dumps(entries))
    lines = [f"{names[0]},elk_bugling,{names[1]},people_coughing", f"{names[2]},elk_bugling,{names[0]},x"]
    (root / "vggsound_duet_test.csv").write_text("\n".join(lines) + "\n")
    script("vggsound_duet", root)
    found, printed = evaluate(root / "vggsound_duet.csv")
    duets = found["duets"]
    assert duets["trained model"]["n"] == 4
    # Half of the frame is true: selecting all of it has a cIoU of 1/2, and its pixels a precision of 1/2.
    whole = duets["whole frame"]
    assert (whole["ciou30_ezvsl"], whole["cap"], whole["piap"]) == pytest.approx((1.0, 0.5, 0.5), abs=0.01)
    assert "Mixtures, each source" in printed
    assert "CIoU@0.3 ezvsl" in printed


def test_sources_of_duets_are_asked_for_with_the_audio_of_their_class(tmp_path, script, evaluate, video_maker):
    root = tmp_path / "music"
    solo = {"flute": ["aaaaaaaaaaa"], "violin": ["bbbbbbbbbbb"]}
    for number, video in enumerate(("aaaaaaaaaaa", "bbbbbbbbbbb", "ccccccccccc")):
        video_maker(root / f"{video}.mp4", number)
    (root / "MUSIC_solo_videos.json").write_text(json.dumps({"videos": solo}))
    (root / "MUSIC_duet_videos.json").write_text(json.dumps({"videos": {"flute violin": ["ccccccccccc"]}}))
    boxes = root / "boxes"
    boxes.mkdir()
    entry = {"class_src1": "flute", "bbox_src1": [0, 0, 0.5, 1], "class_src2": "violin", "bbox_src2": [0.5, 0, 0.5, 1]}
    (boxes / "music_duet.json").write_text(
        json.dumps([{"file": f"ccccccccccc_00{second}_{30 * second:05d}", **entry} for second in (0, 1)])
    )
    (boxes / "music_solo.json").write_text(
        json.dumps([{"file": "aaaaaaaaaaa_001_00030", "class": "flute", "bbox": [0, 0, 0.5, 1]}])
    )
    script("music", root, "--boxes", boxes)
    found, printed = evaluate(root / "manifest.csv")
    duets = found["duets"]
    asked = "trained model, audio of the class alone"
    assert (duets["trained model"]["n"], duets[asked]["n"]) == (4, 4)
    assert list(duets)[:2] == ["trained model", asked]
    # One map cannot be right for both halves of the frame: under the mixture, both have the same.
    assert duets["whole frame"]["cap"] == pytest.approx(0.5, abs=0.01)
    assert duets["trained model"]["piap"] == pytest.approx(duets["trained model"]["cap"], abs=1e-6)
    assert asked in printed
