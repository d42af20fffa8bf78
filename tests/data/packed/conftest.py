"""Small videos, and archives of them as other programs make them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pytest
import torch

from avssl.media import write_video

NAMES = [f"clip{number}" for number in range(9)]


@pytest.fixture(autouse=True)
def real_media():
    """Everything here reads files, not the stand-ins of other tests."""
    return True


@pytest.fixture(scope="session")
def clips(tmp_path_factory) -> dict[str, bytes]:
    """Name → mp4 of two seconds, whose brightness is its time."""
    folder, found = tmp_path_factory.mktemp("clips"), {}
    ramp = torch.linspace(20, 230, 16).to(torch.uint8)
    for number, name in enumerate(NAMES):
        video = ramp[:, None, None, None].expand(-1, 3, 32, 32 + 4 * number)
        sound = torch.sin(torch.arange(16_000) / 8000 * 2 * torch.pi * (200 + 40 * number))[None] * 0.5
        write_video(folder / f"{name}.mp4", video, 8, sound, 8000)
        found[name] = (folder / f"{name}.mp4").read_bytes()
    return found


@pytest.fixture(scope="session")
def write_tar():
    """``write_tar(path, {"a.mp4": bytes, "a.json": {...}, "a.cls": "3"})`` writes an ordinary tar."""

    def call(path: Path, members: Mapping[str, bytes | str | dict]) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as tar:
            for name, content in members.items():
                data = json.dumps(content) if isinstance(content, dict) else content
                data = data.encode() if isinstance(data, str) else data
                about = tarfile.TarInfo(name)
                about.size = len(data)
                tar.addfile(about, io.BytesIO(data))
        return path

    return call


MEDIA = pa.struct({"bytes": pa.binary(), "path": pa.string()})
FEATURES = {
    "video": {"_type": "Video"},
    "audio": {"_type": "Audio"},
    "image": {"_type": "Image"},
    "label": {"names": ["dog", "cat"], "_type": "ClassLabel"},
    "tags": {"feature": {"dtype": "string", "_type": "Value"}, "_type": "List"},
    "note": {"dtype": "string", "_type": "Value"},
}


@pytest.fixture
def save_set():
    """``save_set(folder, video=[bytes, None], label=[0, 1])`` writes what ``Dataset.save_to_disk`` writes.

    Media are bytes, or the path of a file that is not embedded. Two rows are a batch.
    """

    def call(folder: Path, *, features: dict | None = None, options: pa.ipc.IpcWriteOptions | None = None, **columns):
        folder.mkdir(parents=True, exist_ok=True)
        kinds = FEATURES if features is None else features
        arrays = {}
        for name, values in columns.items():
            if kinds.get(name, {}).get("_type") in ("Video", "Audio", "Image"):
                cells = [{"bytes": v, "path": "x.mp4"} if isinstance(v, bytes) else v and {"path": v} for v in values]
                arrays[name] = pa.array(cells, MEDIA)
            else:
                arrays[name] = pa.array(values)
        about = {"info": {"features": {name: kinds[name] for name in columns if name in kinds}}}
        table = pa.table(arrays).replace_schema_metadata({"huggingface": json.dumps(about)})
        with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", table.schema, options=options) as stream:
            for batch in table.to_batches(max_chunksize=2):
                stream.write_batch(batch)
        state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": None}
        (folder / "state.json").write_text(json.dumps(state))
        (folder / "dataset_info.json").write_text(json.dumps(about["info"]))
        return folder

    return call
