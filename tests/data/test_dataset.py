import dataclasses
import pickle

import numpy as np
import pytest
import torch
from data_fakes import SAMPLING, dataset

from avssl.core import draws
from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling
from avssl.data.sampling import sample_windows
from avssl.media import MediaError, write_video


def frame_times(clip):
    return [round(float(frame.float().mean()) / 10, 1) for frame in clip.video]


def sound_times(clip):
    return clip.audio[0].item() * 100, clip.audio[-1].item() * 100


def test_read_cuts_the_window_that_the_rule_gives():
    data = dataset(3)
    clip = data.read(2, epoch=4, clip_number=1)
    key = draws.clip_key(3, 4, data.id_keys[2:], 1)
    (audio_start,), (video_start,) = sample_windows([int(key)], SAMPLING, (0.0, 10.0), (0.0, 10.0))
    assert (clip.id, clip.row, clip.clip_number) == ("v002.mp4", 2, 1)
    assert (clip.video_start_seconds, clip.audio_start_seconds) == (video_start, audio_start)
    assert frame_times(clip) == [round(video_start + i / 2, 1) for i in range(4)]
    assert clip.audio.shape == (2000,)
    assert sound_times(clip) == pytest.approx((audio_start, audio_start + 1.999), abs=1e-4)


def test_read_differs_by_pass_clip_number_seed_and_id_and_repeats():
    def start(seed=3, row=0, epoch=0, clip_number=0):
        return dataset(2, seed=seed).read(row, epoch, clip_number).audio_start_seconds

    starts = [start(), start(seed=4), start(row=1), start(epoch=1), start(clip_number=1)]
    assert len(set(starts)) == 5
    assert start() == starts[0]


def test_read_uses_the_files_own_clock():
    clip = dataset(["v_late.mp4"]).read(0, 0)
    assert 5 <= clip.video_start_seconds <= 13
    assert frame_times(clip)[0] == round(clip.video_start_seconds, 1)


def test_read_stays_inside_the_row():
    data = dataset(["a#2-5", "a#5-9"], path=["a.mp4", "a.mp4"], start_seconds=[2.0, 5.0], stop_seconds=[5.0, 9.0])
    assert data.groups.tolist() == [0, 0]
    for epoch in range(50):
        for row, (start, stop) in enumerate(((2, 5), (5, 9))):
            clip = data.read(row, epoch)
            for window in (clip.video_start_seconds, clip.audio_start_seconds):
                assert start <= window <= stop - 2 + 1e-9


def test_windows_are_not_moved():
    clip = dataset(1).read_windows(0, [3.0], [4.0], first_number=7)[0]
    assert frame_times(clip) == [3.0, 3.5, 4.0, 4.5]
    assert sound_times(clip) == pytest.approx((4.0, 5.999), abs=1e-4)
    assert clip.clip_number == 7


def test_read_thumbnails_takes_the_middles_of_equal_parts_of_the_row():
    data = dataset(
        ["a", "b_late.mp4"], path=["a.mp4", "b_late.mp4"], start_seconds=[2.0, None], stop_seconds=[5.0, None]
    )
    assert [round(float(f.float().mean()) / 10, 1) for f in data.read_thumbnails(0, 3, 4)] == [2.5, 3.5, 4.5]
    assert [round(float(f.float().mean()) / 10, 1) for f in data.read_thumbnails(1, 2, 4)] == [7.5, 12.5]


def test_read_thumbnails_needs_no_sound_and_never_enlarges(monkeypatch):
    asked = []
    monkeypatch.setattr("data_fakes.FakeReader.read_frames", lambda self, times, side: asked.append(side))
    dataset(["a_mute.mp4"]).read_thumbnails(0, 3, 96)
    dataset(["a_mute.mp4"]).read_thumbnails(0, 3, 4)
    assert asked == [6, 4]  # the files are 8 x 6


def test_read_thumbnails_reports_what_cannot_be_seen():
    with pytest.raises(MediaError, match="there is no video stream"):
        dataset(["a_dark.mp4"]).read_thumbnails(0, 3, 4)
    with pytest.raises(MediaError, match="the row holds no video"):
        dataset(["a"], path=["a.mp4"], start_seconds=[20.0], stop_seconds=[25.0]).read_thumbnails(0, 3, 4)


def test_read_even_opens_the_file_once(monkeypatch):
    import data_fakes

    data_fakes.opened.clear()
    clips = dataset(1).read_even(0, 3)
    assert [clip.audio_start_seconds for clip in clips] == [0.0, 4.0, 8.0]
    assert [clip.clip_number for clip in clips] == [0, 1, 2]
    assert data_fakes.opened == ["v000.mp4"]


def test_windows_over_a_whole_row_are_placed_by_its_header_and_read_in_one_go():
    import data_fakes

    data = dataset(["a#2-7"], path=["a.mp4"], start_seconds=[2.0], stop_seconds=[7.0])
    video_starts, audio_starts = data.place_windows(0, 1.5)
    assert video_starts == audio_starts == [2.0, 3.5, 5.0]
    data_fakes.opened.clear()
    clips = data.read_windows(0, video_starts, audio_starts, first_number=4)
    assert data_fakes.opened == ["a.mp4"]
    assert [clip.clip_number for clip in clips] == [4, 5, 6]
    for clip, video, audio in zip(clips, video_starts, audio_starts, strict=True):
        alone = data.read_windows(0, [video], [audio])[0]
        assert torch.equal(clip.video, alone.video)
        assert torch.equal(clip.audio, alone.audio)
    with pytest.raises(MediaError, match="no audio stream"):
        dataset(["v_mute.mp4"]).place_windows(0, 1.0)


@pytest.mark.parametrize(
    ("name", "stream", "reason"),
    [
        ("v_mute.mp4", "audio", "no_audio"),
        ("v_dark.mp4", "video", "no_video"),
        ("v_broken.mp4", "container", "not_media"),
        ("v_1.0s.mp4", "video", "too_short"),
        ("v_1.8s.mp4", "audio", "too_short"),
    ],
)
def test_read_reports_bad_files(name, stream, reason):
    with pytest.raises(MediaError) as caught:
        dataset([name]).read(0, 0)
    assert (caught.value.stream, caught.value.reason) == (stream, reason)
    assert name in str(caught.value)


def test_short_rows_say_what_to_do():
    with pytest.raises(MediaError, match=r'v_1.0s.mp4: video .*holds 1.000 s, .* needs 2 s.*short_clips="repeat"'):
        dataset(["v_1.0s.mp4"]).read(0, 0)


def test_short_rows_may_repeat_the_last_frame_and_end_in_silence():
    clip = dataset(["v_1.2s.mp4"], sampling=dataclasses.replace(SAMPLING, short_clips="repeat")).read(0, 0)
    assert (clip.video_start_seconds, clip.audio_start_seconds) == (0.0, 0.0)
    assert frame_times(clip) == [0.0, 0.5, 1.0, 1.2]
    assert (clip.audio[1:1200] > 0).all()
    assert (clip.audio[1200:] == 0).all()


def test_sound_that_ends_a_little_early_is_continued_with_silence():
    clip = dataset(["v_1.97s.mp4"]).read(0, 0)
    assert (clip.audio[1:1970] > 0).all()
    assert (clip.audio[1970:] == 0).all()
    assert clip.audio.shape == (2000,)


def test_a_row_outside_its_file_is_a_bad_file_even_when_repeating():
    shape = dataclasses.replace(SAMPLING, short_clips="repeat")
    data = dataset(["v_3.0s.mp4"], sampling=shape, start_seconds=[4.0], stop_seconds=[8.0])
    with pytest.raises(MediaError, match=r"holds 0\.000 s"):
        data.read(0, 0)


def test_index_holds_rows_groups_and_keys():
    data = dataset(["a", "b", "c"], path=["x.mp4", "y.mp4", "x.mp4"])
    index = data.index([2, 0], epoch=5, clip_numbers=[0, 3])
    assert index.row.tolist() == [2, 0]
    assert index.group[0] == index.group[1]
    expected = draws.clip_key(3, 5, torch.tensor([draws.text_key("c"), draws.text_key("a")]), torch.tensor([0, 3]))
    assert torch.equal(index.key, expected)


def test_dataset_passes_to_spawned_workers():
    data = pickle.loads(pickle.dumps(dataset(2)))
    assert data.read(1, 0).id == "v001.mp4"


def test_dataset_reads_real_files(real_media, tmp_path):
    """Frame number is brightness and the sound a ramp: the clip shows where it was really cut."""
    fps, seconds, rate = 10, 4, 24_000
    levels = torch.arange(fps * seconds, dtype=torch.uint8) * 5 + 20
    video = levels[:, None, None, None].expand(-1, 3, 32, 48).contiguous()
    time = torch.arange(seconds * rate) / rate
    write_video(tmp_path / "a.mp4", video, fps, 0.5 * torch.sin(2 * np.pi * 440 * time)[None], rate)
    shape = ClipSampling(num_frames=4, frames_per_second=5.0, audio_seconds=1.0, sample_rate_hz=rate, short_side=16)
    data = ClipDataset(Manifest.from_columns({"id": ["a"], "path": ["a.mp4"]}, tmp_path), shape, backend="pyav")
    for epoch in range(3):
        clip = data.read(0, epoch)
        assert clip.video.shape == (4, 3, 16, 24)
        shown = [int((clip.video_start_seconds + i / 5) * fps + 1e-6) for i in range(4)]
        values = clip.video.float().mean((1, 2, 3))
        torch.testing.assert_close(values, levels[shown].float(), atol=3, rtol=0)
        assert clip.audio.shape == (24_000,)
        assert clip.audio.abs().max() > 0.4
