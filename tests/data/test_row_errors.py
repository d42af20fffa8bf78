"""A row that cannot be read for whatever reason is one bad row, with the exception's kind, place and message."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from data_fakes import FakeReader, dataset, take

from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling, TooManyBadFiles, TrainLoader
from avssl.data.eval_loader import EvalLoader
from avssl.data.row_errors import row_errors
from avssl.data.shards.copying import ShardJob, make_shard
from avssl.data.shards.storage import StorageError
from avssl.media import MediaError
from avssl.media.prepared.clip import CopySettings

KINDS = [TypeError, IndexError, RuntimeError, AssertionError, OSError, UnicodeError, ZeroDivisionError]


def fail_at(monkeypatch: pytest.MonkeyPatch, place: str, names: tuple[str, ...], kind: type[Exception]) -> None:
    """Raise an error while some files are opened or read."""

    def open_media(path: Path, backend: str = "auto", limits: object = None) -> FakeReader:
        reader = FakeReader(path)
        if Path(path).name in names:

            def fail(*_: object, **__: object) -> None:
                raise kind("broken here")

            if place == "open":
                fail()
            setattr(reader, place, fail)
        return reader

    monkeypatch.setattr("avssl.data.row_files.open_media", open_media)


@pytest.mark.parametrize("place", ["open", "read_frames", "read_audio"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_exception_drops_the_row(monkeypatch: pytest.MonkeyPatch, place: str, kind: type[Exception]) -> None:
    fail_at(monkeypatch, place, ("v002.mp4",), kind)
    loader = TrainLoader(dataset(8), 2, max_bad_fraction=0.2)
    assert {row for batch in take(loader, 8) for row in batch.index.row.tolist()} == {0, 1, 3, 4, 5, 6, 7}
    (failure,) = loader.ledger
    assert (failure.id, failure.reason) == ("v002.mp4", "crashed")
    assert f"reading failed ({kind.__name__} in test_row_errors.py:" in failure.message
    assert "broken here" in failure.message
    evaluated = EvalLoader(dataset(8), 3)
    assert [row for _, rows, _ in evaluated for row in rows.tolist()] == [0, 1, 3, 4, 5, 6, 7]


def test_any_exception_drops_the_row_in_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "read_audio", ("v002.mp4", "v005.mp4"), ValueError)
    loader = TrainLoader(dataset(12), 3, num_workers=1, max_bad_fraction=0.2)
    take(loader, 8)
    assert sorted(failure.row for failure in loader.ledger) == [2, 5]


def test_a_run_whose_rows_all_fail_ends_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "read_frames", tuple(f"v{i:03d}.mp4" for i in range(8)), KeyError)
    with pytest.raises(TooManyBadFiles, match=r"every row|crashed: \d"):
        take(TrainLoader(dataset(8), 2, max_bad_fraction=1.0), 1)


def test_numbers_of_a_row_that_make_no_window_are_a_bad_row() -> None:
    data = dataset(4, start_seconds=[0.0, 8.0, float("inf"), 0.0], stop_seconds=[9.0, 5.0, 2.0, float("inf")])
    loader = EvalLoader(data, 4)
    assert [row for _, rows, _ in loader for row in rows.tolist()] == [0, 3]
    assert {failure.row for failure in loader.ledger} == {1, 2}


def test_an_interruption_is_no_bad_row(monkeypatch: pytest.MonkeyPatch) -> None:
    fail_at(monkeypatch, "read_frames", ("v001.mp4",), KeyboardInterrupt)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        dataset(4).read(1, 0)


def test_errors_keep_what_is_known() -> None:
    with (
        pytest.raises(MediaError, match=r"a\.tar: container: cannot be read \(gone\)\. Put the file back"),
        row_errors("x"),
    ):
        raise StorageError("a.tar", "cannot be read (gone).")
    with pytest.raises(MediaError, match=r"x: container: a number is wrong\. Correct the row"), row_errors("x"):
        raise InputError("a number is wrong.")
    original = MediaError("y", "video", "truncated", "cut.", "Fetch it.", 3.0)
    with pytest.raises(MediaError) as error, row_errors("x"):
        raise original
    assert error.value is original
    with pytest.raises(MediaError, match="needs more memory") as error, row_errors("x"):
        raise MemoryError
    assert error.value.reason == "too_large"


@pytest.mark.usefixtures("real_media")
def test_the_shortest_audio_is_read_or_dropped(tmp_path: Path) -> None:
    """One to a few samples of 8 Hz, as real files of instruments have them."""
    counts = [1, 2, 3, 8, 16]
    for count in counts:
        with av.open(str(tmp_path / f"{count}.mkv"), "w") as container:
            video, audio = container.add_stream("ffv1", rate=8), container.add_stream("pcm_f32le", rate=8)
            video.width, video.height, video.pix_fmt, audio.layout = 16, 16, "yuv444p", "mono"
            for _ in range(16):
                frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
                container.mux(video.encode(frame))
            samples = av.AudioFrame.from_ndarray(np.full((1, count), 0.5, np.float32), format="flt", layout="mono")
            samples.sample_rate = 8
            for stream, last in ((audio, samples), (video, None), (audio, None)):
                container.mux(stream.encode(last))
    names = [f"{count}.mkv" for count in counts]
    manifest = Manifest.from_columns({"id": names, "path": names}, tmp_path)
    sampling = ClipSampling(num_frames=2, frames_per_second=4.0, audio_seconds=0.5, sample_rate_hz=24_000)
    loader = EvalLoader(ClipDataset(manifest, sampling), 8)
    read = [row for _, rows, _ in loader for row in rows.tolist()]
    assert {3, 4} <= set(read)
    assert {failure.reason for failure in loader.ledger} <= {"too_short"}
    repeating = ClipDataset(manifest, ClipSampling(num_frames=2, audio_seconds=0.5, short_clips="repeat"))
    for row in range(len(names)):
        audio = repeating.read(row, 0).audio
        assert audio.isfinite().all()
        assert audio.max() == pytest.approx(0.5, abs=0.01)
    made = make_shard(ShardJob(tmp_path / "copy", 0, manifest, 0, CopySettings(short_side=16), "pyav"))
    assert len(made["rows"]) + len(made["failures"]) == len(names)
    assert {failure["reason"] for failure in made["failures"]} <= {"too_short"}
