import math
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from avssl.localization import SyncCurve, draw_sync_curve, energy_curve, sync_curve
from avssl.media import MediaError
from avssl.models import Encoding


@dataclass(frozen=True)
class Window:
    num_frames: int = 4
    frames_per_second: float = 4.0
    audio_seconds: float = 1.0
    sample_rate_hz: int = 1000
    short_side: int | None = None


class Clock:
    """A file whose brightness and whose samples tell the time; the sound runs ``late`` seconds behind."""

    def __init__(self, stop=8.0, late=0.0, sound=True):
        self.late = late
        self.info = SimpleNamespace(
            path="clock.mp4",
            video_start_seconds=0.0,
            video_stop_seconds=stop,
            video_fps=20.0,
            height=16,
            width=16,
            audio_start_seconds=0.0 if sound else None,
            audio_stop_seconds=stop if sound else None,
            audio_sample_rate_hz=1000,
            audio_num_channels=1,
        )

    def read_frames(self, at_seconds, short_side=None):
        level = (torch.tensor(at_seconds) * 20).round().to(torch.uint8)
        return level[:, None, None, None].expand(-1, 3, 16, 16)

    def stream_frames(self, at_seconds, short_side=None):
        yield from self.read_frames(at_seconds, short_side)

    def read_audio(self, start, stop, rate, channels):
        return (start + torch.arange(round((stop - start) * rate)) / rate - self.late).float()[None]


class Reads:
    """Embeds the time in the middle of a window as a direction: one turn in 4 seconds."""

    def video_input(self, frames):
        return frames.float()

    def audio_input(self, waveforms):
        return waveforms

    def encode(self, modality, x):
        mean = x.flatten(1).mean(dim=1)
        # Frames are shown from start + i / 4 on: their mean is half a frame before the middle.
        embedding = self.direction(mean / 20 + 0.125 if modality == "video" else mean + 0.0005)
        return Encoding(embedding, embedding, {})

    def direction(self, seconds):
        angle = seconds * math.pi / 2
        return torch.stack([angle.cos(), angle.sin()], dim=1) * 3


def scan(clock, **options):
    return sync_curve(clock, Reads(), Window(), **({"max_offset_seconds": 1.0, "step_seconds": 0.1} | options))


@pytest.mark.parametrize("late", [0.0, 0.4, -0.6])
def test_the_offset_of_a_moved_sound_is_found(late):
    curve = scan(Clock(late=late))
    assert curve.best_offset_seconds == pytest.approx(late)
    assert not curve.is_at_edge
    # The energy of directions that are d seconds apart is 1 - cos(d turns / 4).
    expected = 1 - torch.cos((curve.offset_seconds - late) * math.pi / 2)
    torch.testing.assert_close(curve.energy.double(), expected, atol=0.01, rtol=0)
    assert curve.confidence == pytest.approx(float(expected.quantile(0.5)), abs=0.01)


def test_every_offset_is_measured_at_the_same_instants_inside_the_file():
    curve = scan(Clock(stop=8.0), max_offset_seconds=1.0, step_seconds=0.25, strides_per_instant=2)
    assert curve.offset_seconds.tolist() == [-1, -0.75, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1]
    assert curve.num_instants == 11  # 1.5 s to 6.5 s, every half second


def test_a_minimum_at_the_edge_is_told():
    assert scan(Clock(late=1.5)).is_at_edge


def test_a_flat_curve_has_no_confidence_and_says_zero():
    curve = SyncCurve(torch.arange(-3, 4) / 10, torch.full((7,), 0.5), 4)
    assert curve.confidence == 0
    assert curve.best_offset_seconds == 0


def test_too_short_a_file_is_an_error():
    with pytest.raises(ValueError, match=r"2\.00 s of video and audio are too short: .* needs 3\.00 s"):
        scan(Clock(stop=2.0))
    assert scan(Clock(stop=3.0)).num_instants == 1
    with pytest.raises(ValueError, match="must be at least step_seconds"):
        scan(Clock(), max_offset_seconds=0.05)
    with pytest.raises(ValueError, match=r"step_seconds \(0\) must be greater than 0"):
        scan(Clock(), step_seconds=0)
    with pytest.raises(MediaError, match="no audio stream"):
        scan(Clock(sound=False))


def test_energy_is_low_for_the_moment_and_higher_for_others():
    curve = energy_curve(Clock(), Reads(), Window(), stride_seconds=0.5)
    assert curve.at_seconds.tolist()[:3] == [0.25, 0.75, 1.25]
    assert curve.mean < 0.02
    # The first instant's window is 0 to 1 s; the others' middles are 1.25, 1.75 ... 7.25 and, shifted inside, 7.5 s.
    others = [1.25 + 0.5 * number for number in range(13)] + [7.5]
    expected = sum(1 - math.cos((second - 0.5) * math.pi / 2) for second in others) / len(others)
    assert float(curve.shuffled[0]) == pytest.approx(expected, abs=0.01)
    assert curve.shuffled_mean > 0.5


def test_energy_of_another_files_sound():
    curve = energy_curve(Clock(), Reads(), Window(), stride_seconds=0.5, audio_from=Clock(late=2.0))
    assert curve.mean == pytest.approx(2, abs=0.05)  # half a turn behind, everywhere


def test_energy_in_a_file_of_one_window_has_no_other_moments():
    curve = energy_curve(Clock(stop=1.0), Reads(), Window(), stride_seconds=0.5)
    assert math.isnan(curve.shuffled_mean)


def test_the_curve_is_drawn(tmp_path):
    draw_sync_curve(scan(Clock(late=0.4)), tmp_path / "curve.png", "a $strange_name")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
