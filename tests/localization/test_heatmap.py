import json
import math
import weakref
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from avssl.core.batch import Batch, Heatmap
from avssl.evaluation.localization import resize
from avssl.localization import cosine_map, heatmap_readout, localize, maps_at, upsample
from avssl.localization.heatmap import at_instant, head_maps, smooth, sound_map, unit_cells
from avssl.localization.windows import PictureWindows, SoundWindows
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
    """visual_cells: (brightness, 1 - brightness) of each cell, one time cell for two frames.
    sound_queries: likes bright cells when there is a sound, dark ones in silence."""

    num_heads = 1

    def visual_cells(self, video):
        bright = F.adaptive_avg_pool3d(video[:, :1], (video.shape[2] // 2, 4, 4))
        return torch.cat([bright, 1 - bright], dim=1)

    def sound_queries(self, audio):
        loud = (audio.abs().amax(dim=(1, 2, 3)) > 0).float()
        return torch.stack([loud, 1 - loud], dim=1)[..., None]


class TwoHeads(Spotter):
    """A head that finds the spot and a head that finds everything else, each of two channels."""

    num_heads = 2

    def visual_cells(self, video):
        bright = super().visual_cells(video)
        return torch.cat([bright, bright], dim=1)

    def sound_queries(self, audio):
        return torch.tensor([3.0, 0.0, 0.0, 0.5])[:, None].expand(len(audio), 4, 7)


def plain(batch):
    return Batch(batch.video.float().permute(0, 2, 1, 3, 4) / 255, batch.audio[:, None, :, None], batch.index)


def test_cosine_map_matches_loop_reference():
    generator = torch.Generator().manual_seed(0)
    video_map, audio = torch.randn(3, 5, 2, 4, 6, generator=generator), torch.randn(3, 5, generator=generator)
    result = cosine_map(video_map, audio)
    for b, t, h, w in [(0, 0, 0, 0), (1, 1, 3, 5), (2, 0, 2, 4)]:
        cell, sound = video_map[b, :, t, h, w], audio[b]
        expected = sum(x * y for x, y in zip(cell.tolist(), sound.tolist(), strict=True))
        assert result[b, t, h, w].item() == pytest.approx(expected / (cell.norm() * sound.norm()).item(), abs=1e-6)
    assert result.shape == (3, 2, 4, 6)


def test_cosine_map_is_one_where_cell_and_sound_agree_and_ignores_scale():
    audio = torch.tensor([[3.0, 4.0]])
    video_map = torch.stack([torch.tensor([0.6, 0.8]), torch.tensor([-30.0, -40.0]), torch.tensor([0.0, 0.0])])
    result = cosine_map(video_map.T[None, :, None, None, :], audio)
    assert result.flatten().tolist() == pytest.approx([1, -1, 0])


def test_cosine_map_is_float32_under_autocast():
    video_map, audio = torch.randn(2, 64, 2, 3, 3), torch.randn(2, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = cosine_map(video_map, audio)
    assert half.dtype == torch.float32
    assert torch.equal(half, cosine_map(video_map, audio))


def test_cosine_map_refuses_other_clips():
    with pytest.raises(ValueError, match=r"of the same clips, got \(2, 8, 1, 4, 4\) and \(3, 8\)"):
        cosine_map(torch.zeros(2, 8, 1, 4, 4), torch.zeros(3, 8))


def test_upsample_is_the_metrics_resize_on_any_leading_shape():
    maps = torch.randn(2, 3, 4, 5)
    assert torch.equal(upsample(maps, (20, 30))[1, 2], resize(maps[1, 2][None], (20, 30))[0])
    assert torch.equal(upsample(maps[0, 0], (20, 30)), upsample(maps, (20, 30))[0, 0])


def test_maps_at_reads_between_time_cells():
    maps = torch.arange(4.0)[None, :, None, None].expand(5, 4, 2, 2)  # the value is the cell's number
    # 16 frames, 4 cells: cell c is the middle of frames 4c .. 4c + 3, frame position 4c + 1.5.
    result = maps_at(maps, torch.tensor([0.0, 1.5, 3.5, 7.5, 15.0]), 16)[:, 0, 0]
    assert result.tolist() == pytest.approx([0, 0, 0.5, 1.5, 3])


def test_unit_cells_average_the_picture_and_its_mirror_image():
    class Biased:
        """Sees brightness, and tells left from right."""

        num_heads = 1

        def visual_cells(self, video):
            bright = video.mean(dim=1, keepdim=True)
            return torch.cat([bright, torch.linspace(-1, 1, video.shape[-1]).expand_as(bright)], dim=1)

    video, sound = torch.rand(2, 3, 4, 5, 6), torch.randn(2, 2)
    cells = unit_cells(Biased(), video)
    straight = cosine_map(Biased().visual_cells(video), sound)
    mirrored = cosine_map(Biased().visual_cells(video.flip(-1)), sound).flip(-1)
    torch.testing.assert_close(sound_map(cells, sound[..., None]), (straight + mirrored) / 2)
    torch.testing.assert_close(unit_cells(Biased(), video.flip(-1)), cells.flip(-1))


def cells_and_queries(num_cells, num_steps, num_heads, channels=6):
    generator = torch.Generator().manual_seed(num_cells)
    cells = torch.randn(2, channels, num_cells, 3, 4, generator=generator)
    queries = torch.randn(2, channels, num_steps, generator=generator)
    cells = F.normalize(cells.unflatten(1, (num_heads, -1)), dim=2).flatten(1, 2)
    return cells, queries


# Two steps to each of 3 cells; 5 steps to 3 cells; 2 steps to 4 cells; one of either.
MOMENTS = {
    (3, 6): ([0, 0, 1, 1, 2, 2], [0, 1, 2, 3, 4, 5]),
    (3, 5): ([0, 0, 1, 2, 2], [0, 1, 2, 3, 4]),
    (4, 2): ([0, 1, 2, 3], [0, 0, 1, 1]),
    (3, 1): ([0, 1, 2], [0, 0, 0]),
    (1, 3): ([0, 0, 0], [0, 1, 2]),
}


@pytest.mark.parametrize(("num_cells", "num_steps"), MOMENTS)
@pytest.mark.parametrize("num_heads", [1, 2])
def test_sound_map_matches_loop_reference(num_cells, num_steps, num_heads):
    cells, queries = cells_and_queries(num_cells, num_steps, num_heads)
    together, apart = sound_map(cells, queries, num_heads), head_maps(cells, queries, num_heads)
    assert together.shape == (2, num_cells, 3, 4)
    assert apart.shape == (2, num_heads, num_cells, 3, 4)
    size = 6 // num_heads
    for b, t, h, w in [(0, 0, 0, 0), (1, num_cells - 1, 2, 3), (0, num_cells // 2, 1, 1)]:
        heard = [step for cell, step in zip(*MOMENTS[num_cells, num_steps], strict=True) if cell == t]
        cosine = [
            [
                F.cosine_similarity(
                    cells[b, k * size : (k + 1) * size, t, h, w], queries[b, k * size : (k + 1) * size, step], dim=0
                ).item()
                for step in heard
            ]
            for k in range(num_heads)
        ]
        expected = [sum(values) / len(heard) for values in cosine]
        assert apart[b, :, t, h, w].tolist() == pytest.approx(expected, abs=1e-6)
        best = sum(max(values) for values in zip(*cosine, strict=True)) / len(heard)
        assert together[b, t, h, w].item() == pytest.approx(best, abs=1e-6)


def test_one_head_alone_is_the_map_and_the_scale_of_a_sound_does_not_matter():
    cells, queries = cells_and_queries(3, 6, 1)
    assert torch.equal(head_maps(cells, queries, 1)[:, 0], sound_map(cells, queries))
    torch.testing.assert_close(sound_map(cells, 7 * queries), sound_map(cells, queries))


def test_two_sounds_at_once_lie_in_two_heads():
    # Head 0 of the left cell and head 1 of the right one fit what is heard.
    cells = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])[None, :, None, None, :]
    queries = torch.tensor([1.0, 0.0, 1.0, 0.0])[None, :, None]
    assert head_maps(cells, queries, 2).flatten().tolist() == [1, 0, 0, 1]
    assert sound_map(cells, queries, 2).flatten().tolist() == [1, 1]


def test_sound_map_refuses_what_does_not_fit():
    cells, queries = cells_and_queries(3, 1, 1)
    with pytest.raises(ValueError, match=r"queries \(B, D, S\) of the same clips, got .* and \(2, 5, 1\)"):
        sound_map(cells, queries[:, :5])
    with pytest.raises(ValueError, match=r"num_heads \(4\) .* divide the embedding size \(6\)"):
        sound_map(cells, queries, 4)


def test_a_sound_as_a_whole_is_the_same_at_every_instant():
    cells, queries = cells_and_queries(4, 1, 1)
    frame = torch.tensor([0.0, 5.3])
    seen, heard = at_instant(cells, queries, frame, 8)
    assert torch.equal(heard, queries)
    assert seen.shape == (2, 6, 1, 3, 4)
    torch.testing.assert_close(sound_map(seen, heard)[:, 0], maps_at(sound_map(cells, queries), frame, 8))


def test_what_is_heard_at_an_instant_is_heard_in_its_cell():
    cells, _ = cells_and_queries(4, 8, 2)
    queries = torch.arange(8.0).expand(2, 6, 8)  # step s is s; a cell of 2 frames hears 2c and 2c + 1
    frame = torch.tensor([0.5, 3.5])  # the middle of cell 0, and halfway between cells 1 and 2
    seen, heard = at_instant(cells, queries, frame, 8)
    assert heard[:, 0, 0].tolist() == [0.5, 3.5]
    torch.testing.assert_close(seen[0, :, 0], cells[0, :, 0])
    torch.testing.assert_close(seen[1, :, 0], (cells[1, :, 1] + cells[1, :, 2]) / 2)


def test_localize_tells_heads_apart():
    recording = Recording()
    heatmap = localize(recording, TwoHeads(), plain, Window(), stride_seconds=0.5)
    assert heatmap.head_values.shape == (12, 2, 4, 4)
    finds, avoids = heatmap.head_values.unbind(dim=1)
    spots = [recording.cell(second) for second in heatmap.at_seconds.tolist()]
    assert finds.flatten(1).argmax(dim=1).tolist() == spots
    assert avoids.flatten(1).argmin(dim=1).tolist() == spots
    alone = localize(recording, Spotter(), plain, Window(), stride_seconds=0.5)
    assert torch.equal(alone.head_values[:, 0], alone.values)


def test_heatmap_refuses_heads_of_other_maps():
    values, seconds = torch.zeros(3, 4, 5), torch.arange(3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"head_values must be \(T, K, h, w\) beside values \(3, 4, 5\)"):
        Heatmap(values, seconds, torch.zeros(3), torch.zeros(3, 2, 4, 4))


def test_smooth_spreads_a_spot_and_keeps_peak_and_constants():
    spot = torch.zeros(1, 5, 6)
    spot[0, 2, 3] = 1.0
    once = smooth(spot, 1)
    assert once[0, 1:4, 2:5].flatten().mul(16).tolist() == [1, 2, 1, 2, 4, 2, 1, 2, 1]
    torch.testing.assert_close(smooth(spot, 2), smooth(smooth(spot, 1), 1))
    corner = torch.zeros(1, 4, 4)
    corner[0, 3, 0] = 1.0
    for picture in (spot, corner):
        assert smooth(picture).flatten().argmax() == picture.flatten().argmax()
    torch.testing.assert_close(smooth(torch.full((2, 3, 4), 0.3)), torch.full((2, 3, 4), 0.3))


@pytest.mark.parametrize("start", [0.0, 1.25])
def test_localize_follows_the_spot_through_the_whole_video(start):
    recording = Recording(start, start + 6, audio=(start, start + 6))
    heatmap = localize(recording, Spotter(), plain, Window(), stride_seconds=0.5)
    assert heatmap.values.shape == (12, 4, 4)
    assert heatmap.at_seconds.tolist() == pytest.approx([start + 0.25 + 0.5 * k for k in range(12)])
    assert torch.equal(heatmap.confidence, heatmap.values.amax(dim=(1, 2)))
    peaks = heatmap.values.flatten(1).argmax(dim=1).tolist()
    # The middle of a stride is the middle of the spot's half second: the ends, where the windows are
    # shifted to lie inside the video, are no exception.
    assert peaks == [recording.cell(second) for second in heatmap.at_seconds.tolist()]
    assert len(set(peaks)) == 12


def test_localize_depends_on_neither_batch_size_nor_gradient_mode():
    whole = localize(Recording(), Spotter(), plain, Window(), batch_size=100)
    for batch_size in (1, 5):
        part = localize(Recording(), Spotter(), plain, Window(), batch_size=batch_size)
        # Not to the bit: on some processors a kernel sums in another order for another batch size.
        torch.testing.assert_close(part.values, whole.values, atol=1e-6, rtol=0)
    whole.values.add_(1)  # an ordinary tensor, not one of inference mode


def test_localize_decodes_each_frame_once_in_order():
    recording = Recording(stop=20.0, audio=(0.0, 20.0))
    localize(recording, Spotter(), plain, Window(), stride_seconds=0.25, batch_size=4)
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
    localize(recording, Spotter(), plain, Window(), stride_seconds=0.25, batch_size=4)
    assert len(recording.asked) == 60 * 8
    assert most <= (8 + 3 * 2) + 8 + 3


def test_windows_that_share_no_frame_are_read_in_one_pass():
    recording = Recording()
    pictures = PictureWindows(recording, Window(num_frames=2))
    instants = pictures.instants(0.3)
    whole = torch.cat(list(pictures.read(pictures.starts(instants), batch_size=3)))
    alone = torch.cat([next(pictures.read(pictures.starts(instant[None]), batch_size=1)) for instant in instants])
    assert torch.equal(whole, alone)


def test_localize_video_shorter_than_the_window():
    heatmap = localize(Recording(stop=0.4, audio=(0.0, 0.4)), Spotter(), plain, Window(), stride_seconds=0.25)
    assert len(heatmap.values) == 2
    assert heatmap.values.flatten(1).argmax(dim=1).tolist() == [0, 0]


def test_localize_stops_early():
    heatmap = localize(Recording(), Spotter(), plain, Window(), stride_seconds=0.5, stop_after_seconds=2)
    whole = localize(Recording(), Spotter(), plain, Window(), stride_seconds=0.5)
    assert torch.equal(heatmap.values, whole.values[:4])


def test_localize_decodes_large_frames_small_and_small_ones_as_they_are():
    for size, sampling, expected in [
        ((512, 640), Window(), 256),
        ((64, 64), Window(), None),
        ((512, 640), Window(short_side=128), 128),
    ]:
        recording = Recording(stop=1.0, size=size)
        localize(recording, Spotter(), plain, sampling)
        assert recording.short_sides == {expected}


def test_localize_reports_progress():
    seen = []
    localize(
        Recording(), Spotter(), plain, Window(), stride_seconds=1, batch_size=4, on_progress=lambda *n: seen.append(n)
    )
    assert seen == [(4, 6), (6, 6)]


def test_map_reacts_to_another_sound():
    own = localize(Recording(), Spotter(), plain, Window())
    silent = localize(Recording(), Spotter(), plain, Window(), audio_from="silence")
    noise = localize(Recording(), Spotter(), plain, Window(), audio_from="noise")
    other = localize(Recording(audio=None), Spotter(), plain, Window(), audio_from=Recording())
    assert not torch.equal(own.values.flatten(1).argmax(1), silent.values.flatten(1).argmax(1))
    assert torch.equal(own.values, noise.values)
    assert torch.equal(own.values, other.values)


def test_windows_of_sound_lie_around_their_instants():
    sound = SoundWindows(Recording(), None)
    windows = sound.around(torch.tensor([3.0, 3.25, 0.1, 5.9], dtype=torch.float64), 1.0, 1000)
    assert windows.shape == (4, 1000)
    # Near the ends they shift to lie inside the track.
    assert windows[:, 0].tolist() == pytest.approx([2.5, 2.75, 0.0, 5.0], abs=1e-3)
    assert windows[:, -1].tolist() == pytest.approx([3.499, 3.749, 0.999, 5.999], abs=1e-3)


def test_beyond_its_track_there_is_silence():
    sound = SoundWindows(Recording(stop=6.0, audio=(2.0, 3.0)), None)
    windows = sound.around(torch.tensor([0.5, 1.8, 2.1, 2.5, 3.2, 5.0], dtype=torch.float64), 1.0, 1000)
    assert (windows[[0, 5]] == 0).all()
    assert (windows[1, :700] == 0).all()
    assert windows[1, 700:].tolist() == pytest.approx([2 + i / 1000 for i in range(300)], abs=1e-3)
    for row in (2, 3):
        assert windows[row].tolist() == pytest.approx([2 + i / 1000 for i in range(1000)], abs=1e-3)
    assert windows[4, :300].tolist() == pytest.approx([2.7 + i / 1000 for i in range(300)], abs=1e-3)
    assert (windows[4, 300:] == 0).all()


def test_track_shorter_than_the_window_is_padded():
    windows = SoundWindows(Recording(audio=(0.0, 0.25)), None).around(
        torch.tensor([0.1], dtype=torch.float64), 1.0, 1000
    )
    assert windows[0, :250].tolist() == pytest.approx([i / 1000 for i in range(250)], abs=1e-6)
    assert (windows[0, 250:] == 0).all()


def test_another_sound_starts_with_the_video():
    video, other = Recording(start=10.0, stop=16.0, audio=None), Recording(audio=(2.0, 8.0))
    sound = SoundWindows(video, other)
    assert sound.around(torch.tensor([13.0], dtype=torch.float64), 1.0, 1000)[0, 500].item() == pytest.approx(
        5, abs=1e-3
    )
    assert torch.cat(list(sound.stream(10.0, 7000, 1000)), dim=1)[0, [0, 5999, 6500]].tolist() == pytest.approx(
        [2, 7.999, 0], abs=1e-3
    )


def test_noise_is_white_and_the_same_in_each_run():
    make = lambda: SoundWindows(Recording(), "noise").around(torch.tensor([0.5, 1.0], dtype=torch.float64), 2.0, 8000)  # noqa: E731
    noise = make()
    assert torch.equal(noise, make())
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert abs(torch.corrcoef(noise)[0, 1].item()) < 0.05
    assert abs(torch.corrcoef(torch.stack([noise[0, 1:], noise[0, :-1]]))[0, 1].item()) < 0.05


def test_localize_names_a_missing_track():
    with pytest.raises(MediaError, match=r"memory.mp4: audio.*no sound track.*audio_from") as error:
        localize(Recording(audio=None), Spotter(), plain, Window())
    assert error.value.reason == "no_audio"
    with pytest.raises(MediaError, match="no picture track") as error:
        localize(Recording(start=None, stop=None), Spotter(), plain, Window())
    assert error.value.reason == "no_video"


def test_localize_refuses():
    class Module(nn.Module):
        pass

    with pytest.raises(ValueError, match=r"model is in training mode.*model.eval\(\)"):
        localize(Recording(), Module(), plain, Window())
    with pytest.raises(ValueError, match="transform is in training mode"):
        localize(Recording(), Spotter(), Module(), Window())
    with pytest.raises(ValueError, match="stride_seconds"):
        localize(Recording(), Spotter(), plain, Window(), stride_seconds=0)
    with pytest.raises(ValueError, match="batch_size"):
        localize(Recording(), Spotter(), plain, Window(), batch_size=0)
    with pytest.raises(ValueError, match="stop_after_seconds"):
        localize(Recording(), Spotter(), plain, Window(), stop_after_seconds=0)
    with pytest.raises(ValueError, match="audio_from \\('loud'\\)"):
        localize(Recording(), Spotter(), plain, Window(), audio_from="loud")


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
