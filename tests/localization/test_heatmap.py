"""Heat maps of a whole video: positions in time, decoding, audio windows."""

import json
import math
import weakref
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from avssl.core.batch import Heatmap
from avssl.localization import heatmap_readout, sliding_heatmaps
from avssl.localization.windows import AudioWindows, FrameWindows
from avssl.media import MediaError


@dataclass(frozen=True)
class Window:
    num_frames: int = 8
    frames_per_second: float = 8.0
    audio_seconds: float = 1.0
    sample_rate_hz: int = 1000
    short_side: int | None = None


class Recording:
    """A file in memory: a bright spot visits the cells of a 4 x 4 grid, one every half second, and
    each sample of the sound is its own presentation time."""

    def __init__(self, start=0.0, stop=6.0, *, audio=(0.0, 6.0), fps=16.0, size=(32, 64)):
        first, last = audio if audio is not None else (None, None)
        self.info = SimpleNamespace(
            path="memory.mp4",
            video_start_seconds=start,
            video_stop_seconds=stop,
            video_fps=fps,
            height=size[0],
            width=size[1],
            audio_start_seconds=first,
            audio_stop_seconds=last,
            audio_sample_rate_hz=None if audio is None else 1000,
            audio_num_channels=None if audio is None else 1,
        )
        self.asked = []
        self.short_sides = set()

    def cell(self, second):
        return math.floor((second - self.info.video_start_seconds) * 2) * 5 % 16

    def read_frames(self, at_seconds, short_side=None):
        info = self.info
        self.asked.append(list(at_seconds))
        self.short_sides.add(short_side)
        frames = torch.zeros(len(at_seconds), 3, info.height, info.width, dtype=torch.uint8)
        for frame, second in zip(frames, at_seconds, strict=True):
            assert info.video_start_seconds <= second <= info.video_stop_seconds
            # The last frame is shown to the end; the hair is for times that are the frame's own.
            shown = min(second, info.video_stop_seconds - 1 / info.video_fps)
            row, column = divmod(self.cell(shown + 1e-6), 4)
            h, w = info.height // 4, info.width // 4
            frame[:, row * h : (row + 1) * h, column * w : (column + 1) * w] = 255
        return frames

    def stream_frames(self, at_seconds, short_side=None):
        for second in at_seconds:
            yield self.read_frames([second], short_side)[0]

    def read_audio(self, start_seconds, stop_seconds, sample_rate_hz=None, num_channels=1):
        info = self.info
        assert info.audio_start_seconds - 1e-3 <= start_seconds < stop_seconds <= info.audio_stop_seconds + 1e-3
        count = round((stop_seconds - start_seconds) * sample_rate_hz)
        return (start_seconds + torch.arange(count) / sample_rate_hz).float().expand(num_channels, -1)


class Spotter:
    """Cells: (brightness, 1 - brightness), one for two frames. Queries: bright for a sound, dark for silence."""

    num_heads = 1
    frames_alone = False

    def video_input(self, frames):
        return frames.float().transpose(1, 2) / 255

    def audio_input(self, waveforms):
        return waveforms

    def cells(self, video):
        bright = F.adaptive_avg_pool3d(video[:, :1], (video.shape[2] // 2, 4, 4))
        return torch.cat([bright, 1 - bright], dim=1)

    def queries(self, audio):
        loud = (audio.abs().amax(dim=1) > 0).float()
        return torch.stack([loud, 1 - loud], dim=1)[..., None]


class TwoHeads(Spotter):
    """A head that finds the spot and a head that finds everything else, each of two channels."""

    num_heads = 2

    def cells(self, video):
        bright = super().cells(video)
        return torch.cat([bright, bright], dim=1)

    def queries(self, audio):
        return torch.tensor([3.0, 0.0, 0.0, 0.5])[:, None].expand(len(audio), 4, 7)


class ByFrame(Spotter):
    """One cell map for each frame, as it would be in any other clip; counts what it encodes."""

    def __init__(self, frames_alone):
        self.frames_alone, self.num_frames, self.num_sounds = frames_alone, 0, 0

    def cells(self, video):
        self.num_frames += len(video) * video.shape[2]
        bright = F.adaptive_avg_pool3d(video[:, :1], (video.shape[2], 4, 4))
        return torch.cat([bright, 1 - bright], dim=1)

    def queries(self, audio):
        self.num_sounds += len(audio)
        return super().queries(audio)


def localize(reader, encoder, sampling=Window(), audio_from=None, **options):
    return sliding_heatmaps(reader, encoder, sampling, [audio_from], **({"stride_seconds": 0.25} | options))[0]


def test_frames_that_windows_share_are_encoded_once_if_they_are_encoded_alone():
    window = Window()
    every, once = ByFrame(False), ByFrame(True)
    expected, found = (localize(Recording(), encoder, window, stride_seconds=0.125) for encoder in (every, once))
    assert torch.equal(found.values, expected.values)
    assert torch.equal(found.head_values, expected.head_values)
    assert every.num_frames == 8 * len(expected.at_seconds)
    assert once.num_frames < every.num_frames / 2


def test_equal_windows_of_audio_at_the_ends_are_encoded_once():
    encoder = ByFrame(True)
    heatmap = localize(Recording(), encoder, replace(Window(), audio_seconds=5.0), stride_seconds=0.1)
    assert encoder.num_sounds < len(heatmap.at_seconds)


def test_localize_tells_heads_apart():
    recording = Recording()
    heatmap = localize(recording, TwoHeads(), stride_seconds=0.5)
    assert heatmap.head_values.shape == (12, 2, 4, 4)
    finds, avoids = heatmap.head_values.unbind(dim=1)
    spots = [recording.cell(second) for second in heatmap.at_seconds.tolist()]
    assert finds.flatten(1).argmax(dim=1).tolist() == spots
    assert avoids.flatten(1).argmin(dim=1).tolist() == spots
    alone = localize(recording, Spotter(), stride_seconds=0.5)
    assert torch.equal(alone.head_values[:, 0], alone.values)


def test_heatmap_refuses_heads_of_other_maps():
    values, seconds = torch.zeros(3, 4, 5), torch.arange(3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"head_values must be \(T, K, h, w\) beside values \(3, 4, 5\)"):
        Heatmap(values, seconds, torch.zeros(3), torch.zeros(3, 2, 4, 4))


@pytest.mark.parametrize("start", [0.0, 1.25])
def test_localize_follows_the_spot_through_the_whole_video(start):
    recording = Recording(start, start + 6, audio=(start, start + 6))
    heatmap = localize(recording, Spotter(), stride_seconds=0.5)
    assert heatmap.values.shape == (12, 4, 4)
    assert heatmap.at_seconds.tolist() == pytest.approx([start + 0.25 + 0.5 * k for k in range(12)])
    assert torch.equal(heatmap.confidence, heatmap.values.amax(dim=(1, 2)))
    peaks = heatmap.values.flatten(1).argmax(dim=1).tolist()
    # The middle of a stride is the middle of the spot's half second: the ends, where the windows are
    # shifted to lie inside the video, are no exception.
    assert peaks == [recording.cell(second) for second in heatmap.at_seconds.tolist()]
    assert len(set(peaks)) == 12


def test_localize_depends_on_neither_batch_size_nor_gradient_mode():
    whole = localize(Recording(), Spotter(), batch_size=100)
    for batch_size in (1, 5):
        part = localize(Recording(), Spotter(), batch_size=batch_size)
        # Not to the bit: on some processors a kernel sums in another order for another batch size.
        torch.testing.assert_close(part.values, whole.values, atol=1e-6, rtol=0)
    whole.values.add_(1)  # an ordinary tensor, not one of inference mode


def test_localize_decodes_each_frame_once_in_order():
    recording = Recording(stop=20.0, audio=(0.0, 20.0))
    localize(recording, Spotter(), stride_seconds=0.25, batch_size=4)
    asked = [round(t, 6) for times in recording.asked for t in times]
    assert asked == sorted(set(asked))


def test_localize_keeps_few_frames_of_a_long_video():
    """One window and three strides are looked at in a batch, and 8 frames are decoded ahead."""
    alive, most = weakref.WeakSet(), 0
    recording = Recording(stop=60.0, audio=(0.0, 60.0))

    def stream(at_seconds, short_side=None):
        nonlocal most
        for second in at_seconds:
            frame = recording.read_frames([second], short_side)[0]
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    recording.stream_frames = stream
    localize(recording, Spotter(), stride_seconds=0.25, batch_size=4)
    assert len(recording.asked) == 60 * 8
    assert most <= (8 + 3 * 2) + 8 + 3


def test_windows_that_share_no_frame_are_read_in_one_pass():
    recording = Recording()
    pictures = FrameWindows(recording, Window(num_frames=2))
    instants = pictures.instants(0.3)
    whole = torch.cat(list(pictures.read(pictures.starts(instants), batch_size=3)))
    alone = torch.cat([next(pictures.read(pictures.starts(instant[None]), batch_size=1)) for instant in instants])
    assert torch.equal(whole, alone)


def test_localize_video_shorter_than_the_window():
    heatmap = localize(Recording(stop=0.4, audio=(0.0, 0.4)), Spotter(), stride_seconds=0.25)
    assert len(heatmap.values) == 2
    assert heatmap.values.flatten(1).argmax(dim=1).tolist() == [0, 0]


def test_localize_stops_early():
    heatmap = localize(Recording(), Spotter(), stride_seconds=0.5, stop_after_seconds=2)
    whole = localize(Recording(), Spotter(), stride_seconds=0.5)
    assert torch.equal(heatmap.values, whole.values[:4])


def test_localize_decodes_large_frames_small_and_small_ones_as_they_are():
    for size, sampling, expected in [
        ((512, 640), Window(), 256),
        ((64, 64), Window(), None),
        ((512, 640), Window(short_side=128), 128),
    ]:
        recording = Recording(stop=1.0, size=size)
        localize(recording, Spotter(), sampling)
        assert recording.short_sides == {expected}


def test_localize_reports_progress():
    seen = []
    localize(Recording(), Spotter(), stride_seconds=1, batch_size=4, on_progress=lambda *n: seen.append(n))
    assert seen == [(4, 6), (6, 6)]


def test_map_reacts_to_another_sound():
    own = localize(Recording(), Spotter())
    silent = localize(Recording(), Spotter(), audio_from="silence")
    noise = localize(Recording(), Spotter(), audio_from="noise")
    other = localize(Recording(audio=None), Spotter(), audio_from=Recording())
    assert not torch.equal(own.values.flatten(1).argmax(1), silent.values.flatten(1).argmax(1))
    assert torch.equal(own.values, noise.values)
    assert torch.equal(own.values, other.values)


def test_windows_of_sound_lie_around_their_instants():
    sound = AudioWindows(Recording(), None)
    windows = sound.around(torch.tensor([3.0, 3.25, 0.1, 5.9], dtype=torch.float64), 1.0, 1000)
    assert windows.shape == (4, 1000)
    # Near the ends they shift to lie inside the track.
    assert windows[:, 0].tolist() == pytest.approx([2.5, 2.75, 0.0, 5.0], abs=1e-3)
    assert windows[:, -1].tolist() == pytest.approx([3.499, 3.749, 0.999, 5.999], abs=1e-3)


def test_beyond_its_track_there_is_silence():
    sound = AudioWindows(Recording(stop=6.0, audio=(2.0, 3.0)), None)
    windows = sound.around(torch.tensor([0.5, 1.8, 2.1, 2.5, 3.2, 5.0], dtype=torch.float64), 1.0, 1000)
    assert (windows[[0, 5]] == 0).all()
    assert (windows[1, :700] == 0).all()
    assert windows[1, 700:].tolist() == pytest.approx([2 + i / 1000 for i in range(300)], abs=1e-3)
    for row in (2, 3):
        assert windows[row].tolist() == pytest.approx([2 + i / 1000 for i in range(1000)], abs=1e-3)
    assert windows[4, :300].tolist() == pytest.approx([2.7 + i / 1000 for i in range(300)], abs=1e-3)
    assert (windows[4, 300:] == 0).all()


def test_track_shorter_than_the_window_is_padded():
    windows = AudioWindows(Recording(audio=(0.0, 0.25)), None).around(
        torch.tensor([0.1], dtype=torch.float64), 1.0, 1000
    )
    assert windows[0, :250].tolist() == pytest.approx([i / 1000 for i in range(250)], abs=1e-6)
    assert (windows[0, 250:] == 0).all()


def test_another_sound_starts_with_the_video():
    video, other = Recording(start=10.0, stop=16.0, audio=None), Recording(audio=(2.0, 8.0))
    sound = AudioWindows(video, other)
    assert sound.around(torch.tensor([13.0], dtype=torch.float64), 1.0, 1000)[0, 500].item() == pytest.approx(
        5, abs=1e-3
    )
    assert torch.cat(list(sound.stream(10.0, 7000, 1000)), dim=1)[0, [0, 5999, 6500]].tolist() == pytest.approx(
        [2, 7.999, 0], abs=1e-3
    )


def test_noise_is_white_and_the_same_in_each_run():
    make = lambda: AudioWindows(Recording(), "noise").around(torch.tensor([0.5, 1.0], dtype=torch.float64), 2.0, 8000)  # noqa: E731
    noise = make()
    assert torch.equal(noise, make())
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert abs(torch.corrcoef(noise)[0, 1].item()) < 0.05
    assert abs(torch.corrcoef(torch.stack([noise[0, 1:], noise[0, :-1]]))[0, 1].item()) < 0.05


def test_localize_names_a_missing_track():
    with pytest.raises(MediaError, match=r"memory.mp4: audio.*no audio stream.*--silence") as error:
        localize(Recording(audio=None), Spotter())
    assert error.value.reason == "no_audio"
    with pytest.raises(MediaError, match="no video stream") as error:
        localize(Recording(start=None, stop=None), Spotter())
    assert error.value.reason == "no_video"


def test_localize_refuses():
    with pytest.raises(ValueError, match="stride_seconds"):
        localize(Recording(), Spotter(), stride_seconds=0)
    with pytest.raises(ValueError, match="batch_size"):
        localize(Recording(), Spotter(), batch_size=0)
    with pytest.raises(ValueError, match="stop_after_seconds"):
        localize(Recording(), Spotter(), stop_after_seconds=0)
    with pytest.raises(ValueError, match="audio_from \\('loud'\\)"):
        localize(Recording(), Spotter(), audio_from="loud")


def test_readout_names_the_peak_in_pixels():
    values = torch.zeros(3, 4, 5)
    values[0, 1, 3] = 0.7
    values[1, 0, 0] = values[1, 0, 1] = 0.2
    heatmap = Heatmap(values, torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64), values.amax(dim=(1, 2)))
    readout = heatmap_readout(heatmap, (80, 200))
    assert json.loads(json.dumps(readout)) == [
        {"second": 0.5, "x": 140.0, "y": 30.0, "confidence": 0.7},
        {"second": 1.0, "x": 40.0, "y": 10.0, "confidence": 0.2},
        {"second": 1.5, "x": 100.0, "y": 40.0, "confidence": 0.0},
    ]
