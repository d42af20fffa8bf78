"""Outputs are replaced by the command that made them, or with overwrite; never while somebody writes them."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from avssl.core import lock as locks
from avssl.core import whole_file as files
from avssl.core.lock import OutputError, locked
from avssl.core.output_records import Command, place
from avssl.core.outputs import FolderKind, claimed_file, claimed_files, claimed_folder, remove_files
from avssl.core.whole_file import write_json, write_text

ONE, OTHER = Command.of("embed", source="a", stride=1.0), Command.of("embed", source="a", stride=0.5)
RUN = FolderKind("a run", ("config.yaml", "weights/*.bin", "log/*.txt"), complete="config.yaml", repeatable=False)
CORPUS = FolderKind("a corpus", ("list.csv", "clips/[0-9]*.mp4"), complete="list.csv")
PAGE = FolderKind("a page", ("index.html", "data/*.json"))


def write(path, text="text", command=ONE, **options):
    with claimed_file(path, command, **options):
        write_text(path, text)


def fill(path, command=ONE, kind=RUN, names=("weights/a.bin", "config.yaml"), **options):
    with claimed_folder(path, command, kind, **options) as claim:
        claim.begin()
        for name in names:
            write_text(path / name, name)


def visible(folder):
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and ".avssl" not in p.relative_to(folder).parts
    )


# ---------------------------------------------------------------- files


def test_the_same_command_replaces_its_file_and_another_needs_overwrite(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write(path, "first")
    write(path, "second")
    with pytest.raises(OutputError, match=r"a\.txt: exists already, with stride 1.0, but 0.5 is requested"):
        write(path, "third", OTHER)
    with pytest.raises(OutputError, match=r"exists already, of avssl embed\. Replace it with --overwrite"):
        write(path, "third", Command.of("search"))
    assert path.read_text() == "second"
    write(path, "third", OTHER, overwrite=True)
    assert path.read_text() == "third"


def test_a_file_of_somebody_else_or_changed_by_hand_is_kept(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("of somebody")
    with pytest.raises(OutputError, match=r"exists already\. Replace"):
        write(path)
    path.unlink()
    write(path)
    path.write_text("text and notes")
    with pytest.raises(OutputError, match="was changed since avssl made it"):
        write(path)
    assert path.read_text() == "text and notes"
    write(path, overwrite=True)
    write(path)


def test_nothing_is_left_of_a_command_that_failed(tmp_path):
    def fail(**options):
        with claimed_file(tmp_path / "a.txt", OTHER, **options):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "a.txt")
    with pytest.raises(KeyboardInterrupt):
        fail(overwrite=True)
    write(tmp_path / "a.txt", "again")  # the record of the first command is back


def test_inputs_folders_and_devices(tmp_path):
    source = tmp_path / "a.mp4"
    source.write_text("video")
    (tmp_path / "link.mp4").symlink_to(source)
    for out in (source, tmp_path / "link.mp4"):
        with pytest.raises(OutputError, match="is read by this command"):
            write(out, overwrite=True, reads=[None, source])
    with pytest.raises(OutputError, match="is a folder; name a file"):
        write(tmp_path)
    with claimed_files([Path("/dev/null"), None], ONE):
        pass
    with pytest.raises(OutputError, match=r"a\.mp4: lies in .*, which this command reads, and avssl did not make it"):
        write(source, overwrite=True, reads=[tmp_path])
    assert source.read_text() == "video"
    write(tmp_path / "table.parquet", reads=[tmp_path])
    write(tmp_path / "table.parquet", overwrite=True, reads=[tmp_path])


def test_long_names_have_records(tmp_path):
    for name in ("ü" * 127, "a" * 255):
        write(tmp_path / name)
        write(tmp_path / name)
        with pytest.raises(OutputError, match="stride"):
            write(tmp_path / name, command=OTHER)


KILLED = """
import os, sys
from pathlib import Path
from avssl.core import whole_file
from avssl.core.outputs import Command, claimed_file
calls = 0
def counted(function):
    def call(*args, **options):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os._exit(9)
        return function(*args, **options)
    return call
for name in ("link", "rename", "replace", "unlink", "mkdir", "rmdir"):
    setattr(os, name, counted(getattr(os, name)))
with claimed_file(sys.argv[1], Command.of("embed", source="a", stride=float(sys.argv[3])), overwrite=len(sys.argv) > 4):
    whole_file.write_text(sys.argv[1], "new")
"""


def killed_at(path, call, *words):
    command = [sys.executable, "-c", KILLED, str(path), str(call), *words]
    return subprocess.run(command, timeout=60, capture_output=True).returncode


def test_a_kill_at_any_moment_leaves_a_file_that_the_same_command_replaces_and_no_other(tmp_path):
    call = 1
    while killed_at(tmp_path / f"{call}" / "a.txt", call, "1.0") == 9:
        path = tmp_path / f"{call}" / "a.txt"
        if path.exists():
            with pytest.raises(OutputError, match="stride"):
                write(path, command=OTHER)
        write(path, "again")
        call += 1
    assert call > 8


def test_a_kill_while_overwriting_leaves_a_foreign_file_foreign(tmp_path):
    call = 1
    while True:
        path = tmp_path / f"{call}" / "a.txt"
        write_text(path, "of somebody")
        status = killed_at(path, call, "1.0", "overwrite")
        if path.read_text() == "of somebody":
            with pytest.raises(OutputError, match="exists already"):
                write(path)
        else:
            write(path)
        call += 1
        if status == 0:
            break
    assert call > 7


# ---------------------------------------------------------------- folders


def test_a_complete_folder_needs_overwrite_and_loses_only_files_of_avssl(tmp_path):
    run = tmp_path / "run"
    fill(run)
    with pytest.raises(OutputError, match=r"holds a run already\. Replace it with --overwrite"):
        fill(run)
    (run / "weights" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files \(weights/thesis.txt\)"):
        fill(run, overwrite=True)
    assert visible(run) == ["config.yaml", "weights/a.bin", "weights/thesis.txt"]
    (run / "weights" / "thesis.txt").unlink()
    fill(run, OTHER, names=["config.yaml"], overwrite=True)
    assert visible(run) == ["config.yaml"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_of_somebody_else_is_never_taken(tmp_path, overwrite):
    for name in ("notes.txt", "config.yaml", "weights/a.bin"):
        folder = tmp_path / name.replace("/", "_")
        write_text(folder / name, "mine")
        with pytest.raises(OutputError, match=rf"holds other files \({name}\)"):
            fill(folder, overwrite=overwrite)
        assert visible(folder) == [name]
    with pytest.raises(OutputError, match="is a file; name a folder"):
        fill(tmp_path / "notes.txt" / "notes.txt", overwrite=overwrite)


def test_the_same_command_finds_its_complete_folder_and_another_needs_overwrite(tmp_path):
    corpus = tmp_path / "corpus"
    fill(corpus, kind=CORPUS, names=["clips/1.mp4"])
    with claimed_folder(corpus, ONE, CORPUS) as claim:
        assert not claim.is_complete  # killed before its list was there
        claim.begin()
        assert visible(corpus) == []
        write_text(corpus / "list.csv", "x")
    write_text(corpus / "notes.txt", "mine")
    with claimed_folder(corpus, ONE, CORPUS) as claim:
        assert claim.is_complete
    (corpus / "notes.txt").unlink()
    with pytest.raises(
        OutputError, match=r"holds a corpus with stride 1.0, but 0.5 is requested\. Replace it with --ov"
    ):
        fill(corpus, OTHER, CORPUS)
    with claimed_folder(corpus, ONE, CORPUS, overwrite=True) as claim:
        assert not claim.is_complete


def test_a_folder_of_another_verb_is_never_replaced(tmp_path):
    fill(tmp_path / "run")
    with pytest.raises(OutputError, match=r"holds what avssl embed made\. Name another folder"):
        fill(tmp_path / "run", Command.of("cka"), PAGE, ["index.html"], overwrite=True)


def test_a_folder_that_may_go_on_is_continued_by_the_same_command_only(tmp_path):
    folder = tmp_path / "page"
    fill(folder, kind=PAGE, names=["data/a.json"])
    write_text(folder / "notes.txt", "mine")
    fill(folder, kind=PAGE, names=["index.html"])
    assert visible(folder) == ["data/a.json", "index.html", "notes.txt"]
    with pytest.raises(OutputError, match=r"holds a page with stride 1.0, but 0.5 is requested"):
        fill(folder, OTHER, PAGE)
    with pytest.raises(OutputError, match=r"holds other files \(notes.txt\)"):
        fill(folder, OTHER, PAGE, overwrite=True)


def test_what_a_start_left_is_free(tmp_path):
    run = tmp_path / "run"
    fill(run, names=["weights/a.bin"])  # killed before the config was written
    fill(run, OTHER, names=["config.yaml"])
    assert visible(run) == ["config.yaml"]


def test_a_new_folder_in_which_nothing_was_written_is_removed(tmp_path):
    def fail(path, begins):
        with claimed_folder(path, ONE, RUN) as claim:
            if begins:
                claim.begin()
            raise KeyboardInterrupt

    (tmp_path / "empty").mkdir()
    for begins in (False, True):
        for name in ("new", "empty"):
            with pytest.raises(KeyboardInterrupt):
                fail(tmp_path / name, begins)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


def test_parts_share_a_folder(tmp_path):
    with claimed_folder(tmp_path / "copy", ONE, PAGE, part=(0, 3)) as first:
        first.begin()
        fill(tmp_path / "copy", kind=PAGE, names=["data/1.json"], part=(1, 3))
        for part in ((0, 3), (0, 2), (0, 1)):
            with pytest.raises(OutputError, match=f"process {os.getpid()} on .* is writing it"):
                fill(tmp_path / "copy", kind=PAGE, part=part)
    fill(tmp_path / "copy", kind=PAGE, names=["index.html"])


def test_removing_files_by_pattern_leaves_everything_else(tmp_path):
    for name in ("cache/a.npz", "cache/b.txt", "deep/er/c.npz", "d.npz"):
        write_text(tmp_path / name, "x")
    remove_files(tmp_path, ["cache/*.npz", "deep/**/*.npz"])
    assert visible(tmp_path) == ["cache/b.txt", "d.npz"]
    assert not (tmp_path / "deep").exists()


# ---------------------------------------------------------------- unfinished files of killed processes

HEX = "0123456789ab"


def unfinished(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.name.endswith(".avssl-tmp"))


def test_unfinished_files_of_a_file_and_its_record_are_removed_and_no_others(tmp_path):
    long, sibling = "a" * 60 + ".csv", "a" * 60 + ".json"
    others = [f".{name}.{HEX}.avssl-tmp" for name in ("b.csv", "a.csv.b", "[ab].csv")]
    others += [files.unfinished_name(tmp_path / sibling).name, f".a.csv.{HEX}.tmp"]
    for name in (*others, f".a.csv.{HEX}.avssl-tmp", f".avssl/.a.csv.made.json.{HEX}.avssl-tmp"):
        write_text(tmp_path / name, "half")
    for name in (tmp_path / long, tmp_path / ".avssl" / "a.csv.lock"):
        files.unfinished_name(name).write_text("half")
    for name in ("a.csv", long):
        write(tmp_path / name)
    assert unfinished(tmp_path) == sorted(name for name in others if name.endswith("avssl-tmp"))


def test_unfinished_files_of_a_folder_are_removed_unless_another_process_writes_parts_of_it(tmp_path):
    folder = tmp_path / "page"
    mine = [f"{name}.{HEX}.avssl-tmp" for name in (".index.html", "data/.1.json", ".avssl/.made.json", ".avssl/.lock")]
    others = [f"{name}.{HEX}.avssl-tmp" for name in (".notes.txt", "data/.a.txt")]
    fill(folder, kind=PAGE, names=["data/1.json"])
    for name in (*mine, *others):
        write_text(folder / name, "half")
    with claimed_folder(folder, ONE, PAGE, part=(0, 2)):
        write_text(folder / mine[0], "half")
        fill(folder, kind=PAGE, names=["data/1.json"], part=(1, 2))
        assert mine[0] in unfinished(folder)
    fill(folder, kind=PAGE, names=["index.html"])
    assert unfinished(folder) == sorted(others)


# ---------------------------------------------------------------- locks

HOLD = """
import sys, time
from avssl.core.outputs import Command, FolderKind, claimed_file, claimed_folder
kind = FolderKind("a run", ("config.yaml",), complete="config.yaml")
made = claimed_folder(sys.argv[1], Command.of("embed"), kind) if sys.argv[2] == "folder" else \
    claimed_file(sys.argv[1], Command.of("embed"))
with made:
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_that_a_living_process_writes_is_an_error_and_a_dead_one_is_taken_over(tmp_path, kind, caplog):
    caplog.set_level("INFO", "avssl")
    out = tmp_path / "out"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(out), kind], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=f"out: process {holder.pid} on .* is writing it"):
                (fill if kind == "folder" else write)(out, overwrite=overwrite)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    (fill if kind == "folder" else write)(out)
    assert f"taken over from process {holder.pid}" in caplog.text


def test_a_copy_of_a_folder_that_is_being_written_is_free(tmp_path):
    run, copy, link = tmp_path / "run", tmp_path / "copy", tmp_path / "link"
    link.symlink_to(run)
    with claimed_folder(run, ONE, RUN) as claim:
        claim.begin()
        write_text(run / "config.yaml", "x")
        shutil.copytree(run, copy)
        with claimed_folder(copy, ONE, RUN, resume=True):
            pass
        for name in (run, link):
            with pytest.raises(OutputError, match="is writing it"):
                fill(name, overwrite=True)


def test_a_nested_lock_protects_the_whole_folder(tmp_path):
    demo = FolderKind("a demo", ("run/config.yaml",))
    fill(tmp_path / "demo", kind=demo, names=[])
    with (
        claimed_folder(tmp_path / "demo" / "run", ONE, RUN, resume=True),
        pytest.raises(OutputError, match=r"run: process .* is writing it"),
    ):
        fill(tmp_path / "demo", kind=demo, overwrite=True, names=["run/config.yaml"])


def of_other_machine(lock, **more):
    write_json(lock, {"host": "far", "pid": 1, "began": "then", "started": "1", "machine": "far", "token": "a", **more})


def test_the_owner_on_another_machine_lives_while_it_touches_the_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "BEAT_SECONDS", 0.01)
    monkeypatch.setattr(locks, "WATCH_SECONDS", 0.3)
    lock = tmp_path / "lock"
    of_other_machine(lock)
    with locked(lock, tmp_path):  # nobody touches it
        assert json.loads(lock.read_text())["pid"] == os.getpid()
        before = lock.stat().st_mtime_ns
        deadline = time.monotonic() + 30
        while lock.stat().st_mtime_ns == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.stat().st_mtime_ns != before
        own = json.loads(lock.read_text())
        write_json(lock, own | {"machine": "another", "host": "far"})  # as another machine sees this one
        with pytest.raises(OutputError, match=r"on far .* is writing it"), locked(lock, tmp_path):
            pass
        write_json(lock, own)
    assert not lock.exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_lock_that_a_kill_left_empty_is_taken_over(tmp_path, monkeypatch, content):
    monkeypatch.setattr(locks, "_EMPTY_SECONDS", 0.05)
    (tmp_path / "lock").write_text(content)
    with locked(tmp_path / "lock", tmp_path):
        pass


def test_a_lock_that_is_aside_for_a_moment_is_not_removed(tmp_path):
    lock = tmp_path / "lock"
    with locked(lock, tmp_path):
        aside = files.unfinished_name(lock)
        lock.rename(aside)  # as a process does that took it for the lock of a dead one
        locks._remove_unfinished(lock, json.loads(aside.read_text()))
        aside.rename(lock)
        files.unfinished_name(lock).write_text(lock.read_text().replace("token", "other"))
    with locked(lock, tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_only_one_of_many_takes_a_dead_lock_over(tmp_path):
    of_other_machine(tmp_path / "lock")
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom avssl.core import lock\nlock.WATCH_SECONDS = 0.2\n"
        "lock.BEAT_SECONDS = 0.02\n"
        "with lock.locked(Path(sys.argv[1]), Path('out')):\n    print('held', flush=True)\n    time.sleep(3)"
    )
    words = [sys.executable, "-c", script, str(tmp_path / "lock")]
    runs = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    texts = [run.communicate(timeout=120) for run in runs]
    assert sorted(out for out, _ in texts) == ["", "", "", "held\n"]
    assert sum("is writing it" in error for _, error in texts) == 3


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS])
def test_disks_without_hard_links(tmp_path, monkeypatch, number):
    def link(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    write_json(tmp_path / "a.json", {"a": 1}, replace=False)
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "a.json", {"a": 2}, replace=False)
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": 1}
    with pytest.raises(FileNotFoundError), files.whole_file(tmp_path / "b.json", replace=False):
        pass  # nothing was written
    with locked(tmp_path / "lock", tmp_path), pytest.raises(OutputError), locked(tmp_path / "lock", tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_disk_whose_folders_cannot_be_flushed(tmp_path, monkeypatch):
    flush = files.flush

    def refused(path):
        if path.is_dir():
            raise OSError(errno.EINVAL, "Invalid argument")
        flush(path)

    monkeypatch.setattr(files, "flush", refused)
    with files.whole_file(tmp_path / "a.txt", durable=True) as temporary:
        temporary.write_text("text")
    assert (tmp_path / "a.txt").read_text() == "text"


def test_places_are_absolute_and_other_names_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert place(".") == str(tmp_path)
    assert [place(name) for name in ("s3://a/b", "owner/name", None)] == ["s3://a/b", "owner/name", None]


# ---------------------------------------------------------------- places that hold no lock


@pytest.mark.parametrize("name", ["taken", "taken/deeper/new"])
def test_a_file_where_a_folder_must_be_is_named_at_once(tmp_path, name):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(OutputError, match=r"taken: is a file|taken is no folder, so nothing can be written in it"):
        fill(tmp_path / name, overwrite=True)
    with pytest.raises(OutputError, match="taken is no folder, so nothing can be written in it"):
        write(tmp_path / name / "a.txt", overwrite=True)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_lock_that_can_be_neither_made_nor_read_is_an_error_and_no_loop(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "_VANISHING_SECONDS", 0.05)
    (tmp_path / ".avssl").symlink_to(tmp_path / "gone" / "further")
    with pytest.raises(OutputError, match=r"no folder|can be neither made nor read"):
        write(tmp_path / "a.txt")

    (tmp_path / "other").mkdir()

    def vanishes(path, content, replace):
        raise FileNotFoundError(path)

    monkeypatch.setattr(locks, "write_json", vanishes)
    with pytest.raises(OutputError, match=r"a\.txt\.lock can be neither made nor read\. Remove it"):
        write(tmp_path / "other" / "a.txt")


def test_two_outputs_of_one_place_are_an_error(tmp_path):
    with pytest.raises(OutputError, match=r"page\.csv: is named for two outputs"):
        claimed_files([tmp_path / "page.csv", tmp_path / "a" / ".." / "page.csv"], ONE).__enter__()
    assert not list(tmp_path.iterdir())
