"""A prepared corpus read at random: by row, by loader, from an object store, and by a stranger's tar reader."""

from __future__ import annotations

import io
import json
import tarfile

import av
import fsspec
import numpy as np
import pytest
import torch
from data_fakes import assert_same_batches, take

from avssl.core.manifest import Manifest, read_manifest
from avssl.data import ClipDataset, ClipSampling, TrainLoader
from avssl.data.shards.copying import ShardJob, make_shard
from avssl.data.shards.format import is_whole, shard_writer
from avssl.data.shards.storage import RangeReader
from avssl.media import MediaError, open_media, write_video
from avssl.media.prepared.clip import CopySettings
from avssl.recipes.prepare import prepare
from avssl.transforms.planes import planes_to_rgb

pytestmark = pytest.mark.usefixtures("real_media")

SAMPLING = ClipSampling(num_frames=4, frames_per_second=8.0, audio_seconds=1.0, sample_rate_hz=8000, short_side=32)
SETTINGS = CopySettings(short_side=32, sample_rate_hz=8000)
FPS, SECONDS, COUNT = 16, 3, 10


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Ten files, the brightness of whose frames is their time; one is no media, one has two rows."""
    folder = tmp_path_factory.mktemp("sources")
    for i in range(COUNT):
        ramp = torch.linspace(20, 230, FPS * SECONDS).to(torch.uint8)
        video = ramp[:, None, None, None].expand(-1, 3, 48, 64 + 2 * i)
        sound = torch.sin(torch.arange(SECONDS * 24_000) / 24_000 * 2 * torch.pi * (200 + 40 * i))[None] * 0.5
        write_video(folder / f"{i}.mp4", video, FPS, sound, 24_000)
    (folder / "bad.mp4").write_text("nothing")
    paths = [f"{i}.mp4" for i in range(COUNT)] + ["0.mp4", "bad.mp4"]
    ids = [*paths[:COUNT], "0.mp4#1-3", "bad.mp4"]
    starts = [None] * COUNT + [1.0, None]
    stops = [None] * COUNT + [3.0, None]
    columns = {"id": ids, "path": paths, "start_seconds": starts, "stop_seconds": stops, "label": ids, "mine": ids}
    Manifest.from_columns(columns, folder).write(folder / "manifest.csv")
    return folder


@pytest.fixture(scope="module")
def copy(corpus, tmp_path_factory):
    out = tmp_path_factory.mktemp("copy") / "out"
    prepare(corpus / "manifest.csv", out, settings=SETTINGS, rows_per_shard=4, num_workers=0, progress=False)
    return out


def prepared(copy, **options):
    return ClipDataset(read_manifest(copy / "manifest.csv"), SAMPLING, seed=5, **options)


def test_the_manifest_keeps_what_the_rows_said(copy):
    manifest = read_manifest(copy / "manifest.csv")
    assert manifest["id"].tolist() == [*(f"{i}.mp4" for i in range(COUNT)), "0.mp4#1-3"]
    assert manifest["mine"].tolist() == manifest["label"].tolist() == manifest["id"].tolist()
    assert manifest["path"].tolist() == [f"shards/{i // 4:06d}.tar" for i in range(11)]
    assert manifest.value(10, "duration_seconds") == 2.0
    assert manifest.value(10, "source_start_seconds") == "1.0"
    assert manifest.value(3, "width") == 46  # (64 + 6) * 32 / 48, made even
    data = ClipDataset(manifest, SAMPLING)
    assert data.groups[0] == data.groups[10] != data.groups[1]  # of the same file
    dropped = (copy / "dropped_files.csv").read_text()
    assert "bad.mp4" in dropped
    assert "not_media" in dropped


@pytest.mark.usefixtures("real_media")
def test_a_clip_of_the_copy_is_that_of_the_source(corpus, copy):
    raw = ClipDataset(read_manifest(corpus / "manifest.csv"), SAMPLING, seed=5)
    data = prepared(copy)
    for row in (0, 3, 9, 10):
        for epoch in (0, 1):
            ours, theirs = data.read(row, epoch), raw.read(row, epoch)
            begin = 1.0 if row == 10 else 0.0
            assert ours.audio_start_seconds == pytest.approx(theirs.audio_start_seconds - begin, abs=0.05)
            rgb = planes_to_rgb(ours.video[None], ours.chroma[None])[0]
            # Half a frame of a ramp of 4.5 a frame, and what two codecs change.
            brightness = rgb.float().mean((1, 2, 3)) - theirs.video.float().mean((1, 2, 3))
            assert brightness.abs().max() < 7
            torch.testing.assert_close(ours.audio.std(), theirs.audio.std(), atol=0.01, rtol=0)


def test_clips_do_not_depend_on_how_they_are_read(copy):
    whole = take(TrainLoader(prepared(copy), 3), 9)
    for workers, clips in ((2, 1), (1, 1)):
        assert_same_batches(take(TrainLoader(prepared(copy), 3, num_workers=workers, clips_per_read=clips), 9), whole)
    first = TrainLoader(prepared(copy), 3)
    take(first, 4)
    second = TrainLoader(prepared(copy), 3, num_workers=2)
    second.load_state_dict(first.state_dict())
    rest = take(second, 5)
    assert_same_batches(rest, whole[4:])
    assert all(torch.equal(a.chroma, b.chroma) for a, b in zip(rest, whole[4:], strict=True))


@pytest.mark.usefixtures("real_media")
def test_raw_files_resume_mid_pass_byte_for_byte_with_other_workers(corpus):
    def loader(workers=0, clips=1):
        data = ClipDataset(read_manifest(corpus / "manifest.csv"), SAMPLING, seed=5, backend="pyav")
        return TrainLoader(data, 3, num_workers=workers, clips_per_read=clips, max_bad_fraction=0.5)

    for clips in (1, 2):
        whole = take(loader(clips=clips), 9)
        first = loader(1, clips)
        take(first, 4)
        second = loader(2, clips)
        second.load_state_dict(first.state_dict())
        assert_same_batches(take(second, 5), whole[4:])


def test_an_object_store_gives_the_same_clips(copy):
    system = fsspec.filesystem("memory")
    for file in (copy / "manifest.csv", *copy.glob("shards/*.tar")):
        system.pipe_file(f"/bucket/{file.relative_to(copy)}", file.read_bytes())
    remote = ClipDataset(read_manifest("memory://bucket/manifest.csv"), SAMPLING, seed=5)
    for row in (0, 7):
        ours, theirs = remote.read(row, 0), prepared(copy).read(row, 0)
        assert torch.equal(ours.video, theirs.video)
        assert torch.equal(ours.audio, theirs.audio)


def test_the_shards_are_ordinary_tars_of_ordinary_files(copy):
    """As WebDataset reads them: members of one key follow each other, and are json, npy and mp4."""
    with tarfile.open(copy / "shards" / "000000.tar") as tar:
        names = tar.getnames()
        assert names[:3] == ["000000000.json", "000000000.packets.npy", "000000000.mp4"]
        assert len({name.split(".")[0] for name in names}) == 4
        about = json.loads(tar.extractfile(names[0]).read())
        assert about["row"]["id"] == "0.mp4"
        table = np.load(io.BytesIO(tar.extractfile(names[1]).read()), allow_pickle=False)
        assert table.shape == (about["packets"], 5)
        with av.open(io.BytesIO(tar.extractfile(names[2]).read())) as container:
            assert sum(1 for _ in container.decode(video=0)) == FPS * SECONDS


def test_a_manifest_cannot_name_a_place_outside(tmp_path, corpus):
    """Members are numbers: what an id says never becomes a path."""
    evil = "../../../etc/x"
    rows = Manifest.from_columns({"id": [evil, "/abs"], "path": ["0.mp4", "1.mp4"]}, corpus)
    rows.write(corpus / "evil.csv")
    prepare(corpus / "evil.csv", tmp_path / "out", settings=SETTINGS, num_workers=0, progress=False)
    with tarfile.open(tmp_path / "out" / "shards" / "000000.tar") as tar:
        assert all(name[:9].isdigit() and "/" not in name for name in tar.getnames())
    assert {path.name for path in tmp_path.rglob("*")} == {
        *("out", "shards", "000000.tar", "000000.json", "prepared.json", "manifest.csv", ".avssl", "made.json")
    }


def test_a_copy_outlives_its_sources(corpus, tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    for name in ("0.mp4", "1.mp4"):
        (sources / name).write_bytes((corpus / name).read_bytes())
    Manifest.from_columns({"id": ["a", "b"], "path": ["0.mp4", "1.mp4"]}, sources).write(sources / "m.csv")
    prepare(sources / "m.csv", tmp_path / "out", settings=SETTINGS, num_workers=0, progress=False)
    shard = tmp_path / "out" / "shards" / "000000.tar"
    before = shard.read_bytes()
    (sources / "0.mp4").unlink()
    prepare(sources / "m.csv", tmp_path / "out", settings=SETTINGS, num_workers=0, progress=False)
    assert shard.read_bytes() == before
    (sources / "1.mp4").write_bytes((corpus / "2.mp4").read_bytes())  # another one: made again, and 0 is gone
    made = prepare(sources / "m.csv", tmp_path / "out", settings=SETTINGS, num_workers=0, progress=False)
    assert made["id"].tolist() == ["b"]


@pytest.mark.usefixtures("real_media")
@pytest.mark.parametrize("seconds", [0.96, 0.99, 1.0, 1.03])
@pytest.mark.parametrize("fps", [16.0, 7.3])
def test_rows_that_are_long_enough_raw_are_long_enough_prepared(tmp_path, seconds, fps):
    sound = torch.sin(torch.arange(round(seconds * 24_000)) / 50)[None] * 0.3
    write_video(tmp_path / "a.mp4", torch.full((17, 3, 32, 32), 90, dtype=torch.uint8), 16, sound, 24_000)
    Manifest.from_columns({"id": ["a"], "path": ["a.mp4"]}, tmp_path).write(tmp_path / "m.csv")
    settings = CopySettings(short_side=32, sample_rate_hz=8000, frames_per_second=fps)
    made = prepare(tmp_path / "m.csv", tmp_path / "out", settings=settings, num_workers=0, progress=False)
    for manifest in (read_manifest(tmp_path / "m.csv"), made):
        assert ClipDataset(manifest, SAMPLING).read(0, 0).audio.shape == (8000,)


def test_one_odd_file_is_dropped_alone(tmp_path, corpus):
    (tmp_path / "good.mp4").write_bytes((corpus / "0.mp4").read_bytes())
    with av.open(str(tmp_path / "thin.mkv"), "w") as container:
        video, audio = container.add_stream("ffv1", rate=16), container.add_stream("pcm_s16le", rate=24_000)
        video.width, video.height, video.pix_fmt, audio.layout = 64, 1, "yuv444p", "mono"
        for _ in range(20):
            frame = av.VideoFrame.from_ndarray(np.zeros((1, 64, 3), np.uint8), format="rgb24")
            container.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 30_000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 24_000
        for stream, last in ((audio, sound), (video, None), (audio, None)):
            container.mux(stream.encode(last))
    Manifest.from_columns({"id": ["a", "b"], "path": ["thin.mkv", "good.mp4"]}, tmp_path).write(tmp_path / "m.csv")
    made = prepare(tmp_path / "m.csv", tmp_path / "out", settings=SETTINGS, num_workers=0, progress=False)
    assert made["id"].tolist() == ["b"]
    dropped = (tmp_path / "out" / "dropped_files.csv").read_text()
    assert "frames of 64 x 1 square pixels are over the limit of 8 to 1" in dropped


def test_a_checkpoint_of_files_does_not_go_on_with_their_copy(copy, corpus):
    manifest = read_manifest(copy / "manifest.csv")
    raw = Manifest.from_columns({"id": manifest["id"].tolist(), "path": ["0.mp4"] * len(manifest)}, corpus)
    state = TrainLoader(ClipDataset(raw, SAMPLING, seed=5), 3).state_dict()
    with pytest.raises(ValueError, match="cannot continue with prepared True"):
        TrainLoader(prepared(copy), 3).load_state_dict(state)


def test_the_same_rows_give_the_same_bytes(corpus, tmp_path):
    records = []
    for name in ("a", "b"):
        manifest = read_manifest(corpus / "manifest.csv").select(np.arange(3))
        records.append(make_shard(ShardJob(tmp_path / name, 0, manifest, 0, SETTINGS, "pyav")))
    assert records[0]["sha256"] == records[1]["sha256"]
    again = make_shard(ShardJob(tmp_path / "a", 0, manifest, 0, SETTINGS, "pyav"))
    assert again["reused"]


def test_a_damaged_shard_is_found_and_a_read_of_it_names_it(copy, tmp_path):
    manifest = read_manifest(copy / "manifest.csv")
    (tmp_path / "shards").mkdir()
    data = bytearray((copy / "shards" / "000000.tar").read_bytes())
    offset = manifest.value(1, "shard_offset")
    data[offset : offset + 4] = b"oops"
    (tmp_path / "shards" / "000000.tar").write_bytes(data)
    (tmp_path / "shards" / "000000.json").write_bytes((copy / "shards" / "000000.json").read_bytes())
    assert is_whole(copy / "shards" / "000000.json")
    assert not is_whole(tmp_path / "shards" / "000000.json")
    assert not is_whole(tmp_path / "shards" / "000007.json")
    broken = ClipDataset(Manifest(manifest.table, tmp_path), SAMPLING)
    with pytest.raises(MediaError, match=r"000000.tar: 1.mp4: container: its header is damaged"):
        broken.read(1, 0)
    broken.read(0, 0)
    with pytest.raises(MediaError, match=r"000001.tar: container: cannot be read \(no such file"):
        broken.read(5, 0)


def test_an_interrupted_shard_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), shard_writer(tmp_path / "a.tar"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_few_files_stay_open(tmp_path):
    for i in range(5):
        (tmp_path / str(i)).write_bytes(bytes([i]) * 4)
    ranges = RangeReader(limit=2)
    for i in (0, 1, 2, 3, 4, 0):
        assert ranges.read(str(tmp_path / str(i)), 1, 2) == bytes([i]) * 2
        assert len(ranges._open) <= 2
    assert ranges.read(str(tmp_path / "0"), 3, 9) == bytes(1)
    ranges.close()


@pytest.mark.usefixtures("real_media")
def test_the_sources_can_still_be_opened(corpus):
    with open_media(corpus / "0.mp4") as reader:
        assert reader.info.duration_seconds == pytest.approx(SECONDS, abs=0.05)
