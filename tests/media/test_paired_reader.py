"""An image or a video with the audio of another file, read like one file."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.media import MediaError, open_media, open_pair, write_video

RATE = 8000


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Three seconds of a tone."""
    tone = 8000 * np.sin(np.arange(3 * RATE) / RATE * 2 * np.pi * 440)
    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(tone.astype("<i2").tobytes())
    return tmp_path / "a.wav"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.fromarray(np.full((20, 30, 3), 77, dtype=np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_an_image_lasts_as_long_as_its_audio(picture: Path, sound: Path) -> None:
    with open_pair(picture, sound) as reader, open_media(sound) as alone:
        info = reader.info
        assert (info.video_start_seconds, info.video_stop_seconds) == (0.0, 3.0)
        assert (info.audio_start_seconds, info.audio_stop_seconds, info.audio_sample_rate_hz) == (0.0, 3.0, RATE)
        assert (info.width, info.height, info.duration_seconds) == (30, 20, 3.0)
        assert torch.equal(reader.read_audio(1.0, 2.5, 4000), alone.read_audio(1.0, 2.5, 4000))
        assert (reader.read_frames([0.0, 2.9]) == 77).all()
        assert [frame.shape for frame in reader.stream_frames([0.0, 1.0], 10)] == [(3, 10, 15)] * 2
        assert len(list(reader.stream_planes([0.0]))) == 1


def test_a_silent_video_gets_the_audio_of_another_file(tmp_path: Path, sound: Path) -> None:
    frames = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 16, 16) * 8
    write_video(tmp_path / "mute.mp4", frames, 10)
    with open_pair(tmp_path / "mute.mp4", sound) as reader:
        assert (reader.info.video_stop_seconds, reader.info.audio_stop_seconds) == (2.0, 3.0)
        assert abs(float(reader.read_frames([1.0]).float().mean()) - 80) < 4
        assert reader.read_audio(0.0, 3.0).shape == (1, 3 * RATE)


def test_the_file_without_its_stream_is_named(tmp_path: Path, picture: Path, sound: Path) -> None:
    write_video(tmp_path / "mute.mp4", torch.zeros(5, 3, 16, 16, dtype=torch.uint8), 5)
    for video, audio, name in ((picture, tmp_path / "mute.mp4", "mute.mp4"), (sound, sound, "a.wav")):
        with pytest.raises(MediaError) as error:
            open_pair(video, audio)
        assert name in str(error.value)
    with pytest.raises(MediaError, match=r"none\.wav"):
        open_pair(picture, tmp_path / "none.wav")
