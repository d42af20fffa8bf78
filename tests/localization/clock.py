"""A file whose brightness and samples tell the time, and an embedder that reads them: curves with known minima."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch

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

    framewise = False

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


class ReadsMoments(Reads):
    """Embeds the time of every frame, and of the audio at the same moment, as a direction."""

    framewise = True

    def instants(self, modality, x):
        seconds = x.flatten(2).mean(dim=2) / 20 if modality == "video" else x[:, ::250]
        return torch.nn.functional.normalize(self.direction(seconds.flatten()), dim=1).unflatten(0, seconds.shape)
