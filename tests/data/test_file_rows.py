import os

import pytest

from avssl.core.names import name_from_text
from avssl.data.file_rows import rows_of_files


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a/x.mp4", "a/b/x.mp4", "c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def places(manifest):
    return [os.path.normpath(manifest.file(row)) for row in range(len(manifest))]


def test_ids_are_paths_below_the_folder_that_holds_all(files):
    manifest = rows_of_files(["a/b/x.mp4", "a/x.mp4", "./a//x.mp4"])
    assert manifest["id"].tolist() == ["b/x.mp4", "x.mp4"]  # the same file once
    assert places(manifest) == ["a/b/x.mp4", "a/x.mp4"]
    assert places(rows_of_files(["c.mp4"])) == ["c.mp4"]
    assert rows_of_files(["c.mp4", "a/x.mp4"])["id"].tolist() == ["c.mp4", "a/x.mp4"]


def test_files_above_the_working_folder(files, monkeypatch):
    monkeypatch.chdir(files / "a")
    manifest = rows_of_files(["../c.mp4", "x.mp4", str(files / "c.mp4")])
    assert manifest["id"].tolist() == ["c.mp4", "a/x.mp4"]
    assert places(manifest) == [str(files / "c.mp4"), str(files / "a" / "x.mp4")]


def test_any_name_is_a_row(tmp_path, odd_names):
    paths = [tmp_path / name_from_text(name) for name in odd_names]
    for path in paths:
        path.touch()
    manifest = rows_of_files(paths)
    assert [manifest.file(row) for row in range(len(manifest))] == paths


def test_what_is_no_file_is_an_error(files):
    with pytest.raises(FileNotFoundError, match=r"b.mp4: no such file"):
        rows_of_files(["c.mp4", "b.mp4"])
    with pytest.raises(ValueError, match="a: is a folder; name its files"):
        rows_of_files(["a"])
    with pytest.raises(ValueError, match="at least one file"):
        rows_of_files([])
