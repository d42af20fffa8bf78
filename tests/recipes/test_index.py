import pytest

from avssl.cli import main
from avssl.core.manifest import read_manifest
from avssl.training.rows import find_rows


@pytest.fixture
def folder(tmp_path, video_maker):
    videos = tmp_path / "videos"
    video_maker(videos / "good.mp4", 0)
    video_maker(videos / "silent.mp4", 1, sound=False)
    return videos


def test_index_writes_manifest_and_failures(folder, capsys):
    assert main(["index", str(folder)]) == 0
    assert list(read_manifest(folder / "manifest.csv")["id"]) == ["good.mp4"]
    assert "silent.mp4,silent.mp4,audio,no_audio" in (folder / "manifest.failures.csv").read_text().replace('"', "")
    out = capsys.readouterr().out
    assert "2 files: 1 ok, 1 cannot be used\n  1 no_audio\nok at depth normal: both ends decode" in out
    assert "1 rows, 0.00 h" in out
    assert f"failures: {folder / 'manifest.failures.csv'}" in out


def test_index_into_a_folder_above(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    assert main(["index", "videos", "-o", "all.csv"]) == 0
    manifest = read_manifest(folder.parent / "all.csv")
    assert list(manifest["id"]) == ["videos/good.mp4"]
    assert manifest.file(0).is_file()


def test_a_folder_behind_a_link_keeps_its_name(folder, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "videos").symlink_to(folder)
    assert main(["index", str(mine / "videos"), "-o", str(mine / "manifest2.csv")]) == 0
    manifest = read_manifest(mine / "manifest2.csv")
    assert list(manifest["path"]) == ["videos/good.mp4"]
    assert manifest.file(0).is_file()


def test_a_read_only_folder_is_named_before_any_work(folder, monkeypatch, capsys):
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("avssl.recipes.index.index_folder", None)
    assert main(["index", str(folder)]) == 1
    assert f"{folder}: cannot be written (read-only, or no permission). Name another place with -o" in (
        capsys.readouterr().err
    )


def test_a_manifest_elsewhere_raises_before_any_work(folder, tmp_path, capsys):
    assert main(["index", str(folder), "-o", str(tmp_path / "other" / "m.csv")]) == 1
    assert "paths are relative to it" in capsys.readouterr().err


def test_folder_without_a_usable_file_is_an_error(folder, capsys):
    (folder / "good.mp4").unlink()
    assert main(["index", str(folder)]) == 1
    assert "none of its 1 media files can be used" in capsys.readouterr().err
    assert not (folder / "manifest.csv").exists()


def test_a_misspelled_option_gets_a_suggestion(folder, capsys):
    assert main(["index", str(folder), "--segment-second", "3"]) == 2
    assert "Did you mean --segment-seconds?" in capsys.readouterr().err


def test_a_second_index_checks_no_file_and_drops_failures_that_are_gone(folder, capsys):
    assert main(["index", str(folder)]) == 0
    (folder / "silent.mp4").unlink()
    capsys.readouterr()
    assert main(["index", str(folder)]) == 0
    assert "1 files (1 unchanged since an earlier check): 1 ok, 0 cannot be used" in capsys.readouterr().out
    assert not (folder / "manifest.failures.csv").exists()


def test_strict_fails_when_a_file_cannot_be_used(folder, capsys):
    assert main(["index", str(folder), "--strict", "--num-workers", "1"]) == 1
    assert "1 files cannot be used (--strict)" in capsys.readouterr().err
    assert (folder / "manifest.csv").is_file()
    (folder / "silent.mp4").unlink()
    assert main(["index", str(folder), "--strict"]) == 0


def test_depth_and_limits_are_options(folder, capsys):
    assert main(["index", str(folder), "--depth", "quick", "--timeout-seconds", "9", "--min_seconds", "2.5"]) == 1
    assert "1 too_short" in capsys.readouterr().out
    assert main(["index", str(folder), "--depth", "deep"]) == 2
    assert main(["index", str(folder), "--timeout-seconds", "0"]) == 2
    assert "--timeout-seconds (0.0) must be >= 0.001" in capsys.readouterr().err


def test_pretraining_on_a_folder_uses_the_results_of_index(tmp_path, video_maker, tiny_config, monkeypatch):
    for number in range(9):
        video_maker(tmp_path / "videos" / f"{number}.mp4", number)
    assert main(["index", str(tmp_path / "videos"), "--backend", "pyav"]) == 0
    monkeypatch.setattr("avssl.data.health.check.probe_file", None)  # would crash in every worker
    manifest, unusable = find_rows(tiny_config(tmp_path / "videos"))
    assert (len(manifest), len(unusable)) == (9, 0)
