import pytest
import torch

from avssl.core.manifest import Manifest
from avssl.data import ClipSampling, EvalLoader, TrainLoader
from avssl.data.dataset import ClipDataset
from avssl.data.one_stream import OneStreamDataset
from avssl.media import MediaError, write_video

SAMPLING = ClipSampling(num_frames=4, frames_per_second=4.0, audio_seconds=1.5, sample_rate_hz=8000, short_side=16)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A video with sound of 2 s, one without, one of 1.2 s, and a sound without picture."""
    folder = tmp_path_factory.mktemp("media")
    frames = (torch.arange(16).view(16, 1, 1, 1) * 10 + 40).expand(16, 3, 16, 24).to(torch.uint8)
    tone = 0.5 * torch.sin(torch.arange(16000) / 8)[None]
    write_video(folder / "both.mp4", frames, 8.0, tone, 8000)
    write_video(folder / "silent.mp4", frames, 8.0, None, 8000)
    write_video(folder / "short.mp4", frames[:10], 8.0, tone[:, :9600], 8000)
    names = ["both.mp4", "silent.mp4", "short.mp4"]
    return Manifest.from_columns({"id": names, "path": names}, folder)


def test_pictures_need_no_sound_and_come_with_silence(rows, real_media):
    dataset = OneStreamDataset(rows, SAMPLING, stream="video")
    for row in range(3):
        clip = dataset.read(row, 0)
        assert clip.video.shape == (4, 3, 16, 24)
        assert torch.equal(clip.audio, torch.zeros(12000))
    with pytest.raises(MediaError, match="no audio stream"):
        ClipDataset(rows, SAMPLING).read(1, 0)
    with pytest.raises(MediaError, match=r"a clip needs 1\.5 s"):
        ClipDataset(rows, SAMPLING).read(2, 0)


def test_pictures_are_those_of_the_same_window(rows, real_media):
    dataset = OneStreamDataset(rows, SAMPLING, stream="video")
    for clip in dataset.read_even(0, 3):
        other = ClipDataset(rows, SAMPLING).read_windows(0, [clip.video_start_seconds], [0.0])[0]
        assert torch.equal(clip.video, other.video)
    starts = [dataset.read(0, number).video_start_seconds for number in range(20)]
    assert min(starts) < 0.2  # anywhere in the two seconds
    assert max(starts) > 0.8
    assert max(starts) <= 1.0


def test_sound_needs_no_picture(rows, real_media):
    dataset = OneStreamDataset(rows, SAMPLING, stream="audio")
    clip = dataset.read_even(0, 1)[0]
    assert torch.equal(clip.video, torch.zeros(4, 3, 8, 8, dtype=torch.uint8))
    other = ClipDataset(rows, SAMPLING).read_windows(0, [0.0], [clip.audio_start_seconds])[0]
    assert torch.equal(clip.audio, other.audio)
    with pytest.raises(MediaError, match="no audio stream"):
        dataset.read(1, 0)
    with pytest.raises(MediaError, match=r"a clip needs 1\.5 s"):
        dataset.read(2, 0)


def test_loaders_take_it(rows, real_media):
    dataset = OneStreamDataset(rows, SAMPLING, stream="video")
    assert len(next(iter(TrainLoader(dataset, 3)))) == 3
    assert [len(batch) for batch, _, _ in EvalLoader(dataset, 2, clips_per_row=2)] == [2, 2, 2]
