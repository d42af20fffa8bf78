from avssl.cli import main
from avssl.core.manifest import read_manifest

SMALL = ["--width", "32", "--height", "32", "--duration_seconds", "0.5", "--num_workers", "0"]


def test_synthesize_makes_a_labeled_corpus_and_keeps_it(tmp_path, capsys):
    out = tmp_path / "shapes"
    assert main(["synthesize", str(out), "--num_clips", "3", *SMALL]) == 0
    manifest = read_manifest(out / "manifest.csv")
    assert list(manifest["split"]) == ["train"] * 3 + ["test"]
    assert manifest.file(0).is_file()
    assert manifest["width"][0] == 32
    before = (out / "train" / "000000.mp4").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["synthesize", str(out), "--num_clips", "3", *SMALL]) == 0
    assert f"corpus: {out}, complete already" in capsys.readouterr().out
    assert (out / "train" / "000000.mp4").stat().st_mtime_ns == before
    assert main(["synthesize", str(out), "--num_clips", "4", *SMALL]) == 1
    assert "holds a corpus with num_clips 3, but 4 is requested. Replace it with --over" in capsys.readouterr().err
    assert main(["synthesize", str(out), "--num_clips", "1", "--num_test_clips", "0", "--overwrite", *SMALL]) == 0
    assert len(read_manifest(out / "manifest.csv")) == 1


def test_scene_settings_are_documented_options(capsys):
    assert main(["synthesize", "--help-all"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--off-screen-fraction" in text
    assert "--camera-shake-pixels X" in text


def test_wrong_settings_raise(tmp_path, capsys):
    assert main(["synthesize", str(tmp_path / "x"), "--width", "31"]) == 2
    assert "must be even" in capsys.readouterr().err
    assert main(["synthesize", str(tmp_path / "x"), "--num_clips", "0", "--num_test_clips", "0"]) == 1
    assert "must be >= 0, and one of them > 0" in capsys.readouterr().err
