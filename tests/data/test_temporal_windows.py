"""Windows of a clip at several times: where they lie, what is decoded, and rows that are too short for them."""

import pytest
import torch
from data_fakes import RATE

from avssl.core.manifest import Manifest
from avssl.core.needs import TemporalWindows
from avssl.data import ClipDataset, ClipSampling
from avssl.data.loader import TrainLoader
from avssl.data.sampling import sample_other_windows, sample_windows
from avssl.media import MediaError

SAMPLING = ClipSampling(num_frames=2, frames_per_second=2.0, audio_seconds=1.0, sample_rate_hz=RATE)
WINDOWS = TemporalWindows(num_views=2, num_negatives=3, near_seconds=(0.25, 1.0))
SPAN = (0.0, 10.0)


def manifest(*names):
    return Manifest.from_columns({"id": names, "path": names}, "/nowhere")


def test_windows_lie_at_their_distances_inside_the_row():
    drawn = sample_other_windows(range(200), WINDOWS, SAMPLING, SPAN, SPAN, (2.0, 9.0))
    near, far, apart = [], [], []
    for audio, video in drawn:
        assert len(audio) == WINDOWS.num_audio == 8
        assert all(2.0 <= start <= 8.0 for start in (*audio, *video))
        assert [audio[0], audio[4]] == video  # equal windows: the audio of a view starts with its frames
        apart.append(abs(audio[4] - audio[0]))
        for own, *others in (audio[:4], audio[4:]):
            distances = [abs(start - own) for start in others]
            near += [distances[0], distances[2]]
            far.append(distances[1])
    assert 0.25 <= min(near) < 0.3 < 0.9 < max(near) <= 1.0
    assert 1.0 <= min(far) < 1.2 < 4.0 < max(far) <= 6.0
    assert min(apart) >= 0.25


def test_the_first_view_is_the_window_without_others():
    drawn = sample_other_windows(range(20), WINDOWS, SAMPLING, SPAN, SPAN)
    audio, video = sample_windows(range(20), SAMPLING, SPAN, SPAN)
    assert [(windows[0][0], windows[1][0]) for windows in drawn] == list(zip(audio, video, strict=True))


def test_where_nothing_is_far_windows_are_near():
    drawn = sample_other_windows(range(50), WINDOWS, SAMPLING, (0.0, 3.0), (0.0, 3.0))
    assert all(abs(start - audio[0]) >= 0.25 for audio, _ in drawn for start in audio[1:4])


def test_a_clip_holds_its_windows_one_after_another():
    dataset = ClipDataset(manifest("a.mp4"), SAMPLING, seed=3, windows=WINDOWS)
    clips = dataset.read_clips(0, 0, [0, 1])
    for clip in clips:
        starts = clip.audio.view(8, RATE)[:, 0] * 100  # a sample tells its time
        assert clip.audio.shape == (8 * RATE,)
        assert clip.video.shape[0] == 2 * SAMPLING.num_frames
        assert float(starts[0]) == pytest.approx(clip.audio_start_seconds, abs=2e-3)
        frames = clip.video[:, 0, 0, 0].view(2, 2).float() / 10
        torch.testing.assert_close(frames[:, 0], starts[[0, 4]], atol=0.06, rtol=0)
    assert torch.equal(clips[1].audio, dataset.read(0, 0, 1).audio)
    assert len(dataset.read_even(0, 1)[0].audio) == RATE  # evaluation has one window


def test_a_row_that_is_too_short_says_what_is_needed():
    dataset = ClipDataset(manifest("a_2.9s.mp4"), SAMPLING, windows=WINDOWS)
    with pytest.raises(MediaError, match=r"holds 2\.900 s of video and audio, .* up to 1 s away need 3 s\. Use longer"):
        dataset.read(0, 0)
    assert ClipDataset(manifest("a_3.1s.mp4"), SAMPLING, windows=WINDOWS).read(0, 0).audio.shape == (8 * RATE,)


def test_a_resumed_stream_continues_bit_for_bit():
    rows = manifest(*(f"{name}.mp4" for name in "abcdef"))

    def loader():
        return TrainLoader(ClipDataset(rows, SAMPLING, seed=1, windows=WINDOWS), 2, clips_per_read=2)

    whole = iter(loader())
    batches = [next(whole) for _ in range(6)]
    stopped, resumed = loader(), loader()
    stream = iter(stopped)
    for _ in range(3):
        next(stream)
    resumed.load_state_dict(stopped.state_dict())
    again = iter(resumed)
    for batch in batches[3:]:
        other = next(again)
        assert torch.equal(other.audio, batch.audio)
        assert torch.equal(other.video, batch.video)
