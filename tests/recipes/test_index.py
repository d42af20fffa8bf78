import pytest
import torch

from avssl.cli import main
from avssl.manifest import read_manifest
from avssl.media import write_video


@pytest.fixture
def folder(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    frames = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
    write_video(videos / "good.mp4", frames, 4.0, torch.zeros(1, 16000), 8000)
    write_video(videos / "silent.mp4", frames, 4.0)
    return videos


def test_index_writes_manifest_and_failures(folder, capsys):
    assert main(["index", str(folder)]) == 0
    assert list(read_manifest(folder / "manifest.csv")["id"]) == ["good.mp4"]
    assert "silent.mp4,silent.mp4,audio,no_audio" in (folder / "manifest.failures.csv").read_text().replace('"', "")
    assert "1 files, 1 rows" in capsys.readouterr().out


def test_index_into_a_folder_above(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert main(["index", "videos", "-o", "all.csv"]) == 0
    manifest = read_manifest(folder.parent / "all.csv")
    assert list(manifest["id"]) == ["videos/good.mp4"]
    assert manifest.file(0).is_file()


def test_index_elsewhere_is_refused_before_any_work(folder, tmp_path, capsys):
    assert main(["index", str(folder), "-o", str(tmp_path / "other" / "m.csv")]) == 1
    assert "paths are relative to it" in capsys.readouterr().err


def test_folder_without_a_usable_file_is_an_error(folder, capsys):
    (folder / "good.mp4").unlink()
    assert main(["index", str(folder)]) == 1
    assert "none of its 1 media files has both picture and sound" in capsys.readouterr().err
    assert not (folder / "manifest.csv").exists()


def test_misspelt_option_is_answered_with_the_nearest(folder, capsys):
    assert main(["index", str(folder), "--segment_second", "3"]) == 2
    assert "Did you mean --segment_seconds?" in capsys.readouterr().err
