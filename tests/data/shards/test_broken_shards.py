"""Shards that are gone, cut, replaced or damaged: their rows are bad ones, and the run goes on."""

from __future__ import annotations

import logging
import math
import os
import random
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from data_fakes import take
from fsspec.implementations.memory import MemoryFileSystem

from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling, TrainLoader
from avssl.data.eval_loader import EvalLoader
from avssl.data.ledger import TooManyBadFiles
from avssl.data.shards import storage
from avssl.data.shards.copying import ShardJob, make_shard
from avssl.data.shards.storage import RETRY_SECONDS, RangeReader, StorageError
from avssl.media import MediaError, write_video
from avssl.media.prepared.clip import CopySettings

pytestmark = pytest.mark.usefixtures("real_media")

SAMPLING = ClipSampling(num_frames=2, frames_per_second=4.0, audio_seconds=0.5, sample_rate_hz=8000)
SETTINGS = CopySettings(short_side=16, frames_per_second=8.0, sample_rate_hz=8000)
NUM_SHARDS, CLIPS_PER_SHARD = 4, 2


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """By audio codec, a corpus of one small clip, copied eight times into four shards."""
    folder, seconds = tmp_path_factory.mktemp("sources"), 2
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (8 * seconds, 3, 16, 20), dtype=torch.uint8, generator=generator)
    audio = (torch.randn(1, 8000 * seconds, generator=generator) * 0.1).clamp(-1, 1)
    write_video(folder / "a.mp4", video, 8, audio, 8000)
    made = {}
    for codec in ("pcm", "flac", "aac"):
        settings = CopySettings(short_side=16, frames_per_second=8.0, sample_rate_hz=8000, audio_codec=codec)
        rows: list[dict[str, Any]] = []
        for number in range(NUM_SHARDS):
            ids = [f"{number}-{i}" for i in range(CLIPS_PER_SHARD)]
            part = Manifest.from_columns({"id": ids, "path": ["a.mp4"] * len(ids)}, folder)
            rows += make_shard(ShardJob(folder / codec, number, part, 0, settings, "pyav"))["rows"]
        made[codec] = Manifest.from_columns({name: [row[name] for row in rows] for name in rows[0]}, folder / codec)
    return made


@pytest.fixture
def corpus(copies: dict[str, Manifest], tmp_path: Path) -> Manifest:
    """A corpus of its own for each test, and the manifest over it."""
    shutil.copytree(copies["pcm"].root / "shards", tmp_path / "shards")
    return Manifest(copies["pcm"].table, tmp_path)


def break_shard(path: Path, how: str) -> None:
    if how == "cut":
        os.truncate(path, 2000)
        return
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "fifo":
        os.mkfifo(path)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "other":
        path.write_bytes(b"\0" * 50_000)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("how", ["gone", "cut", "folder", "fifo", "device", "other"])
def test_rows_of_a_broken_shard_are_dropped_and_counted(corpus: Manifest, how: str, num_workers: int) -> None:
    break_shard(corpus.root / "shards" / "000001.tar", how)
    loader = TrainLoader(ClipDataset(corpus, SAMPLING), 2, num_workers=num_workers, max_bad_fraction=0.5)
    assert {row for batch in take(loader, 8) for row in batch.index.row.tolist()} == {0, 1, 4, 5, 6, 7}
    assert {failure.row for failure in loader.ledger} == {2, 3}
    assert all("000001.tar" in failure.message for failure in loader.ledger)
    evaluated = EvalLoader(ClipDataset(corpus, SAMPLING), 4, num_workers=num_workers)
    assert [row for _, rows, _ in evaluated for row in rows.tolist()] == [0, 1, 4, 5, 6, 7]
    assert len(evaluated.ledger) == 2


def test_a_run_without_any_shard_ends_with_the_reason(corpus: Manifest) -> None:
    shutil.rmtree(corpus.root / "shards")
    with pytest.raises(
        TooManyBadFiles, match=r"unreadable: 1\n.*000\d\.tar: container: cannot be read \([Nn]o such file"
    ):
        take(TrainLoader(ClipDataset(corpus, SAMPLING), 2), 1)


@pytest.mark.parametrize("codec", ["pcm", "flac", "aac"])
def test_any_damage_of_a_shard_is_one_bad_row(copies: dict[str, Manifest], codec: str, tmp_path: Path) -> None:
    """Bytes of the header, the table and the packets at random: either a clip comes back, or a MediaError."""
    rng, rows = random.Random(0), copies[codec].select(np.array([0]))
    whole = (rows.root / "shards" / "000000.tar").read_bytes()
    begin, header = (int(rows.value(0, name)) for name in ("shard_offset", "shard_header_bytes"))
    (tmp_path / "shards").mkdir()
    outcomes: Counter[str] = Counter()
    for _ in range(120):
        damaged = bytearray(whole)
        low, high = rng.choice([(0, header), (header, len(whole) // CLIPS_PER_SHARD - begin)])
        for _ in range(rng.choice([1, 2, 8])):
            place = begin + rng.randrange(low, high)
            damaged[place] = rng.choice([damaged[place] ^ 1 << rng.randrange(8), rng.randrange(256), 0, 255, ord("9")])
        (tmp_path / "shards" / "000000.tar").write_bytes(damaged)
        try:
            clip = ClipDataset(Manifest(rows.table, tmp_path), SAMPLING).read(0, rng.randrange(9))
        except MediaError as error:
            outcomes[error.reason if "000000.tar" in str(error) else "nameless"] += 1
        else:
            outcomes["ok"] += 1
            assert clip.video.shape == (2, 1, 16, 20)
            assert clip.audio.shape == (4000,)
            assert clip.audio.isfinite().all()
    assert outcomes["nameless"] == 0
    assert outcomes["ok"] > 10
    assert outcomes["unreadable"] > 10


def test_an_odd_size_of_samples_is_damage(copies: dict[str, Manifest]) -> None:
    manifest, reader = copies["pcm"], RangeReader()
    offset, header = (int(manifest.value(0, name)) for name in ("shard_offset", "shard_header_bytes"))
    data = bytearray(reader.read(manifest.location(0), 0, offset + header + 50_000))
    table = data.index(b"\x93NUMPY", offset)
    first = table + 10 + int.from_bytes(data[table + 8 : table + 10], "little")
    packets = np.frombuffer(data, "<i4", count=5 * 16 + 5, offset=first).reshape(-1, 5)
    assert packets[16, 0] == 1  # the first packet of audio
    size_at = first + (16 * 5 + 2) * 4
    data[size_at : size_at + 4] = (int(packets[16, 2]) - 1).to_bytes(4, "little")

    class Damaged(RangeReader):
        def read(self, path: str, offset: int, size: int) -> bytes:
            return bytes(data[offset : offset + size])

    dataset = ClipDataset(manifest, SAMPLING)
    dataset._shards = Damaged()
    with pytest.raises(MediaError, match=r"its header is damaged \(audio packets whose sizes differ"):
        dataset.read(0, 0)


# ------------------------------------------------------------------ object stores


class Flaky(MemoryFileSystem):
    """A store in memory that fails as often as asked for."""

    protocol = "flaky"
    errors: list[Exception] = []  # noqa: RUF012 (shared on purpose)
    reads = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        stripped: str = super()._strip_protocol(path.replace("flaky://", "memory://"))
        return stripped

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        type(self).reads += 1
        if self.errors:
            raise self.errors.pop(0)
        data: bytes = super().cat_file(path, start=start, end=end, **kwargs)
        return data


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The waits between tries, which take no time here."""
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    Flaky.errors, Flaky.reads, found = [], 0, []
    Flaky().pipe_file("bucket/a.tar", bytes(range(100)))
    monkeypatch.setattr(storage.time, "sleep", found.append)
    return found


class BrokenConnection(Exception):  # noqa: N818
    """A driver's own kind of error, which is no OSError."""


def test_a_failed_read_is_tried_again_with_growing_waits(waits: list[float], caplog: pytest.LogCaptureFixture) -> None:
    Flaky.errors = [BrokenConnection("reset"), TimeoutError("slow"), OSError("503")]
    with caplog.at_level(logging.INFO):
        assert RangeReader().read("flaky://bucket/a.tar", 10, 5) == bytes(range(10, 15))
    assert waits == list(RETRY_SECONDS[:3])
    assert all(later == 2 * earlier for earlier, later in pairwise(RETRY_SECONDS))
    assert "flaky://bucket/a.tar: reset; trying again in 0.5 s" in caplog.text


def test_a_read_that_always_fails_is_a_bad_row(waits: list[float]) -> None:
    Flaky.errors = [BrokenConnection("reset")] * 100
    with pytest.raises(StorageError, match=r"flaky://bucket/a\.tar: cannot be read, tried 6 times \(BrokenConnection"):
        RangeReader().read("flaky://bucket/a.tar", 0, 5)
    assert waits == list(RETRY_SECONDS)


def test_a_file_that_is_missing_or_forbidden_is_not_tried_again(waits: list[float]) -> None:
    with pytest.raises(StorageError, match=r"b\.tar: cannot be read \(FileNotFoundError"):
        RangeReader().read("flaky://bucket/b.tar", 0, 5)
    Flaky.errors = [PermissionError("no")]
    with pytest.raises(StorageError, match=r"a\.tar: cannot be read \(PermissionError"):
        RangeReader().read("flaky://bucket/a.tar", 0, 5)
    assert waits == []


def test_a_store_that_is_down_does_not_make_every_row_wait(waits: list[float]) -> None:
    reader = RangeReader()
    Flaky.errors = [OSError("down")] * 100
    for _ in range(10):
        with pytest.raises(StorageError):
            reader.read("flaky://bucket/a.tar", 0, 5)
    assert len(waits) == 3 * len(RETRY_SECONDS)
    Flaky.errors = []
    assert reader.read("flaky://bucket/a.tar", 0, 5) == bytes(range(5))
    Flaky.errors = [OSError("again")]
    assert reader.read("flaky://bucket/a.tar", 0, 5) == bytes(range(5))  # and waits again, as it is up
    assert math.isclose(waits[-1], RETRY_SECONDS[0])


def test_one_failed_read_of_a_store_does_not_end_a_run(corpus: Manifest, waits: list[float]) -> None:
    store = Flaky()
    for file in (corpus.root / "shards").glob("*.tar"):
        store.pipe_file(f"bucket/corpus/shards/{file.name}", file.read_bytes())
    Flaky.errors = [OSError("once")]
    loader = TrainLoader(ClipDataset(Manifest(corpus.table, "flaky://bucket/corpus"), SAMPLING), 4)
    assert len(take(loader, 2)) == 2
    assert len(loader.ledger) == 0
    assert waits == [RETRY_SECONDS[0]]
