"""Heat maps of several files: each as alone, resumable, with a table and a page."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from avssl.cli import main
from avssl.core.manifest import Manifest
from avssl.localization import Look
from avssl.media import open_media
from avssl.recipes.localize.many import _sources, _Task
from avssl.recipes.localize.one import Request


@pytest.fixture(scope="module")
def folder(tmp_path_factory, videos, video_maker):
    """Two videos, one whose name is markup, one without audio, and a file that is no video."""
    folder = tmp_path_factory.mktemp("many") / "clips"
    (folder / "deep").mkdir(parents=True)
    for name, link in (("clip00.mp4", "a.mp4"), ("clip19.mp4", "deep/<b>, &.mp4")):
        (folder / link).symlink_to(videos / name)
    video_maker(folder / "mute.mp4", 3, sound=False)
    (folder / "text.mp4").write_text("no video")
    return folder


def words(run, out, *more):
    return ["localize", "--checkpoint", str(run), "-o", str(out), "--device", "cpu", "--seconds", "1", *map(str, more)]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_gives_a_page_and_what_each_file_gives_alone(folder, run, tmp_path, capsys):
    out = tmp_path / "maps of all"
    many = words(run, out, folder, "--num-workers", "2", "--boxes", "0.8")
    assert main(many) == 0
    said = capsys.readouterr().out
    assert "2 of 4 files could not be localized: " in said
    assert f"page: {out / 'index.html'}" in said
    alone = words(run, tmp_path / "a.mp4", folder / "a.mp4", "--readout", tmp_path / "a.json", "--boxes", "0.8")
    assert main(alone) == 0
    one, found = json.loads((tmp_path / "a.json").read_text()), json.loads((out / "maps" / "000000.json").read_text())
    assert found["maps"][0]["peaks"] == one["maps"][0]["peaks"]
    with open_media(out / "maps" / "000000.mp4") as ours, open_media(tmp_path / "a.mp4") as theirs:
        assert ours.info.video_stop_seconds == theirs.info.video_stop_seconds
        assert ours.info.has_audio
    rows = {row["id"]: row for row in rows_of(out / "results.csv")}
    assert list(rows) == ["a.mp4", "mute.mp4", "text.mp4", "deep/<b>, &.mp4"]
    best = max(one["maps"][0]["peaks"], key=lambda peak: peak["confidence"])
    assert float(rows["a.mp4"]["cosine"]) == pytest.approx(best["confidence"])
    assert rows["a.mp4"]["map"] == "maps/000000.mp4"
    assert "no audio" in rows["mute.mp4"]["problem"]
    assert {row["id"] for row in rows_of(out / "failures.csv")} == {"mute.mp4", "text.mp4"}
    page = (out / "index.html").read_text()
    assert "maps/000000.mp4#t=" in page
    assert "&lt;b&gt;, &amp;.mp4" in page
    assert "2 files could not be localized" in page

    # ------------------------------------------------ the same command again makes what is missing
    (out / "maps" / "000003.json").unlink()
    before = os.stat(out / "maps" / "000000.mp4").st_mtime_ns, os.stat(out / "maps" / "000003.mp4").st_mtime_ns
    assert main(many) == 0
    after = os.stat(out / "maps" / "000000.mp4").st_mtime_ns, os.stat(out / "maps" / "000003.mp4").st_mtime_ns
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)
    assert main([*many, "--silence"]) == 1
    assert "holds heat maps with silence False, but True is requested" in capsys.readouterr().err
    assert main([*many, "--silence", "--overwrite"]) == 0
    assert rows_of(out / "results.csv")[1]["problem"] == ""  # a mute video has silence to look for


def test_a_manifest_gives_each_file_once_with_its_own_audio(folder, run, tmp_path):
    spans = {"start_seconds": [0.0, 1.0, 0.0], "stop_seconds": [1.0, 2.0, 1.0]}
    sound = ["a.mp4", "a.mp4", "a.mp4"]
    columns = {"id": ["x", "y", "z"], "path": ["a.mp4", "a.mp4", "mute.mp4"], "audio_path": sound, **spans}
    Manifest.from_columns(columns, folder).write(folder / "rows.csv")
    try:
        assert main(words(run, tmp_path / "out", folder / "rows.csv", "--num-workers", "1")) == 0
    finally:
        (folder / "rows.csv").unlink()
    assert sorted(path.name for path in (tmp_path / "out" / "maps").glob("*.json")) == ["000000.json", "000002.json"]
    assert not (tmp_path / "out" / "failures.csv").exists()


def test_a_file_that_takes_too_long_is_named_with_what_to_do(folder, run, tmp_path, capsys):
    files = [folder / "a.mp4", folder / "deep" / "<b>, &.mp4"]
    assert main(words(run, tmp_path / "out", *files, "--num-workers", "2", "--timeout-seconds", "0.01")) == 1
    error = capsys.readouterr().err
    assert "none of 2 files can be localized" in error
    assert "a.mp4: localizing it failed: not done after 0.01 s." in error
    assert "raise --timeout-seconds or --memory-gib" in error
    assert main(words(run, tmp_path / "out", *files, "--num-workers", "2")) == 0  # only how, not what


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["a.mp4", "mute.mp4", "--readout", "x.json"], "--readout is of one file"),
        (
            ["a.mp4", "--engine", "ray"],
            "--engine, --address, --num-workers, --timeout-seconds and --memory-gib are for several files",
        ),
        (
            ["a.mp4", "--num-workers", "2"],
            "--engine, --address, --num-workers, --timeout-seconds and --memory-gib are for several files",
        ),
        (["a.mp4", "mute.mp4", "--engine", "ray", "--device", "cuda"], "localizes on its CPU cores"),
        (["a.mp4", "none.mp4"], "none.mp4: no such file"),
    ],
)
def test_contradictions_are_named_before_any_work(folder, run, tmp_path, monkeypatch, capsys, more, message):
    monkeypatch.chdir(folder)
    given = ["localize", *more, "--checkpoint", str(run), "-o", str(tmp_path / "out")]
    assert main(given) != 0
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_map_is_made_again_when_its_audio_changes(videos, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        Path(f"{name}.mp4").symlink_to(videos / "clip00.mp4")
    shutil.copy(videos / "clip05.mp4", "other.mp4")
    line = words(run, "maps", "a.mp4", "b.mp4", "--audio", "other.mp4", "--num-workers", "1")
    assert main(line) == 0
    before = Path("maps/maps/000000.json").read_text()
    shutil.copy(videos / "clip11.mp4", "other.mp4")
    assert main(line) == 0
    assert Path("maps/maps/000000.json").read_text() != before


def test_options_that_do_not_fit_the_number_of_files_are_errors(folder, run, tmp_path, capsys):
    assert main(words(run, tmp_path / "a.mp4", folder / "a.mp4", "--timeout-seconds", "5")) != 0
    assert "--timeout-seconds" in capsys.readouterr().err
    assert main(words(run, tmp_path / "all.mp4", folder)) != 0
    assert "several files give a folder" in capsys.readouterr().err


def test_processes_elsewhere_get_absolute_paths(run, tmp_path, monkeypatch):
    """Those of a cluster run in the folder where it was started."""
    monkeypatch.chdir(tmp_path)
    Path("run").symlink_to(run)
    Path("a.mp4").touch()
    manifest = Manifest.from_columns({"id": ["a"], "path": ["a.mp4"]}, ".")
    request = Request("a.mp4", None, False, False, False, "video", Look(), 0.25, None, None)
    task = _Task.of(Path("out"), "run", request, list(_sources(manifest)))
    (source,) = task.sources.values()
    paths = [task.folder, task.checkpoint, task.request.audio, source.file]
    assert [str(path) for path in paths] == [str(tmp_path / name) for name in ("out", "run", "a.mp4", "a.mp4")]
    assert _Task.of(Path("out"), "hf-hub:owner/name", request, []).checkpoint == "hf-hub:owner/name"
