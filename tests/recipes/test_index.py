import csv
import re
from pathlib import Path

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


# ---------------------------------------------------------------- a manifest that is there


def table(path):
    with Path(path).open(encoding="utf-8", newline="") as file:
        return {row["id"]: row for row in csv.DictReader(file)}


def add_columns(path, **columns):
    """Add columns as an editor would: the file is written anew."""
    rows = list(table(path).values())
    for name, values in columns.items():
        for row in rows:
            row[name] = values.get(row["id"], "")
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def labeled(tmp_path, video_maker):
    """Two indexed files with labels and splits."""
    videos = tmp_path / "videos"
    for number, name in enumerate(("a.mp4", "sub/b.mp4")):
        video_maker(videos / name, number)
    assert main(["index", str(videos)]) == 0
    add_columns(videos / "manifest.csv", label={"a.mp4": "dog", "sub/b.mp4": "cat"}, split={"a.mp4": "train"})
    return videos


@pytest.mark.parametrize("times", [1, 2])
def test_labels_and_splits_survive_a_second_index(labeled, video_maker, capsys, times):
    video_maker(labeled / "c.mp4", 2)
    for _ in range(times):
        assert main(["index", str(labeled)]) == 0
    rows = table(labeled / "manifest.csv")
    assert {name: (row["label"], row["split"]) for name, row in rows.items()} == {
        "a.mp4": ("dog", "train"),
        "c.mp4": ("", ""),
        "sub/b.mp4": ("cat", ""),
    }
    assert "kept: label, split of 2 rows; 1 new rows have none yet" in capsys.readouterr().out


def test_labels_of_a_file_that_is_gone_come_back_with_it(labeled, capsys):
    for _ in range(2):
        (labeled / "sub" / "b.mp4").rename(labeled.parent / "b.mp4")
        assert main(["index", str(labeled)]) == 0
        assert list(table(labeled / "manifest.csv")) == ["a.mp4"]
        assert table(labeled / "manifest.removed.csv")["sub/b.mp4"]["label"] == "cat"
        assert "gone: 1 rows, the first is sub/b.mp4" in capsys.readouterr().out
        (labeled.parent / "b.mp4").rename(labeled / "sub" / "b.mp4")
        assert main(["index", str(labeled)]) == 0
        assert table(labeled / "manifest.csv")["sub/b.mp4"]["label"] == "cat"
        assert not (labeled / "manifest.removed.csv").exists()


def test_rows_that_only_index_made_leave_nothing_behind(folder):
    assert main(["index", str(folder)]) == 0
    assert main(["index", str(folder), "--segment-seconds", "0.5", "--segment-over-seconds", "1"]) == 0
    assert "good.mp4#0.000-0.500" in table(folder / "manifest.csv")
    assert not (folder / "manifest.removed.csv").exists()


def test_a_manifest_of_something_else_is_kept_without_overwrite(folder, capsys):
    path = folder / "manifest.csv"
    for text in ("id,path,label\nx,good.mp4,dog\n", "not a manifest", "id,path\n"):
        path.write_text(text)
        assert main(["index", str(folder)]) == 1
        assert "--overwrite" in capsys.readouterr().err
        assert path.read_text() == text
    assert main(["index", str(folder), "--overwrite"]) == 0
    assert list(table(path)) == ["good.mp4"]


def test_other_segments_would_lose_labels_and_are_an_error(labeled, capsys):
    before = (labeled / "manifest.csv").read_text()
    words = ["index", str(labeled), "--segment-seconds", "0.5", "--segment-over-seconds", "1"]
    assert main(words) == 1
    assert "none of its 2 rows is one of the" in capsys.readouterr().err
    assert (labeled / "manifest.csv").read_text() == before


def test_the_manifest_of_another_folder_is_kept(labeled, video_maker, capsys):
    other = labeled.parent / "other"
    video_maker(other / "x.mp4", 3)
    out = labeled.parent / "all.csv"
    assert main(["index", str(labeled), "-o", str(out)]) == 0
    assert main(["index", str(other), "-o", str(out)]) == 1
    assert re.search(r"all.csv: exists already, made by another command", capsys.readouterr().err)
    assert len(table(out)) == 2
    assert main(["index", str(other), "-o", str(out), "--overwrite"]) == 0
    assert list(table(out)) == ["other/x.mp4"]


@pytest.mark.parametrize("name", ["manifest.failures.csv", "manifest.removed.csv"])
def test_other_files_beside_the_manifest_are_kept(folder, name, capsys):
    (folder / name).write_text("my own list")
    assert main(["index", str(folder)]) == 1
    assert name in capsys.readouterr().err
    assert (folder / name).read_text() == "my own list"


def test_two_processes_cannot_index_into_one_manifest(folder, capsys):
    from avssl.core.output_records import Command
    from avssl.core.outputs import claimed_file

    with claimed_file(folder / "manifest.csv", Command.of("index")):
        for more in ([], ["--overwrite"]):
            assert main(["index", str(folder), *more]) == 1
            assert "is writing it" in capsys.readouterr().err
    assert not (folder / "manifest.csv").exists()


# ---------------------------------------------------------------- labels and splits from class folders


@pytest.fixture
def classes(tmp_path, video_maker):
    """Two class folders of four recordings, one of which has a copy."""
    videos = tmp_path / "classes"
    for number in range(8):
        video_maker(videos / ("dog" if number < 4 else "cat") / f"{number}.mp4", number)
    (videos / "dog" / "copy.mp4").write_bytes((videos / "dog" / "0.mp4").read_bytes())
    return videos


def columns(path, *names):
    manifest = read_manifest(path)
    return {
        row: tuple(values) for row, *values in zip(manifest["id"], *(manifest[name] for name in names), strict=True)
    }


def test_class_folders_give_labels_and_grouped_splits(classes, capsys):
    words = ["index", str(classes), "--labels", "folders", "--split", "0.5", "0.25", "0.25"]
    assert main(words) == 0
    found = columns(classes / "manifest.csv", "label", "split")
    assert {label for label, _ in found.values()} == {"cat", "dog"}
    assert found["dog/copy.mp4"] == found["dog/0.mp4"]
    for label in ("cat", "dog"):
        assert {split for other, split in found.values() if other == label} == {"train", "val", "test"}
    assert re.search(r"class +train +val +test\ncat +2 +1 +1\ndog +\d +\d +\d\n2 classes", capsys.readouterr().out)
    above = classes.parent / "all.csv"
    assert main([*words, "-o", str(above)]) == 0
    assert columns(above, "label", "split") == {f"classes/{row}": values for row, values in found.items()}
    assert main([*words, "--seed", "5", "--overwrite"]) == 0
    assert columns(classes / "manifest.csv", "split") != {row: (split,) for row, (_, split) in found.items()}


def test_labels_and_splits_that_a_user_changed_are_kept(classes, video_maker, capsys):
    words = ["index", str(classes), "--labels", "folders"]
    assert main(words) == 0
    path = classes / "manifest.csv"
    first = columns(path, "label", "split")
    path.write_text(path.read_text().replace('"cat"', '"tiger"').replace(",cat,", ",tiger,"))
    video_maker(classes / "owl" / "9.mp4", 9)
    assert main(words) == 0
    second = columns(path, "label", "split")
    assert second.pop("owl/9.mp4") == ("owl", "train")
    assert second == {row: (label.replace("cat", "tiger"), split) for row, (label, split) in first.items()}
    assert "labels and splits that rows have already are kept; divide anew with --overwrite" in capsys.readouterr().out


def test_split_folders_are_taken_as_they_are(tmp_path, video_maker, capsys):
    for number, split in enumerate(("train", "test")):
        video_maker(tmp_path / "v" / split / "dog" / "1.mp4", number)
    assert main(["index", str(tmp_path / "v"), "--labels", "folders"]) == 0
    assert columns(tmp_path / "v" / "manifest.csv", "label", "split") == {
        "train/dog/1.mp4": ("dog", "train"),
        "test/dog/1.mp4": ("dog", "test"),
    }
    capsys.readouterr()
    assert main(["index", str(tmp_path / "v"), "--labels", "folders", "--split", "1", "0", "0"]) == 1
    assert "its folders are splits already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--split", "0.8", "0.1", "0.1"], "give --labels folders too"),
        (["--labels", "folders"], "none of its 2 media files lies in a class folder"),
    ],
)
def test_labels_that_cannot_be_given_are_errors_before_any_work(folder, monkeypatch, capsys, words, message):
    monkeypatch.setattr("avssl.recipes.index.index_folder", None)
    assert main(["index", str(folder), *words]) == 1
    assert message in capsys.readouterr().err
