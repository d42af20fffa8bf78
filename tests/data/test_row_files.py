"""Rows of an image and its audio, of audio alone and of a silent video, in every verb's reader."""

from __future__ import annotations

import wave

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.core.manifest import Manifest, read_manifest
from avssl.data import ClipDataset, ClipSampling
from avssl.data.content import content_hashes
from avssl.data.one_stream import OneStreamDataset
from avssl.media import MediaError
from avssl.media.prepared.clip import CopySettings
from avssl.recipes.prepare import prepare

SAMPLING = ClipSampling(num_frames=2, frames_per_second=4.0, audio_seconds=1.0, sample_rate_hz=4000, short_side=16)


@pytest.fixture
def field(tmp_path, real_media) -> Manifest:
    """The usual layout, frames/ID.jpg and audio/ID.wav, with a tone of its own for each row."""
    (tmp_path / "frames").mkdir()
    (tmp_path / "audio").mkdir()
    rows = {"id": [], "path": [], "audio_path": []}
    for number, name in enumerate(("plain", "with spaces 狗")):
        Image.fromarray(np.full((16, 24, 3), 60 + 100 * number, np.uint8)).save(tmp_path / f"frames/{name}.jpg")
        tone = 8000 * np.sin(np.arange(3 * 4000) / 4000 * 2 * np.pi * (300 + 200 * number))
        with wave.open(str(tmp_path / f"audio/{name}.wav"), "wb") as file:
            file.setparams((1, 2, 4000, 0, "NONE", ""))
            file.writeframes(tone.astype("<i2").tobytes())
        rows["id"].append(name)
        rows["path"].append(f"frames/{name}.jpg")
        rows["audio_path"].append(f"audio/{name}.wav")
    manifest = Manifest.from_columns(rows, tmp_path)
    manifest.write(tmp_path / "manifest.csv")
    return manifest


def loudest_hz(samples: torch.Tensor) -> int:
    return int(torch.fft.rfft(samples).abs().argmax() * 4000 / len(samples))


def test_a_clip_has_the_image_and_the_audio_of_its_row(field):
    clips = [ClipDataset(field, SAMPLING).read(row, epoch=0) for row in (0, 1)]
    assert [clip.video.shape for clip in clips] == [(2, 3, 16, 24)] * 2
    assert [round(float(clip.video.float().mean()), -1) for clip in clips] == [60, 160]
    assert [loudest_hz(clip.audio) for clip in clips] == [300, 500]


def test_one_stream_needs_one_of_the_two_files(field, tmp_path):
    (tmp_path / "frames/plain.jpg").unlink()
    assert loudest_hz(OneStreamDataset(field, SAMPLING, stream="audio").read(0, epoch=0).audio) == 300
    with pytest.raises(MediaError, match=r"plain\.jpg"):
        ClipDataset(field, SAMPLING).read(0, epoch=0)
    (tmp_path / "audio/with spaces 狗.wav").unlink()
    clip = OneStreamDataset(field, SAMPLING, stream="video").read(1, epoch=0)
    assert round(float(clip.video.float().mean()), -1) == 160


def test_an_image_without_audio_says_which_column_names_it(field):
    alone = Manifest.from_columns({"id": ["a"], "path": ["frames/plain.jpg"]}, field.root)
    with pytest.raises(MediaError, match=r"plain\.jpg.*audio_path"):
        ClipDataset(alone, SAMPLING).read(0, epoch=0)


def test_an_audio_file_is_a_row_of_audio(field):
    alone = Manifest.from_columns({"id": ["a"], "path": ["audio/plain.wav"]}, field.root)
    assert loudest_hz(OneStreamDataset(alone, SAMPLING, stream="audio").read(0, epoch=0).audio) == 300
    with pytest.raises(MediaError, match="no video stream"):
        ClipDataset(alone, SAMPLING).read(0, epoch=0)


def test_content_is_that_of_both_files(field, tmp_path):
    before = content_hashes(field)
    data = bytearray((tmp_path / "audio/plain.wav").read_bytes())
    data[-1] ^= 1
    (tmp_path / "audio/plain.wav").write_bytes(data)
    after = content_hashes(field)
    assert (before[0] != after[0], before[1] == after[1]) == (True, True)
    (tmp_path / "audio/plain.wav").unlink()
    assert content_hashes(field)[0] == ""


def test_a_prepared_copy_holds_both(field, tmp_path):
    settings = CopySettings(short_side=16, sample_rate_hz=4000)
    prepare(tmp_path / "manifest.csv", tmp_path / "copy", settings=settings, num_workers=0, progress=False)
    copied = read_manifest(tmp_path / "copy/manifest.csv")
    assert copied["source_audio_path"].tolist() == ["audio/plain.wav", "audio/with spaces 狗.wav"]
    assert "audio_path" not in copied
    clip = ClipDataset(copied, SAMPLING).read(1, epoch=0)
    assert loudest_hz(clip.audio) == 500
    assert abs(float(clip.video.float().mean()) - 160) < 8
