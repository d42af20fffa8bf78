"""One sound with a value that no recording holds: named with its second by every verb, never a NaN loss or map."""

import csv
import math

import av
import numpy as np
import pytest

from avssl.cli import main
from avssl.core.manifest import Manifest, read_manifest
from avssl.data import TrainLoader
from avssl.data.ledger import TooManyBadFiles
from avssl.features.table import read_feature_table
from avssl.training.build import build_dataset

RATE_HZ, SECONDS, BAD_SECOND = 8000, 4, 2.5
VALUES = {"nan": math.nan, "inf": -math.inf, "huge": 3e38, "big": 1e19}
FOUND = r"audio at 2.500 s: a sample is"


def write(path, value):
    """A video whose audio holds one odd value, after a sound so that a quick look hears nothing odd."""
    samples = (0.3 * np.sin(np.arange(SECONDS * RATE_HZ) / 7)).astype(np.float32)
    if value is not None:
        samples[round(BAD_SECOND * RATE_HZ)] = value
    with av.open(str(path), "w") as container:
        video, audio = container.add_stream("ffv1", rate=8), container.add_stream("pcm_f32le", rate=RATE_HZ)
        video.width, video.height, video.pix_fmt, audio.layout = 48, 32, "yuv444p", "mono"
        for number in range(8 * SECONDS):
            image = np.roll(np.arange(48, dtype=np.uint8) * 5, 3 * number)[None, :, None].repeat(32, 0).repeat(3, 2)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for first in range(0, len(samples), 1000):
            frame = av.AudioFrame.from_ndarray(samples[None, first : first + 1000], format="flt", layout="mono")
            frame.sample_rate, frame.pts = RATE_HZ, first
            container.mux(audio.encode(frame))
        for stream in (video, audio):
            container.mux(stream.encode(None))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four bad files, two good ones and one of denormal numbers, which is a good one."""
    path = tmp_path_factory.mktemp("values")
    for name, value in {**VALUES, "good": None, "fine": 0.0, "denormal": 1e-42}.items():
        write(path / f"{name}.mkv", value)
    return path


@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("verb", ["localize", "energy", "sync"])
def test_verbs_on_one_file_end_with_the_second(verb, name, folder, tiny_release, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = [verb, str(folder / f"{name}.mkv"), "--checkpoint", str(tiny_release), "--device", "cpu"]
    words += ["--max-offset-seconds", "0.5"] if verb == "sync" else []
    assert main(words) == 1
    error = capsys.readouterr().err
    assert f"{name}.mkv: {FOUND}" in error
    assert list(tmp_path.iterdir()) == []
    words[1:2] = [str(folder / "good.mkv"), "--audio", str(folder / f"{name}.mkv")]
    assert main(words) == 1


def test_embed_lists_them(folder, tiny_release, tmp_path):
    names = sorted(path.name for path in folder.glob("*.mkv"))
    Manifest.from_columns({"id": names, "path": names}, folder).write(folder / "all.csv")
    out = tmp_path / "a.parquet"
    words = ["embed", str(folder / "all.csv"), "--checkpoint", str(tiny_release), "-o", str(out), "--device", "cpu"]
    assert main([*words, "--num-workers", "0"]) == 0
    table = read_feature_table(out)
    assert np.isfinite(table.audio).all()
    assert {"good.mkv", "fine.mkv", "denormal.mkv"} <= set(table.ids)
    with out.with_suffix(".failures.csv").open() as file:
        listed = {row["id"]: row["message"] for row in csv.DictReader(file)}
    assert set(listed) == {f"{name}.mkv" for name in VALUES}
    assert all(FOUND in message for message in listed.values())


def test_training_drops_them_and_ends_if_there_are_too_many(folder, tiny_config):
    names = sorted(path.name for path in folder.glob("*.mkv"))
    rows = Manifest.from_columns({"id": names, "path": names}, folder)
    config = tiny_config(folder, sampling={"num_frames": 12, "audio_seconds": 3.0})  # every window holds the second
    loader = TrainLoader(build_dataset(config, rows), 2, max_bad_fraction=0.6)
    batches = iter(loader)
    for _ in range(6):
        assert next(batches).audio.isfinite().all()
    assert {failure.id for failure in loader.ledger} == {f"{name}.mkv" for name in VALUES}
    with pytest.raises(TooManyBadFiles, match=FOUND):
        next(iter(TrainLoader(build_dataset(config, rows), 4)))


def test_a_copy_leaves_them_out(folder, tmp_path):
    names = [f"{name}.mkv" for name in ("good", *VALUES)]
    Manifest.from_columns({"id": names, "path": names}, folder).write(folder / "some.csv")
    words = ["prepare", str(folder / "some.csv"), str(tmp_path / "copy"), "--num-workers", "0", "--short-side", "16"]
    assert main([*words, "--sample-rate-hz", "8000"]) == 0
    assert read_manifest(tmp_path / "copy" / "manifest.csv")["id"].tolist() == ["good.mkv"]
    assert (tmp_path / "copy" / "dropped_files.csv").read_text().count(FOUND) == len(VALUES)


def test_index_finds_them_by_reading_all_samples_that_may_be_such(folder, tmp_path, capsys):
    for name in ("good", *VALUES):
        (tmp_path / f"{name}.mkv").write_bytes((folder / f"{name}.mkv").read_bytes())
    assert main(["index", str(tmp_path), "--num-workers", "1"]) == 0
    assert f"{len(VALUES)} unreadable" in capsys.readouterr().out
    assert (tmp_path / "manifest.failures.csv").read_text().count(FOUND) == len(VALUES)
    assert read_manifest(tmp_path / "manifest.csv")["id"].tolist() == ["good.mkv"]
