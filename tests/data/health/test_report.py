import json
import math
import wave
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import torch

from avssl.data.health.everywhere import decode_everywhere
from avssl.data.health.report import HealthReport, HealthSettings, probe_file
from avssl.media import MediaLimits, write_video
from avssl.media.pyav.packets import read_packets
from avssl.media.pyav.reader import PyAVReader

RATE = 8000


def moving(seconds, fps=8, size=48):
    """A grating that moves."""
    x = torch.arange(float(size))
    frames = [127 + 120 * torch.sin((x + 3 * t) / 5) for t in range(round(seconds * fps))]
    return torch.stack(frames)[:, None, None].expand(-1, 3, size, size).to(torch.uint8)


def tone(seconds, level=0.5):
    return level * torch.sin(torch.arange(round(seconds * RATE)) * 0.3)[None]


def write_wav(path, sound):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((sound[0].numpy() * 32767).astype(np.int16).tobytes())


def video(path, frames=None, sound=None, seconds=4.0):
    write_video(path, moving(seconds) if frames is None else frames, 8, tone(seconds) if sound is None else sound, RATE)
    return path


def status(path, depth="normal", **settings):
    return probe_file(str(path), HealthSettings(depth, "pyav", **settings)).status


def test_a_healthy_file_is_ok_at_every_depth(tmp_path):
    path = video(tmp_path / "a.mp4")
    for depth in ("quick", "normal", "full"):
        report = probe_file(str(path), HealthSettings(depth))
        assert (report.status, report.error) == ("ok", None)
        assert (report.info.width, report.info.video_fps, report.info.video_stop_seconds) == (48, 8.0, 4.0)


def test_what_is_missing_has_a_reason(tmp_path):
    (tmp_path / "text.mp4").write_text("a web page")
    write_video(tmp_path / "mute.mp4", moving(2), 8)
    with av.open(str(tmp_path / "blind.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(2).numpy(), format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert status(tmp_path / "none.mp4") == "unreadable"
    assert status(tmp_path / "text.mp4") == "not_media"
    assert status(tmp_path / "mute.mp4") == "no_audio"
    assert status(tmp_path / "blind.mp4") == "no_video"


def test_one_stream_is_enough_where_only_one_is_needed(tmp_path):
    write_video(tmp_path / "mute.mp4", moving(40), 8)
    write_wav(tmp_path / "a.wav", tone(40))
    silent = video(tmp_path / "silent.mp4", sound=0 * tone(4.0))
    still = video(tmp_path / "still.mp4", moving(4)[:1].expand(32, -1, -1, -1))
    for depth in ("quick", "normal", "full"):
        report = probe_file(str(tmp_path / "mute.mp4"), HealthSettings(depth, "pyav", stream="video"))
        assert (report.status, report.spans) == ("ok", ((0.0, 40.0),))
        assert probe_file(str(tmp_path / "a.wav"), HealthSettings(depth, "pyav", stream="audio")).status == "ok"
    assert [status(silent, stream=stream) for stream in ("both", "video", "audio")] == ["silent", "ok", "silent"]
    assert [status(still, stream=stream) for stream in ("both", "video", "audio")] == ["still_picture"] * 2 + ["ok"]
    assert status(tmp_path / "mute.mp4", stream="audio") == "no_audio"
    assert status(tmp_path / "a.wav", stream="video") == "no_video"
    short = probe_file(str(tmp_path / "mute.mp4"), HealthSettings("quick", "pyav", min_seconds=50.0, stream="video"))
    assert "the video plays for 40.000 s, less than 50 s" in str(short.error)


def test_limits(tmp_path):
    path = video(tmp_path / "a.mp4", seconds=2.0)
    assert status(path, min_seconds=2.0) == "ok"
    assert status(path, min_seconds=2.1) == "too_short"
    assert status(path, limits=MediaLimits(max_pixels=48 * 48 - 1)) == "too_large"
    assert status(path, limits=MediaLimits(max_duration_seconds=1.9)) == "too_large"


def test_pictures_that_never_change_are_still(tmp_path):
    frames = moving(4)
    assert status(video(tmp_path / "still.mp4", frames[:1].expand(32, -1, -1, -1))) == "still_picture"
    grain = torch.randn(32, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    noisy = moving(1, size=192)[:1].float() + grain
    assert status(video(tmp_path / "noisy.mp4", noisy.clamp(0, 255).to(torch.uint8))) == "still_picture"
    fade = frames.clone()
    fade[0] = fade[-1] = 0  # black at both ends
    assert status(video(tmp_path / "fade.mp4", fade)) == "ok"
    corner = frames[:1].repeat(32, 1, 1, 1)
    corner[16:, :, :6, :6] = 255  # something appears in a corner
    assert status(video(tmp_path / "corner.mp4", corner)) == "ok"
    assert status(tmp_path / "still.mp4", "quick") == "ok"


def test_sound_that_is_never_heard_is_silent(tmp_path):
    assert status(video(tmp_path / "zeros.mp4", sound=torch.zeros(1, 4 * RATE))) == "silent"
    assert status(video(tmp_path / "hiss.mp4", sound=tone(4, 0.0005))) == "silent"  # -66 dBFS
    assert status(video(tmp_path / "soft.mp4", sound=tone(4, 0.003))) == "ok"  # -50 dBFS
    beep = torch.zeros(1, 4 * RATE)
    beep[:, 12_000:12_400] = tone(0.05)
    assert status(video(tmp_path / "beep.mp4", sound=beep)) == "ok"
    assert status(tmp_path / "zeros.mp4", "quick") == "ok"


def encoded(path, picture, sound, options=None):
    """6 s of a moving grating and a tone, by FFmpeg's names of encoders."""
    rate = 48_000 if sound == "libopus" else 44_100
    with av.open(str(path), "w", options=options or {}) as container:
        video = container.add_stream(picture, rate=10)
        video.width = video.height = 48
        video.pix_fmt = "yuvj420p" if picture == "mjpeg" else "yuv420p"
        video.codec_context.gop_size = 10
        audio = container.add_stream(sound, rate=rate, layout="mono")
        audio.bit_rate = 64_000
        frame = av.AudioFrame.from_ndarray(
            0.5 * np.sin(np.arange(6 * rate) * 0.05)[None].astype(np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = rate, 0
        resampler = av.AudioResampler(audio.format.name, "mono", rate, audio.codec_context.frame_size or 1024)
        sounds = [*resampler.resample(frame), *resampler.resample(None)]
        for number, pixels in enumerate(moving(6, fps=10)):
            image = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).numpy().copy(), format="rgb24")
            image = image.reformat(format=video.pix_fmt)
            image.pts = number
            container.mux(video.encode(image))
            for piece in sounds[number * len(sounds) // 60 : (number + 1) * len(sounds) // 60]:
                container.mux(audio.encode(piece))
        container.mux([*video.encode(None), *audio.encode(None)])
    return path


CONTAINERS = {
    "first.mp4": ("libx264", "aac", {"movflags": "+faststart"}),
    "last.mp4": ("libx264", "aac", {}),
    "fragments.mp4": ("libx264", "aac", {"movflags": "frag_keyframe+empty_moov"}),
    "a.mov": ("mjpeg", "pcm_s16le", {}),
    "a.mkv": ("libx264", "aac", {}),
    "a.webm": ("libvpx-vp9", "libopus", {}),
    "a.avi": ("mpeg4", "libmp3lame", {}),
    "motion.avi": ("mjpeg", "pcm_s16le", {}),
    "a.flv": ("flv", "libmp3lame", {}),
    "a.wmv": ("wmv2", "wmav2", {}),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_that_was_cut_is_truncated_at_every_depth(tmp_path, name):
    whole = encoded(tmp_path / name, *CONTAINERS[name])
    assert status(whole, "full") == "ok"
    data = whole.read_bytes()
    for percent in (30, 50, 70, 90):
        whole.write_bytes(data[: len(data) * percent // 100])
        for depth in ("quick", "normal"):
            assert status(whole, depth, min_seconds=0.1) == "truncated", (percent, depth)


def test_a_stream_that_says_no_length_ends_where_it_ends(tmp_path):
    path = encoded(tmp_path / "a.ts", "libx264", "aac")
    data = path.read_bytes()
    for percent in range(50, 100, 7):  # most of these are cuts within a frame
        path.write_bytes(data[: len(data) * percent // 100])
        report = probe_file(str(path), HealthSettings(backend="pyav"))
        assert report.status == "ok", (percent, report.error)
        assert report.info.video_stop_seconds < 6.5


def test_the_error_of_a_cut_file_says_where_it_ends(tmp_path):
    path = encoded(tmp_path / "a.mp4", *CONTAINERS["first.mp4"])
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = probe_file(str(path)).error
    assert "a.mp4: " in str(error)
    assert "the file ends here, although its index continues. It was cut off: fetch it again." in str(error)
    assert error.stream in ("video", "audio")
    assert 0.5 < error.second < 5.5


def test_damage_in_the_middle_is_found_by_decoding_everything(tmp_path):
    noise = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    path = tmp_path / "a.mp4"
    write_video(path, noise, 8, tone(8), RATE, keyframe_interval=8)
    data = bytearray(path.read_bytes())
    place = len(data) * 3 // 5
    data[place : place + len(data) // 20] = bytes(len(data) // 20)
    path.write_bytes(data)
    assert status(path) == "ok"  # the ends and the middle are well
    report = probe_file(str(path), HealthSettings("full", "pyav"))
    assert report.status == "unreadable"
    assert 4.0 < report.error.second < 6.0


def test_too_little_memory_is_a_reason(tmp_path, monkeypatch):
    path = video(tmp_path / "a.mp4")

    def bomb(*args, **options):
        raise MemoryError

    monkeypatch.setattr("avssl.data.health.report.measure_ends", bomb)
    report = probe_file(str(path))
    assert report.status == "too_large"
    assert "raise memory_gib" in str(report.error)


def test_reports_pass_through_json(tmp_path):
    good = probe_file(str(video(tmp_path / "a.mp4")))
    bad = probe_file(str(tmp_path / "none.mp4"))
    for report in (good, bad):
        path = str(tmp_path / ("a.mp4" if report is good else "none.mp4"))
        copy = HealthReport.from_dict(json.loads(json.dumps(report.to_dict())), path)
        assert copy.info == report.info
        assert str(copy.error) == str(report.error)


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"depth \('deep'\) must be one of \['quick', 'normal', 'full'\]"):
        HealthSettings("deep")
    with pytest.raises(ValueError, match=r"timeout_seconds \(0\) must be >= 0\.001"):
        HealthSettings(timeout_seconds=0)
    with pytest.raises(ValueError, match=r"min_seconds \(nan\)"):
        HealthSettings(min_seconds=math.nan)
    assert HealthSettings().limit_seconds == 60
    assert HealthSettings("full").limit_seconds == 1800
    assert HealthSettings().limit_of("/none") == 60
    assert HealthSettings("full", timeout_seconds=5).limit_seconds == 5


def changing(path, layouts):
    """A transport stream whose audio changes its channels after each two seconds; its clock runs on."""
    with av.open(str(path), "w", format="mpegts") as container:
        video = container.add_stream("mpeg2video", rate=25)
        video.width = video.height = 48
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("mp2", rate=48_000, layout=layouts[0])
        for part, layout in enumerate(layouts):
            encoder = av.CodecContext.create("mp2", "w")
            encoder.sample_rate, encoder.layout, encoder.format = 48_000, layout, "s16"
            encoder.time_base = Fraction(1, 48_000)
            encoder.open()
            resampler = av.AudioResampler("s16", layout, 48_000, 1152)
            for number, pixels in enumerate(moving(2, fps=25)):
                image = av.VideoFrame.from_ndarray(pixels.permute(1, 2, 0).numpy().copy()).reformat(format="yuv420p")
                image.pts = 50 * part + number
                container.mux(video.encode(image))
                first = 96_000 * part + 1920 * number
                tone = 0.5 * np.sin(np.arange(first, first + 1920) * 0.05, dtype=np.float32)
                frame = av.AudioFrame.from_ndarray(tone[None], "flt", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 48_000, first, Fraction(1, 48_000)
                for packet in (p for piece in resampler.resample(frame) for p in encoder.encode(piece)):
                    packet.stream = audio
                    container.mux(packet)
        container.mux(video.encode(None))
    return path


def test_audio_that_changes_its_format_midway_is_found_by_decoding_everything(tmp_path):
    path = changing(tmp_path / "a.ts", ["stereo", "mono", "stereo"])
    report = probe_file(str(path), HealthSettings("full", "pyav"))
    assert report.status == "unreadable"
    assert "the stream changes from 48000 Hz, 2 channels to 48000 Hz, 1 channels" in str(report.error)
    assert status(changing(tmp_path / "b.ts", ["stereo", "stereo"]), "full") == "ok"


def test_what_is_left_after_a_damaged_end_must_be_long_enough(tmp_path):
    path = video(tmp_path / "a.mp4", seconds=2.0)
    data = path.read_bytes()
    assert status(path, min_seconds=1.9) == "ok"
    with av.open(str(path)) as container:
        last = [packet for packet in container.demux(audio=0) if packet.size][-1]
        place, size = last.pos, last.size
    path.write_bytes(data[:place] + b"\xff" * size + data[place + size :])
    assert status(path, min_seconds=1.9) == "too_short"
    assert status(path, min_seconds=1.0) == "ok"


def test_each_window_is_read_from_a_file_of_its_own(tmp_path):
    path = tmp_path / "a.mp4"
    frames = moving(1)[:1].repeat(40, 1, 1, 1)
    frames[:, :, :6, :6] = torch.arange(0, 200, 5, dtype=torch.uint8)[:, None, None, None]
    write_video(path, frames, 8, tone(5), RATE, keyframe_interval=5)
    info, packets = probe_file(str(path)).info, read_packets(path)
    opened = []

    def open_again():
        opened.append(Recording(path))
        return opened[-1]

    decode_everywhere(open_again, info, packets)
    times = sorted(time for reader in opened for time in reader.times)
    assert {int(time * 8 + 1e-6) for time in times if time < 5} == set(range(40))  # every frame
    keyframes = packets.video.seconds[packets.video.is_key]
    assert 8 <= len(keyframes) < 40
    assert set(keyframes) <= {reader.times[0] for reader in opened if reader.times}
    spans = sorted(span for reader in opened for span in reader.spans)
    assert (spans[0][0], spans[-1][1]) == (info.audio_start_seconds, info.audio_stop_seconds)
    assert all(stop == start for (_, stop), (start, _) in pairwise(spans))


class Recording(PyAVReader):
    """A reader that writes down what it reads."""

    def __init__(self, path):
        super().__init__(path, limits=MediaLimits())
        self.times, self.spans = [], []

    def read_frames(self, at_seconds, short_side=None):
        self.times += at_seconds
        return super().read_frames(at_seconds, short_side)

    def read_audio(self, start_seconds, stop_seconds, *args, **options):
        self.spans.append((start_seconds, stop_seconds))
        return super().read_audio(start_seconds, stop_seconds, *args, **options)


def test_large_files_have_more_time_unless_a_limit_is_given(tmp_path):
    with (tmp_path / "a.mp4").open("wb") as file:
        file.truncate(2**31)  # without blocks on the disk
    assert HealthSettings().limit_of(str(tmp_path / "a.mp4")) == 300
    assert HealthSettings("full").limit_of(str(tmp_path / "a.mp4")) == 5400
    assert HealthSettings(timeout_seconds=5).limit_of(str(tmp_path / "a.mp4")) == 5
