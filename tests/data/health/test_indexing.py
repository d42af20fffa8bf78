import math
import os
import signal

import av
import pytest
import torch

from avssl.core.manifest import ManifestError
from avssl.core.names import name_from_text
from avssl.core.tables import write_table
from avssl.data.health.indexing import index_folder
from avssl.data.health.journal import journal_path
from avssl.data.health.killable import run_killable
from avssl.data.health.report import HealthSettings, probe_file
from avssl.data.media_files import walk_media
from avssl.media import write_video
from avssl.media.backends import resolve_backend


def make_video(path, seconds, sound=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = (torch.arange(round(seconds * 4)) % 8 * 30).to(torch.uint8)[:, None, None, None].expand(-1, 3, 32, 32)
    audio = torch.sin(torch.arange(round(seconds * 8000)) * 0.1)[None] if sound else None
    write_video(path, frames, 4.0, audio, 8000)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    make_video(folder / "b.mp4", 3)
    make_video(folder / "a" / "short.MP4", 2)
    make_video(folder / "a" / "long.mp4", 34)
    make_video(folder / "silent.mp4", 2, sound=False)
    (folder / "text.mp4").write_text("no video")
    (folder / "notes.txt").write_text("no media by name")
    make_video(folder / ".hidden" / "x.mp4", 1)
    make_video(folder / ".avssl" / "x.mp4", 1)  # avssl's own folder, of which nothing is told
    (folder / "._b.mp4").write_text("what macOS leaves")
    return folder


def test_walk_is_sorted_and_survives_a_loop_of_links(tmp_path):
    for name in ("z.mp4", "a/m.webm", "a/b/n.MKV", "c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    os.symlink(tmp_path, tmp_path / "a" / "loop")
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "a", tmp_path / "elsewhere" / "again")
    assert [str(path) for path in walk_media(tmp_path)] == ["z.mp4", "a/m.webm", "a/b/n.MKV"]


def test_rows_and_ids(corpus):
    found = index_folder(corpus)
    assert list(found.manifest["id"]) == [
        "a/long.mp4#0.000-10.000",
        "a/long.mp4#10.000-20.000",
        "a/long.mp4#20.000-30.000",
        "a/short.MP4",
        "b.mp4",
    ]
    assert found.manifest.file(0) == corpus / "a" / "long.mp4"
    assert found.manifest["duration_seconds"][0] == 10
    assert found.manifest["start_seconds"][1] == 10
    assert math.isclose(found.manifest["duration_seconds"][4], 3, abs_tol=0.05)
    assert found.manifest["width"][0] == 32


def test_a_rest_of_half_a_segment_is_a_row_and_a_shorter_one_is_not(corpus):
    found = index_folder(corpus / "a", segment_seconds=8, segment_over_seconds=10)
    assert [i for i in found.manifest["id"] if "long" in i][-1] == "long.mp4#24.000-32.000"  # 2 s are left
    found = index_folder(corpus / "a", segment_seconds=14, segment_over_seconds=20)
    last = [i for i in found.manifest["id"] if "long" in i][-1]  # 6 s are left
    assert last == "long.mp4#14.000-28.000"
    found = index_folder(corpus / "a", segment_seconds=12, segment_over_seconds=33)
    last = [i for i in found.manifest["id"] if "long" in i][-1]  # 10 s are left
    assert last.startswith("long.mp4#24.000-34.")


def test_failures_are_kept_by_reason(corpus):
    found = index_folder(corpus)
    assert {path: error.reason for path, error in found.failures.items()} == {
        "silent.mp4": "no_audio",
        "text.mp4": "not_media",
    }
    assert found.bad_fraction == pytest.approx(2 / 5)
    assert found.failures_table().column_names == ["id", "path", "stream", "reason", "message"]
    assert found.summary().splitlines()[0] == "5 files: 3 ok, 2 cannot be used"
    assert "  1 no_audio" in found.summary()
    assert "5 rows, 0.01 h" in found.summary()


def test_nothing_is_written_into_the_folder(corpus):
    before = sorted(corpus.rglob("*"))
    index_folder(corpus)
    assert sorted(corpus.rglob("*")) == before


def test_root_above_the_folder_prefixes_the_ids(corpus):
    assert list(index_folder(corpus / "a", root=corpus).manifest["id"])[-1] == "a/short.MP4"
    with pytest.raises(ManifestError, match="is not inside"):
        index_folder(corpus, root=corpus / "a")


def test_a_link_out_of_the_root_is_named_as_the_user_named_it(tmp_path):
    corpus = tmp_path / "elsewhere" / "corpus"
    make_video(corpus / "a" / "a.mp4", 1)
    make_video(corpus / "b.mp4", 1)
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "videos").symlink_to(corpus)
    found = index_folder(mine / "videos", root=mine)
    assert list(found.manifest["id"])[-1] == "videos/b.mp4"
    assert found.manifest.file(0).is_file()
    (tmp_path / "other").symlink_to(mine)  # the root behind a link too, and a detour
    assert list(index_folder(tmp_path / "other" / "videos", root=mine).manifest["id"])[-1] == "videos/b.mp4"
    assert list(index_folder(mine / "videos" / ".", root=mine).manifest["id"])[-1] == "videos/b.mp4"
    (corpus / "deep").symlink_to(corpus / "a")
    assert len(index_folder(corpus / "deep" / ".." / "a", root=corpus).manifest) == 1
    with pytest.raises(ManifestError, match="is not inside"):
        index_folder(corpus, root=mine)


def test_files_of_other_types_are_counted(corpus):
    summary = index_folder(corpus).summary()
    assert "not media files by name: 2 hidden, 1 .txt" in summary


@pytest.mark.parametrize("suffix", ["3g2", "f4v", "qt", "mpe", "divx", "dv", "M2T", "ogm", "rmvb", "mk3d"])
def test_every_extension_of_videos_is_looked_at(tmp_path, suffix):
    make_video(tmp_path / "a.mp4", 1)
    (tmp_path / "a.mp4").rename(tmp_path / f"a.{suffix}")
    assert list(index_folder(tmp_path).manifest["id"]) == [f"a.{suffix}"]


def test_any_name_of_a_file_is_a_row_or_a_failure_that_can_be_written(tmp_path, odd_names):
    videos = sorted(name for name in odd_names if name.endswith(".mp4"))
    make_video(tmp_path / "good", 1)
    for name in videos:
        os.link(tmp_path / "good", tmp_path / name_from_text(name))
        (tmp_path / f"{name_from_text(name)[:240]}.webm").write_text("no video")
    found = index_folder(tmp_path, health=HealthSettings("quick"))
    assert sorted(found.manifest["path"]) == videos
    assert len(found.failures) == len(videos)
    assert {error.reason for error in found.failures.values()} == {"not_media"}
    assert {name_from_text(name) for name in found.failures} == {
        f"{name_from_text(name)[:240]}.webm" for name in videos
    }
    write_table(found.failures_table(), tmp_path / "failures.csv")
    again = index_folder(tmp_path, health=HealthSettings("quick"))
    assert again.num_reused == found.num_files
    assert again.manifest.hash() == found.manifest.hash()


def test_empty_and_missing_folders_are_errors(tmp_path):
    with pytest.raises(ManifestError, match="no media files"):
        index_folder(tmp_path)
    with pytest.raises(ManifestError, match="no such folder"):
        index_folder(tmp_path / "none")


@pytest.fixture
def probed(monkeypatch):
    """The names of the files that were looked at, in order."""
    names = []

    def run(task, paths, **options):
        names.extend(os.path.basename(path) for path in paths)
        return run_killable(task, paths, **options)

    monkeypatch.setattr("avssl.data.health.check.run_killable", run)
    return names


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "videos"
    for name in ("a", "b", "c"):
        make_video(folder / f"{name}.mp4", 2)
    (folder / "bad.mp4").write_text("no video")
    return folder


@pytest.fixture
def journal(folder):
    """The file with the reports of the folder, checked with default settings."""
    return journal_path(folder, HealthSettings(backend=resolve_backend("auto")))


def test_an_unchanged_file_is_not_looked_at_again(folder, probed):
    first = index_folder(folder)
    assert first.num_reused == 0
    assert sorted(probed) == ["a.mp4", "b.mp4", "bad.mp4", "c.mp4"]
    probed.clear()
    again = index_folder(folder)
    assert probed == []
    assert again.num_reused == 4
    assert again.manifest.table.equals(first.manifest.table)
    assert str(again.failures["bad.mp4"]) == str(first.failures["bad.mp4"])
    assert "4 files (4 unchanged since an earlier check): 3 ok" in again.summary()


def test_a_changed_file_a_new_one_and_other_settings_are_looked_at(folder, probed, journal):
    index_folder(folder)
    probed.clear()
    make_video(folder / "b.mp4", 3)
    make_video(folder / "d.mp4", 2)
    (folder / "a.mp4").unlink()
    found = index_folder(folder)
    assert sorted(probed) == ["b.mp4", "d.mp4"]
    assert list(found.manifest["id"]) == ["b.mp4", "c.mp4", "d.mp4"]
    assert len(journal.read_text().splitlines()) == 4  # what is gone or was replaced is forgotten
    probed.clear()
    index_folder(folder, health=HealthSettings(min_seconds=1.5))
    assert len(probed) == 4
    probed.clear()
    index_folder(folder)
    assert probed == []  # other settings have a journal of their own


def test_a_file_with_the_size_and_the_date_of_its_predecessor_is_looked_at(folder, probed):
    index_folder(folder)
    probed.clear()
    status = (folder / "a.mp4").stat()
    os.replace(folder / "b.mp4", folder / "a.mp4")
    os.truncate(folder / "a.mp4", status.st_size)
    os.utime(folder / "a.mp4", ns=(status.st_atime_ns, status.st_mtime_ns))
    index_folder(folder)
    assert probed == ["a.mp4"]


def test_other_segments_look_only_at_long_files(folder, probed):
    make_video(folder / "long.mp4", 34)
    index_folder(folder)
    probed.clear()
    index_folder(folder, segment_seconds=5)
    assert probed == ["long.mp4"]
    probed.clear()
    index_folder(folder, segment_over_seconds=1)
    assert sorted(probed) == ["a.mp4", "b.mp4", "c.mp4", "long.mp4"]


def test_a_journal_is_written_only_on_request(folder, probed, journal):
    index_folder(folder, journal="read")
    index_folder(folder, journal="off")
    assert not journal.parent.exists()
    index_folder(folder)
    text = journal.read_text()
    probed.clear()
    make_video(folder / "d.mp4", 2)
    assert index_folder(folder, journal="read").num_reused == 4
    assert index_folder(folder, journal="off").num_reused == 0
    assert journal.read_text() == text


def test_what_lies_in_the_folder_is_not_believed(folder, journal, tmp_path):
    """A downloaded folder may bring a journal that calls each of its files healthy."""
    index_folder(folder)
    for name in ("manifest.health.jsonl", "health.jsonl", journal.name):
        (folder / name).write_bytes(journal.read_bytes())
    os.rename(folder, tmp_path / "downloaded")
    found = index_folder(tmp_path / "downloaded")
    assert (found.num_reused, len(found.manifest)) == (0, 3)


def test_a_journal_of_another_user_is_not_believed(folder, journal, monkeypatch):
    index_folder(folder)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert index_folder(folder).num_reused == 0


@pytest.mark.parametrize("cache", ["/proc/none", "", "no/absolute/path"])
def test_without_a_cache_folder_every_file_is_checked(folder, monkeypatch, cache):
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    monkeypatch.setenv("HOME", "/proc/none")
    for _ in range(2):
        found = index_folder(folder)
        assert (len(found.manifest), found.num_reused) == (3, 0)


def test_a_longer_time_limit_tries_again_what_ran_out_of_time_and_nothing_else(folder, probed, journal):
    index_folder(folder, health=HealthSettings(timeout_seconds=50))
    lines = journal.read_text().splitlines()
    error = '"error": ["container", "timeout", "slow.", "Wait.", null]'
    journal.write_text("".join(line.replace('"error": null', error) + "\n" for line in lines))
    assert index_folder(folder, health=HealthSettings(timeout_seconds=40)).bad_fraction == 1
    probed.clear()
    found = index_folder(folder, health=HealthSettings(timeout_seconds=60))
    assert sorted(probed) == ["a.mp4", "b.mp4", "c.mp4"]
    assert len(found.manifest) == 3


def test_a_run_that_was_stopped_goes_on(folder, probed, journal, monkeypatch):
    def stopped(task, paths, **options):
        for number, outcome in enumerate(run_killable(task, paths, num_workers=1)):
            if number == 2:
                raise KeyboardInterrupt
            yield outcome

    with monkeypatch.context() as patch:
        patch.setattr("avssl.data.health.check.run_killable", stopped)
        with pytest.raises(KeyboardInterrupt):
            index_folder(folder)
    whole = journal.read_text()
    assert len(whole.splitlines()) == 2
    journal.write_text(whole[:-20])  # the kill tore the last line
    found = index_folder(folder)
    assert len(probed) == 3
    assert len(found.manifest) == 3
    assert index_folder(folder).num_reused == 4


@pytest.mark.parametrize("text", ["", "\n", "[]\n", "{}\n", '{"name": "a.mp4"}\n', "\xff\x00", '{"name": ["a"]}\n'])
def test_a_journal_that_is_none_is_not_believed(folder, journal, text):
    journal.parent.mkdir(parents=True)
    journal.write_text(text)
    found = index_folder(folder)
    assert (len(found.manifest), found.num_reused) == (3, 0)


def test_a_decoder_that_dies_or_hangs_costs_one_file(folder, tmp_path, monkeypatch):
    def probe(path, settings, segments):
        if path.endswith("a.mp4"):
            os.kill(os.getpid(), signal.SIGSEGV)
        while path.endswith("b.mp4"):
            pass
        return probe_file(path, settings, segments)

    monkeypatch.setattr("avssl.data.health.check.probe_file", probe)
    found = index_folder(folder, health=HealthSettings(timeout_seconds=2), num_workers=2)
    assert {path: error.reason for path, error in found.failures.items()} == {
        "a.mp4": "crashed",
        "b.mp4": "timeout",
        "bad.mp4": "not_media",
    }
    assert "a.mp4: container: the decoder crashed: its process was ended by SIGSEGV" in str(found.failures["a.mp4"])
    assert "b.mp4: container: checking it was not done after 2 s" in str(found.failures["b.mp4"])
    assert list(found.manifest["id"]) == ["c.mp4"]


def test_rows_end_where_the_packets_end(tmp_path):
    """A recording that stops within a frame, in a container that says no length."""
    make_video(tmp_path / "a.mp4", 4)
    with av.open(str(tmp_path / "a.mp4")) as source, av.open(str(tmp_path / "a.ts"), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    whole = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(whole[: len(whole) * 7 // 10])
    (tmp_path / "a.mp4").unlink()
    manifest = index_folder(tmp_path).manifest
    assert manifest["stop_seconds"][0] - manifest["start_seconds"][0] < 3.5
