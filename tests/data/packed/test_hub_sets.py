"""Datasets of a hub through the package datasets itself: a stand-in on loopback, and the client in another process."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from avssl.core.manifest import Manifest
from avssl.data.content import content_hashes

from ...hub_server import INVALID, READ, WRITE, running_hub
from .hub_client import clip_hashes

TINY = {
    "sampling.num-frames": "4",
    "sampling.frames-per-second": "4",
    "sampling.audio-seconds": "1",
    "sampling.sample-rate-hz": "8000",
    "sampling.short-side": "32",
    "transform.video.size": "32",
    "transform.spectrogram.num-mels": "16",
    "transform.spectrogram.window-length": "256",
    "transform.spectrogram.hop-seconds": "0.02",
    "model.video.width": "4",
    "model.audio.width": "4",
    "model.head.hidden": "16",
    "model.head.out-features": "8",
    "optim.batch-size": "5",
    "optim.epochs": "1",
    "train.log-every": "1",
    "train.threads": "1",
    "train.device": "cpu",
    "train.precision": "fp32",
    "train.memory-format": "contiguous",
    "data.num-workers": "0",
    "data.max-bad-fraction": "0.3",
    "data.split": "train",
}

pytestmark = pytest.mark.skipif(importlib.util.find_spec("datasets") is None, reason="datasets is not installed")


@contextmanager
def running_client(folder: Path, endpoint: str, **environment: str) -> Iterator[Callable[..., Any]]:
    """Yield ``call(name, *arguments)``, which calls a function of ``hub_client`` in a process with its own cache."""
    (folder / "work").mkdir(exist_ok=True)
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    paths = [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]
    known |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home"), "PYTHONPATH": os.pathsep.join(paths)}
    known |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "log.txt"
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, Path(__file__).with_name("hub_client.py")],
            env=known | environment,
            cwd=folder / "work",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):

        def call(*words: Any) -> Any:
            print(json.dumps(words), file=process.stdin, flush=True)
            line = process.stdout.readline()
            assert line, log.read_text()[-6000:]
            return json.loads(line)

        yield call


@pytest.fixture(scope="module")
def files(tmp_path_factory, clips):
    """A folder of mp4 files, one that is broken, and wav files."""
    folder = tmp_path_factory.mktemp("files")
    for number, content in enumerate(clips.values()):
        (folder / f"{number}.mp4").write_bytes(content)
        with wave.open(str(folder / f"{number}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            tone = np.sin(np.arange(16_000) / 8000 * 2 * np.pi * (200 + 40 * number))
            file.writeframes((tone * 16_000).astype("<i2").tobytes())
    (folder / "broken.mp4").write_bytes(b"no video" * 100)
    return folder


@pytest.fixture(scope="module")
def hub(files, write_tar):
    """A stand-in of the hub with datasets as people publish them."""
    read = {path.name: path.read_bytes() for path in files.iterdir()}
    named = {f"train/{'cat' if number % 2 else 'dog'}/{number}.mp4": read[f"{number}.mp4"] for number in range(8)}
    listed = {"clips/0.mp4": read["0.mp4"], "clips/1.mp4": read["1.mp4"]}
    listed["metadata.csv"] = b"file_name,caption,label\nclips/1.mp4,a tone,cat\ngone.mp4,none,dog\nclips/0.mp4,,dog\n"
    sounds = {f"data/{number}.wav": read[f"{number}.wav"] for number in range(3)}
    sounds["metadata.csv"] = b"file_name,label\ndata/0.wav,low\ndata/2.wav,high\ndata/1.wav,low\n"
    members = {f"{number}.mp4": read[f"{number}.mp4"] for number in range(2)}
    members |= {"0.cls": "3", "1.cls": "7", "0.json": {"place": "sea", "box": [0.5]}, "1.json": {"place": "hill"}}
    members = dict(sorted(members.items()))
    card = b"---\nconfigs:\n- {config_name: small, data_dir: a}\n- {config_name: large, data_dir: b}\n---\n"
    with running_hub() as server:
        server.add("datasets/owner/folder", named | {"test/cat/8.mp4": read["8.mp4"], "test/dog/0.mp4": read["0.mp4"]})
        server.add("datasets/owner/listed", listed)
        server.add("datasets/owner/sounds", sounds)
        server.add("datasets/owner/tars", {"train-0.tar": write_tar(files / "x.tar", members).read_bytes()})
        server.add("datasets/owner/secret", {"0.mp4": read["0.mp4"]}, private=True)
        server.add("datasets/owner/gated", {"0.mp4": read["0.mp4"]}).gated = True
        server.add("datasets/owner/configs", {"a/0.mp4": read["0.mp4"], "b/1.mp4": read["1.mp4"], "README.md": card})
        server.add("datasets/owner/script", {"script.py": b"open('code-was-run', 'w')\n", "0.mp4": read["0.mp4"]})
        server.add("datasets/owner/text", {"a.txt": b"hello\n"})
        yield server


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder of the clients' cache."""
    return tmp_path_factory.mktemp("client")


@pytest.fixture(scope="module")
def client(hub, folder):
    """A client of the hub, which starts in ``folder / "work"``."""
    with running_client(folder, hub.address) as call:
        yield call


def assert_is(found, folder, names, **options):
    """The rows of a dataset are files of a folder, byte for byte, and are decoded to the same clips."""
    columns = {name: [row[name] for row in found["rows"]] for name in ("id", "label")}
    manifest = Manifest.from_columns(columns | {"path": names}, folder)
    assert found["content"] == content_hashes(manifest)
    assert found["clips"] == clip_hashes(manifest, **options)


def rows(found, *names):
    """The cells of some columns."""
    return [tuple(row[name] for name in names) for row in found["rows"]]


@pytest.fixture(scope="module")
def pushed(client, files):
    """The files of the training split of ``owner/pushed``: one row has none, and one is broken."""
    train = [str(files / f"{number}.mp4") for number in range(9)]
    train[3:3] = [None, str(files / "broken.mp4")]
    splits = {"train": [(file, row % 2) for row, file in enumerate(train)], "test": [(train[1], 1), (train[2], 0)]}
    client("push", "owner/pushed", splits, WRITE)
    return train


def test_parquet_of_push_to_hub(hub, client, files, folder, pushed):
    parquet = [path for path in hub.repositories["datasets/owner/pushed"].files() if path.endswith(".parquet")]
    assert sorted(parquet) == [
        f"data/{split}-0000{shard}-of-00002.parquet" for split in ("test", "train") for shard in (0, 1)
    ]
    found = client("read", "hf:owner/pushed")
    numbers = [0, 1, 2, *range(4, 11)]
    labels = ["dog", "cat"] * 6
    assert rows(found, "id", "split", "label") == [
        *((f"train/{number:09d}", "train", labels[number]) for number in numbers),
        ("test/000000000", "test", "cat"),
        ("test/000000001", "test", "dog"),
    ]
    assert_is(found, files, [*(Path(pushed[number]).name for number in numbers), "1.mp4", "2.mp4"])
    assert [row for row, clip in enumerate(found["clips"]) if len(clip) < 64] == [3]  # the broken one
    assert [(row["id"], row["reason"]) for row in found["failures"]] == [("train/000000003", "not_media")]
    assert "hf:owner/pushed: train/000000003: " in found["failures"][0]["message"]
    hub.requests.clear()
    assert client("read", "hf:owner/pushed") == found
    assert not any(request.startswith("GET") and ".parquet" in request for request in hub.requests)

    words = [word for pair in TINY.items() for word in (f"--{pair[0]}", pair[1])]
    run = folder / "run"
    assert client("command", "pretrain", "hf:owner/pushed", "--out", str(run), *words) == {"status": 0}
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    with (run / "dropped_files.csv").open() as dropped:
        listed = {row["id"]: row["reason"] for row in csv.DictReader(dropped)}
    assert listed == {"train/000000003": "not_media", "train/000000004": found["clips"][3]}


def test_a_folder_of_videos_by_label(hub, client, files):
    found = client("read", "hf:owner/folder")
    order = [0, 2, 4, 6, 1, 3, 5, 7]  # that of the hub's paths: cat after dog
    order = order[4:] + order[:4]
    assert rows(found, "id", "split", "label") == [
        *((f"train/{row:09d}", "train", "cat" if number % 2 else "dog") for row, number in enumerate(order)),
        ("test/000000000", "test", "cat"),
        ("test/000000001", "test", "dog"),
    ]
    assert_is(found, files, [f"{number}.mp4" for number in [*order, 8, 0]])
    assert found["failures"] == []
    hub.requests.clear()
    assert client("read", "hf:owner/folder") == found
    assert not any(request.startswith("GET") and ".mp4" in request for request in hub.requests)


def test_videos_with_a_list(client, files):
    found = client("read", "hf:owner/listed")
    assert rows(found, "id", "split", "label", "caption") == [
        ("train/000000000", "train", "cat", "a tone"),
        ("train/000000002", "train", "dog", None),
    ]
    assert_is(found, files, ["1.mp4", "0.mp4"])
    assert [(row["id"], row["reason"]) for row in found["failures"]] == [("train/000000001", "not_media")]
    assert "name no file in the caches of Hugging Face" in found["failures"][0]["message"]
    assert client("read", "hf:owner/listed") == found


def test_audio_files_with_a_list(client, files):
    found = client("read", "hf:owner/sounds", "", True)
    assert rows(found, "id", "label") == [(f"train/00000000{row}", ["low", "high", "low"][row]) for row in range(3)]
    assert_is(found, files, ["0.wav", "2.wav", "1.wav"], is_audio=True)
    assert client("read", "hf:owner/sounds", "", True) == found


def test_tars_of_webdataset(client, files):
    """Their rows have the columns of the tars themselves."""
    found = client("read", "hf:owner/tars")
    assert rows(found, "id", "split", "label", "place") == [
        ("train/000000000", "train", "3", "sea"),
        ("train/000000001", "train", "7", "hill"),
    ]
    assert_is(found, files, ["0.mp4", "1.mp4"])
    assert found["failures"] == []


def test_a_private_dataset_needs_a_token(client, files):
    for name, token in [("secret", ""), ("secret", INVALID), ("gated", READ), ("none", READ)]:
        error = client("read", f"hf:owner/{name}", token)["error"]
        assert error.startswith(f"hf:owner/{name}: cannot be loaded (")
        assert "Check the name; if it is private or gated, log in with 'hf auth login', or set HF_TOKEN." in error
        assert not token or token not in error
    assert rows(client("read", "hf:owner/secret", READ), "id") == [("train/000000000",)]


def test_one_of_several_configs(client, files):
    for name, told in [("configs", "Config name is missing"), ("configs:big", "'big' not found")]:
        error = client("read", f"hf:owner/{name}")["error"]
        assert told in error
        assert "['small', 'large']" in error
        assert error.endswith("Name one of its configs: hf:owner/configs:CONFIG.")
    found = client("read", "hf:owner/configs:large")
    assert found["content"] == content_hashes(Manifest.from_columns({"id": ["1"], "path": ["1.mp4"]}, files))


def test_datasets_without_media_that_may_be_read(hub, client, folder, clips):
    """Code of a repository is not run, and files outside of the caches are not read, whatever its rows name."""
    named = ["/etc/passwd", str(folder / "work" / "x.mp4"), "x.mp4", f"{hub.address}/datasets/owner/folder/x.mp4"]
    (folder / "work" / "x.mp4").write_bytes(clips["clip0"])
    cells = pa.array(
        [{"bytes": None, "path": name} for name in named], pa.struct({"bytes": pa.binary(), "path": pa.string()})
    )
    about = {"info": {"features": {"video": {"_type": "Video"}}}}
    table = pa.table({"video": cells}).replace_schema_metadata({"huggingface": json.dumps(about)})
    pq.write_table(table, folder / "x.parquet")
    hub.add("datasets/owner/paths", {"train.parquet": (folder / "x.parquet").read_bytes()})
    error = client("read", "hf:owner/paths")["error"]
    assert error.startswith("hf:owner/paths: no sample with a video or audio. The first of 4 faults: hf:owner/paths: ")
    advice = "hf download owner/{} --repo-type dataset --local-dir FOLDER"
    for name, told, then in [
        ("script", "Dataset scripts are no longer supported", advice),
        ("text", "no Video or Audio column; it has text (Value)", "cast_column"),
    ]:
        error = client("read", f"hf:owner/{name}")["error"]
        assert error.startswith(f"hf:owner/{name}: ")
        assert told in error
        assert then.format(name) in error
    assert not (folder / "work" / "code-was-run").exists()


def test_a_folder_of_the_same_name_is_not_read_instead(client, folder, clips):
    local = folder / "work" / "owner" / "folder"
    local.mkdir(parents=True)
    (local / "x.mp4").write_bytes(clips["clip0"])
    error = client("read", "hf:owner/folder")["error"]
    shutil.rmtree(local.parent)
    assert error.startswith(f"hf:owner/folder: the files of {local} would be read instead of the hub's.")


def test_a_connection_that_breaks(hub, client, files):
    hub.add("datasets/owner/cut", {"0.mp4": (files / "0.mp4").read_bytes(), "1.mp4": (files / "1.mp4").read_bytes()})
    hub.cut["1.mp4"] = 100
    error = client("read", "hf:owner/cut")["error"]
    hub.cut.clear()
    assert error.startswith("hf:owner/cut: cannot be loaded (")
    assert "Check the network" in error
    whole = Manifest.from_columns({"id": ["0", "1"], "path": ["0.mp4", "1.mp4"]}, files)
    assert client("read", "hf:owner/cut")["content"] == content_hashes(whole)


@pytest.mark.parametrize("is_offline", [False, True], ids=["unreachable", "offline"])
def test_without_a_hub_the_cache_is_read(is_offline, client, folder, pushed):
    names = ["hf:owner/pushed", "hf:owner/folder", "hf:owner/configs:large"]
    before = [client("read", name) for name in names]
    environment = {"HF_HUB_OFFLINE": "1"} if is_offline else {}
    with running_client(folder, "http://127.0.0.1:1", **environment) as call:
        assert [call("read", name) for name in names] == before
        error = call("read", "hf:owner/none")["error"]
        assert error.startswith("hf:owner/none: cannot be loaded (ConnectionError: ")
        assert "HF_HUB_OFFLINE" in error
        if is_offline:
            cache = (folder / "home" / "hub").rename(folder / "cleared")
            assert call("read", "hf:owner/pushed") == before[0]  # its Arrow files hold the media
            arrows = folder / "home" / "datasets" / "owner___folder"
            assert f"If a cache was cleared, remove {arrows}" in call("read", "hf:owner/folder")["error"]
            cache.rename(folder / "home" / "hub")
