import math
import os
import signal

import av
import pytest
import torch

from avssl.core.manifest import ManifestError
from avssl.data.health.indexing import index_folder
from avssl.data.health.killable import run_killable
from avssl.data.health.report import HealthSettings, probe_file
from avssl.data.media_files import walk_media
from avssl.media import write_video


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


def test_names_that_no_csv_can_hold_are_failures(tmp_path):
    make_video(tmp_path / "good.mp4", 1)
    (tmp_path / "two\nlines.mp4").touch()
    open(os.fsencode(tmp_path) + b"/\xff.mp4", "wb").close()
    found = index_folder(tmp_path)
    assert list(found.manifest["id"]) == ["good.mp4"]
    assert sorted(error.reason for error in found.failures.values()) == ["unreadable", "unreadable"]


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


def test_an_unchanged_file_is_not_looked_at_again(folder, tmp_path, probed):
    journal = tmp_path / "j.jsonl"
    first = index_folder(folder, journal=journal)
    assert first.num_reused == 0
    assert sorted(probed) == ["a.mp4", "b.mp4", "bad.mp4", "c.mp4"]
    probed.clear()
    again = index_folder(folder, journal=journal)
    assert probed == []
    assert again.num_reused == 4
    assert again.manifest.table.equals(first.manifest.table)
    assert str(again.failures["bad.mp4"]) == str(first.failures["bad.mp4"])
    assert "4 files (4 unchanged since an earlier check): 3 ok" in again.summary()


def test_a_changed_file_a_new_one_and_other_settings_are_looked_at(folder, tmp_path, probed):
    journal = tmp_path / "j.jsonl"
    index_folder(folder, journal=journal)
    probed.clear()
    make_video(folder / "b.mp4", 3)
    make_video(folder / "d.mp4", 2)
    (folder / "a.mp4").unlink()
    found = index_folder(folder, journal=journal)
    assert sorted(probed) == ["b.mp4", "d.mp4"]
    assert list(found.manifest["id"]) == ["b.mp4", "c.mp4", "d.mp4"]
    assert len(journal.read_text().splitlines()) == 4  # what is gone or was replaced is forgotten
    probed.clear()
    index_folder(folder, journal=journal, health=HealthSettings(min_seconds=1.5))
    assert len(probed) == 4


def test_a_longer_time_limit_tries_again_what_ran_out_of_time_and_nothing_else(folder, tmp_path, probed):
    journal = tmp_path / "j.jsonl"
    index_folder(folder, journal=journal, health=HealthSettings(timeout_seconds=50))
    lines = journal.read_text().splitlines()
    error = '"error": ["container", "timeout", "slow.", "Wait.", null]'
    journal.write_text("".join(line.replace('"error": null', error) + "\n" for line in lines))
    assert index_folder(folder, journal=journal, health=HealthSettings(timeout_seconds=40)).bad_fraction == 1
    probed.clear()
    found = index_folder(folder, journal=journal, health=HealthSettings(timeout_seconds=60))
    assert sorted(probed) == ["a.mp4", "b.mp4", "c.mp4"]
    assert len(found.manifest) == 3


def test_a_run_that_was_stopped_goes_on(folder, tmp_path, probed, monkeypatch):
    journal = tmp_path / "j.jsonl"

    def stopped(task, paths, **options):
        for number, outcome in enumerate(run_killable(task, paths, num_workers=1)):
            if number == 2:
                raise KeyboardInterrupt
            yield outcome

    with monkeypatch.context() as patch:
        patch.setattr("avssl.data.health.check.run_killable", stopped)
        with pytest.raises(KeyboardInterrupt):
            index_folder(folder, journal=journal)
    whole = journal.read_text()
    assert len(whole.splitlines()) == 2
    journal.write_text(whole[:-20])  # the kill tore the last line
    found = index_folder(folder, journal=journal)
    assert len(probed) == 3
    assert len(found.manifest) == 3
    assert index_folder(folder, journal=journal).num_reused == 4


@pytest.mark.parametrize("text", ["", "\n", "[]\n", "{}\n", '{"name": "a.mp4"}\n', "\xff\x00", '{"name": ["a"]}\n'])
def test_a_journal_that_is_none_is_not_believed(folder, tmp_path, text):
    journal = tmp_path / "j.jsonl"
    journal.write_text(text)
    found = index_folder(folder, journal=journal)
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
