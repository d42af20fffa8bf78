import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avssl.core import draws
from avssl.data import ClipSampling, even_windows, sample_windows, spaced_windows
from avssl.data.sampling import missing_seconds

# No deadline: a busy machine is not a fault.
quick = settings(max_examples=40, deadline=None)


def keys(count=64):
    return draws.clip_key(0, 0, torch.arange(count)).tolist()


def starts_of(*arguments):
    """Starts of sound and picture as tensors."""
    return tuple(torch.tensor(starts, dtype=torch.float64) for starts in sample_windows(*arguments))


def even_starts(*arguments):
    return tuple(torch.tensor(starts, dtype=torch.float64) for starts in even_windows(*arguments))


def sampling(**options):
    return ClipSampling(**({"num_frames": 16, "frames_per_second": 8.0, "max_offset_seconds": 0.5} | options))


spans = st.tuples(st.floats(-5, 50), st.floats(6, 40)).map(lambda s: (s[0], s[0] + s[1]))


@quick
@given(
    video=spans,
    shift=st.floats(-1, 1),
    audio_seconds=st.floats(0.2, 4),
    num_frames=st.integers(1, 32),
    offset=st.floats(0, 2),
)
def test_windows_stay_inside_their_streams_and_near_each_other(video, shift, audio_seconds, num_frames, offset):
    shape = sampling(audio_seconds=audio_seconds, num_frames=num_frames, max_offset_seconds=offset)
    audio = (video[0] + shift, video[1] + shift)
    audio_start, video_start = starts_of(keys(), shape, video, audio)
    both = max(video[0], audio[0]), min(video[1], audio[1])
    eps = 1e-9
    assert (audio_start >= both[0] - eps).all()
    assert (audio_start + shape.audio_seconds <= both[1] + eps).all()
    assert (video_start >= video[0] - eps).all()
    assert (video_start + shape.video_seconds <= video[1] + eps).all()
    last = video[1] - shape.video_seconds
    for start, low, high in zip(
        video_start.tolist(), (audio_start - offset).tolist(), (audio_start + offset).tolist(), strict=True
    ):
        high += shape.audio_seconds - shape.video_seconds
        if high < low:  # the picture is the longer one: it holds the whole sound window, in its middle
            low = high = (low + high) / 2
        # As near as the ends of the file allow.
        assert min(max(low, video[0]), last) - eps <= start <= max(min(high, last), video[0]) + eps


@quick
@given(row_start=st.floats(0, 50), length=st.floats(2, 10))
def test_windows_stay_inside_their_row(row_start, length):
    audio_start, video_start = starts_of(keys(), sampling(), (0, 60), (0, 60), (row_start, row_start + length))
    for start in (audio_start, video_start):
        assert (start >= row_start - 1e-9).all()
        assert (start + 2 <= row_start + length + 1e-9).all()


@quick
@given(start=st.floats(-100, 1000), length=st.floats(2.5, 1000))
def test_equal_windows_without_offset_coincide_exactly(start, length):
    audio_start, video_start = starts_of(
        keys(), sampling(max_offset_seconds=0.0), (start, start + length), (start, start + length)
    )
    # Clamping to the span may move the last start by one rounding.
    assert (audio_start - video_start).abs().max() <= 1e-9
    inside = audio_start + 2 < start + length - 1e-6
    assert torch.equal(audio_start[inside], video_start[inside])


def test_windows_fill_their_range_uniformly():
    """AVID's rule: sound uniform on [0, 8]; picture, inside the file, uniform on sound +- 0.5 s."""
    count = 20_000
    audio_start, video_start = starts_of(keys(count), sampling(), (0.0, 10.0), (0.0, 10.0))
    quantiles = torch.tensor([0.1, 0.5, 0.9]).double()
    torch.testing.assert_close(audio_start.quantile(quantiles), quantiles * 8, atol=0.12, rtol=0)
    inner = (audio_start > 0.5) & (audio_start < 7.5)
    offset = (video_start - audio_start)[inner]
    torch.testing.assert_close(offset.quantile(quantiles), quantiles - 0.5, atol=0.02, rtol=0)
    assert abs(torch.corrcoef(torch.stack((offset, audio_start[inner])))[0, 1]) < 0.03


def test_windows_depend_on_each_key_alone():
    both = sample_windows(keys(8), sampling(), (0.0, 10.0), (0.0, 9.0))
    alone = sample_windows(keys(8)[5:6], sampling(), (0.0, 10.0), (0.0, 9.0))
    assert [x[5] for x in both] == [x[0] for x in alone]


def test_windows_of_a_short_row_begin_with_it():
    audio_start, video_start = starts_of(keys(4), sampling(), (3.0, 4.5), (3.1, 4.4))
    assert audio_start.tolist() == [3.1] * 4
    assert video_start.tolist() == [3.0] * 4


def test_even_windows_closed_form():
    audio_start, video_start = even_starts(5, sampling(), (0.0, 10.0), (0.0, 10.0))
    assert audio_start.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert torch.equal(audio_start, video_start)
    assert even_windows(1, sampling(), (0.0, 10.0), (2.0, 12.0)) == ([5.0], [5.0])
    # A one-second picture shares the center of its two-second sound.
    audio_start, video_start = even_starts(3, sampling(num_frames=8), (0.0, 10.0), (0.0, 10.0), (2.0, 8.0))
    assert audio_start.tolist() == [2.0, 4.0, 6.0]
    assert video_start.tolist() == [2.5, 4.5, 6.5]
    with pytest.raises(ValueError, match=r"count \(0\)"):
        even_windows(0, sampling(), (0, 1), (0, 1))


@quick
@given(video=spans, shift=st.floats(-3, 3), count=st.integers(1, 12), num_frames=st.integers(1, 32))
def test_even_windows_stay_inside_and_in_order(video, shift, count, num_frames):
    shape = sampling(num_frames=num_frames)
    audio = (video[0] + shift, video[1] + shift)
    audio_start, video_start = even_starts(count, shape, video, audio)
    for start, span, length in ((audio_start, audio, 2.0), (video_start, video, shape.video_seconds)):
        assert len(start) == count
        assert (start >= span[0] - 1e-9).all()
        assert (start + length <= span[1] + 1e-9).all()
        assert (start.diff() >= -1e-9).all()


def test_missing_seconds_counts_to_the_last_frame_and_allows_a_little_silence():
    def missing(video_length, audio_length):
        return [round(float(x), 6) for x in missing_seconds(sampling(), (1, 1 + video_length), (1, 1 + audio_length))]

    assert missing(2.0, 2.0) == [0, 0]
    assert missing(1.9, 1.96) == [0, 0]  # 16 frames at 8 fps: the last is shown at 1.875 s
    assert missing(1.8, 1.9) == [0.075, 0.1]
    assert missing(0.0, 0.0) == [2.0, 2.0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_frames": 0}, r"num_frames \(0\)"),
        ({"frames_per_second": -1.0}, r"frames_per_second \(-1.0\)"),
        ({"audio_seconds": 0.0}, r"audio_seconds \(0.0\)"),
        ({"max_offset_seconds": -0.1}, r"max_offset_seconds \(-0.1\)"),
        ({"short_side": 0}, r"short_side \(0\)"),
        ({"short_clips": "loop"}, r"short_clips \('loop'\)"),
    ],
)
def test_sampling_rejects_what_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        ClipSampling(**options)


def test_sampling_lengths():
    shape = ClipSampling(num_frames=16, frames_per_second=8.0, audio_seconds=2.0, sample_rate_hz=24_000)
    assert (shape.video_seconds, shape.last_frame_seconds, shape.num_samples) == (2.0, 1.875, 48_000)


@pytest.mark.parametrize(
    ("seconds", "every", "expected"),
    [
        (9.5, 3.0, [0, 3, 6, 7.5]),  # what is left has a window of its own
        (10.0, 2.0, [0, 2, 4, 6, 8]),
        (10.04, 2.0, [0, 2, 4, 6, 8]),  # less than the slack is no moment of its own
        (10.0, 4.0, [0, 4, 8]),
        (2.0, 1.0, [0]),
        (1.98, 1.0, [0]),  # as short as a row may be
    ],
)
def test_spaced_windows_cover_a_file_from_start_to_end(seconds, every, expected):
    audio, video = spaced_windows(every, sampling(), (0.0, seconds), (0.0, seconds))
    assert audio == video
    assert audio == pytest.approx(expected)


@quick
@given(video=spans, shift=st.floats(-1, 1), every=st.floats(0.3, 5), audio_seconds=st.floats(0.5, 3))
def test_spaced_windows_leave_no_gap_and_stay_inside(video, shift, every, audio_seconds):
    shape = sampling(audio_seconds=audio_seconds)
    audio, eps = (video[0] + shift, video[1] + shift), 1e-9
    sounds, pictures = spaced_windows(every, shape, video, audio)
    assert min(sounds) >= audio[0] - eps
    assert max(sounds) + audio_seconds <= audio[1] + eps
    assert min(pictures) >= video[0] - eps
    assert max(pictures) + 2.0 <= video[1] + eps
    starts = [min(pair) for pair in zip(sounds, pictures, strict=True)]
    stops = [max(s + audio_seconds, p + 2.0) for s, p in zip(sounds, pictures, strict=True)]
    assert starts[0] <= max(video[0], audio[0]) + eps
    assert stops[-1] >= min(video[1], audio[1]) - 0.05 - eps
    longest_gap = max(0.0, every - max(2.0, audio_seconds))
    assert all(start <= stop + longest_gap + eps for start, stop in zip(starts[1:], stops, strict=False))


def test_spaced_windows_stay_in_their_row_and_refuse_no_step():
    audio, video = spaced_windows(1.0, sampling(), (0.0, 60.0), (0.0, 60.0), (10.0, 13.5))
    assert audio == video == [10.0, 11.0, 11.5]
    for every in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"every_seconds .* must be greater than 0"):
            spaced_windows(every, sampling(), (0.0, 60.0), (0.0, 60.0))
