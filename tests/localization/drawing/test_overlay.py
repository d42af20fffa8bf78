import math
import weakref
from dataclasses import replace
from itertools import pairwise

import av
import pytest
import torch

from avssl.core.batch import Heatmap
from avssl.core.familiarity import DomainScore, Familiarity
from avssl.localization import Look, overlay_picture, overlay_video
from avssl.localization.drawing.panel import HEAD_COLORS
from avssl.localization.drawing.scale import color_limits, heat_at
from avssl.localization.drawing.strip import Curve, Strip, sound_envelope
from avssl.media import MediaError, open_media, read_image, write_video
from avssl.reports.figures import color_table

FPS, RATE, SECONDS = 8, 24_000, 2
PLAIN = Look(opacity=1.0, strip=False)


def heatmap(values, at_seconds):
    values = torch.as_tensor(values, dtype=torch.float32)
    return Heatmap(values, torch.tensor(at_seconds, dtype=torch.float64), values.amax(dim=(1, 2)))


def moving_heat():
    """Strong at the top left in the first second, weaker at the bottom right in the second."""
    values = torch.zeros(4, 3, 4)
    values[:2, 0, 0] = 0.9
    values[2:, 2, 3] = 0.3
    return heatmap(values, [0.25, 0.75, 1.25, 1.75])


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A gray 64 x 48 clip with a tone that is silent between 0.5 and 1.5 s."""
    path = tmp_path_factory.mktemp("clip") / "in.mp4"
    seconds = torch.arange(SECONDS * RATE) / RATE
    tone = 0.5 * torch.sin(2 * math.pi * 440 * seconds) * ((seconds < 0.5) | (seconds >= 1.5))
    write_video(path, torch.full((SECONDS * FPS, 3, 48, 64), 100, dtype=torch.uint8), FPS, tone[None], RATE)
    return path


def drawn(clip, tmp_path, heat=None, **options):
    out = tmp_path / "out.mp4"
    with open_media(clip) as reader:
        overlay_video(reader, moving_heat() if heat is None else heat, out, **options)
    return out


def frame_at(path, second):
    with open_media(path) as reader:
        return reader.read_frames([second])[0].float()


def test_overlay_has_every_frame_the_same_rate_and_the_same_sound(clip, tmp_path):
    out = drawn(clip, tmp_path)
    with open_media(clip) as source, open_media(out) as result:
        info = result.info
        assert info.video_fps == FPS
        assert info.video_stop_seconds - info.video_start_seconds == pytest.approx(SECONDS, abs=1e-3)
        assert (info.width, info.height) == (512, 384 + 120)  # 8 times 64 x 48, and the strip
        assert info.audio_sample_rate_hz == RATE
        before, after = (r.read_audio(0, SECONDS, RATE)[0] for r in (source, result))
        # One more pass through AAC; an offset of one sample would be an error of 11 % of the level.
        assert (before - after).square().mean().sqrt() < 0.03 * before.square().mean().sqrt()


def test_overlay_lights_the_right_place_at_the_right_time(clip, tmp_path):
    out = drawn(clip, tmp_path, look=PLAIN)
    hot = color_table("inferno")[255]
    early, late = frame_at(out, 0.3), frame_at(out, 1.7)
    assert early.shape == (3, 384, 512)
    assert torch.allclose(early[:, 20, 20], hot, atol=12)
    assert torch.allclose(early[:, 360, 490], torch.full((3,), 90.0), atol=6)
    assert torch.allclose(late[:, 20, 20], torch.full((3,), 90.0), atol=6)
    # One color scale for the whole video: a third of the cosine must not be stretched to full color.
    change = [(color - 90).norm().item() for color in (early[:, 20, 20], late[:, 360, 490])]
    assert 0.1 * change[0] < change[1] < 0.3 * change[0]


def test_absolute_scale_is_of_cosines(clip, tmp_path):
    early = frame_at(drawn(clip, tmp_path, look=PLAIN, scale=(0.0, 1.8)), 0.3)
    half = 0.5 * 90 + 0.5 * color_table("inferno")[128]
    assert torch.allclose(early[:, 64, 64], half, atol=14)


def test_color_limits():
    heat = moving_heat()
    assert color_limits(heat) == (0.0, pytest.approx(0.9))
    assert color_limits(heat, scale="absolute") == (0, 1)
    assert color_limits(heat, scale=(0.1, 0.4)) == (0.1, 0.4)
    hotter = heatmap(heat.values + 1, heat.at_seconds.tolist())
    assert color_limits(heat, hotter) == (pytest.approx(0.9), pytest.approx(1.9))  # of 48 cells, 46 are 0 and 46 are 1
    for wrong in ("frame", (0.4, 0.1)):
        with pytest.raises(ValueError, match="two ascending cosines"):
            color_limits(heat, scale=wrong)
    with pytest.raises(ValueError, match="there is no heat map"):
        color_limits()


def test_heat_is_interpolated_in_time():
    values = torch.tensor([0.0, 1.0, 3.0])[:, None, None].expand(3, 2, 2)
    heat = heatmap(values, [1.0, 2.0, 4.0])
    times = torch.tensor([0.0, 1.0, 1.25, 2.0, 3.0, 4.0, 9.0], dtype=torch.float64)
    assert heat_at(heat, times)[:, 1, 1].tolist() == pytest.approx([0, 0, 0.25, 1, 2, 3, 3])
    assert heat_at(heatmap(values[:1], [1.0]), times).eq(0).all()


def strip_of(heat, sound, span):
    curve = Curve("", "#ffb45c", heat.at_seconds, heat.confidence)
    return Strip(
        480, [curve], sound_envelope([sound[None]], len(sound), 300), span, (0.0, 0.9), [color_table("inferno")]
    )


def test_envelope_is_the_lowest_and_highest_sample_of_each_part():
    sound = torch.tensor([[0.1, 0.3, -0.2, 0.4, 0.0, 0.5], [0.1, 0.1, -0.2, 0.4, 0.2, -0.5]])
    expected = torch.tensor([[0.1, -0.2, 0.0], [0.2, 0.4, 0.1]])
    for parts in ([sound], [sound[:, :1], sound[:, 1:5], sound[:, 5:]]):
        torch.testing.assert_close(sound_envelope(parts, 6, 3), expected)
    assert sound_envelope([sound[:, :1]], 6, 3).isnan().tolist() == [[False, True, True]] * 2


def test_cursor_moves_with_time():
    strip = strip_of(moving_heat(), torch.sin(torch.arange(4000.0)), (1.0, 3.0))
    assert strip.height % 2 == 0
    blank, images = strip.at(3.0).luma, [strip.at(second).luma for second in (1.0, 1.5, 2.0)]
    columns = [(image != blank).any(dim=0).nonzero()[0].item() for image in images]
    assert all(image.shape == (strip.height, 480) for image in images)
    steps = [b - a for a, b in pairwise(columns)]
    assert steps == pytest.approx([0.25 * 0.79 * 480] * 2, abs=2)
    assert all((image[40:60, column : column + 2] == 235).all() for image, column in zip(images, columns, strict=True))


def test_strip_shows_confidence_and_sound():
    heat = moving_heat()
    silence, tone = torch.zeros(4000), 0.5 * torch.sin(torch.arange(4000.0))
    quiet = strip_of(heatmap(0 * heat.values, heat.at_seconds.tolist()), silence, (0.0, 2.0))
    sure, loud = strip_of(heat, silence, (0.0, 2.0)), strip_of(heat, tone, (0.0, 2.0))
    changed = [(a.at(0).luma != b.at(0).luma).sum().item() for a, b in ((quiet, sure), (sure, loud))]
    assert min(changed) > 1000


def test_a_video_keeps_its_size(tmp_path):
    path = tmp_path / "wide.mp4"
    write_video(path, torch.zeros(4, 3, 600, 1066, dtype=torch.uint8), 4, torch.zeros(1, RATE), RATE)
    with open_media(path) as reader:
        overlay_video(reader, moving_heat(), tmp_path / "out.mp4", look=PLAIN)
    with open_media(tmp_path / "out.mp4") as result:
        assert (result.info.height, result.info.width) == (600, 1066)


def test_odd_sizes_get_even(tmp_path):
    """H.264 in 4:2:0 wants even sizes; a video can be odd."""
    path = tmp_path / "odd.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 401, 367, "yuv444p"
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(
                torch.full((367, 401, 3), 200, dtype=torch.uint8).numpy(), format="rgb24"
            )
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_media(path) as reader:
        assert (reader.info.height, reader.info.width) == (367, 401)
        overlay_video(
            reader, moving_heat(), tmp_path / "out.mp4", look=Look(opacity=0, strip=False), audio_from="silence"
        )
    picture = frame_at(tmp_path / "out.mp4", 0.5)
    assert picture.shape == (3, 368, 402)
    assert (picture - 180).abs().max() <= 4  # the last row and column too


def test_few_frames_are_held_however_long_the_video(tmp_path, monkeypatch):
    """4 are decoded ahead; a copy or two more are on their way."""
    path, frames = tmp_path / "long.mp4", 160
    write_video(path, torch.zeros(frames, 3, 48, 64, dtype=torch.uint8), 16, torch.zeros(1, 10 * RATE), RATE)
    alive, most, seen = weakref.WeakSet(), 0, 0
    with open_media(path) as reader:
        original = reader.stream_planes

        def stream(*arguments):
            nonlocal most, seen
            for planes in original(*arguments):
                alive.add(planes.luma)
                seen, most = seen + 1, max(most, len(alive))
                yield planes

        monkeypatch.setattr(reader, "stream_planes", stream)
        overlay_video(reader, moving_heat(), tmp_path / "out.mp4")
    assert seen == frames + 1  # one more to learn the size
    assert most <= 8


def test_sound_passes_through_a_second_at_a_time(tmp_path, monkeypatch):
    path, longest = tmp_path / "long.mp4", 0.0
    noise = 0.1 * torch.randn(1, 10 * RATE, generator=torch.Generator().manual_seed(0))
    write_video(path, torch.zeros(10, 3, 48, 64, dtype=torch.uint8), 1, noise, RATE)
    with open_media(path) as reader:
        original = reader.read_audio

        def read(start, stop, *rest):
            nonlocal longest
            longest = max(longest, stop - start)
            return original(start, stop, *rest)

        monkeypatch.setattr(reader, "read_audio", read)
        overlay_video(reader, moving_heat(), tmp_path / "out.mp4")
    assert longest <= 1.001
    with open_media(tmp_path / "out.mp4") as result, open_media(path) as source:
        before, after = (r.read_audio(0, 10, RATE)[0] for r in (source, result))
        assert torch.corrcoef(torch.stack([before, after]))[0, 1] > 0.95  # no seam slips by a sample


def test_overlay_can_carry_the_sound_that_was_looked_for(clip, tmp_path):
    silent = drawn(clip, tmp_path, audio_from="silence", look=PLAIN)
    with open_media(silent) as result:
        assert result.read_audio(0, SECONDS, RATE).abs().max() < 1e-3
    other = tmp_path / "other.mp4"
    write_video(other, torch.zeros(8, 3, 16, 16, dtype=torch.uint8), FPS, 0.3 * torch.ones(1, RATE), RATE)
    with open_media(clip) as reader, open_media(other) as sound:
        overlay_video(reader, moving_heat(), tmp_path / "swapped.mp4", audio_from=sound, look=PLAIN)
    with open_media(tmp_path / "swapped.mp4") as result:
        audio = result.read_audio(0, SECONDS, RATE)[0]
        assert audio[RATE // 10].item() > 0.1  # it starts with the video
        assert audio[int(1.1 * RATE) :].abs().max() < 0.02  # and ends after its one second


def test_overlay_stops_early(clip, tmp_path):
    with open_media(drawn(clip, tmp_path, stop_after_seconds=1.0)) as result:
        assert result.info.video_stop_seconds == pytest.approx(1.0, abs=1e-3)


def test_overlay_refuses(clip, tmp_path):
    with pytest.raises(ValueError, match="stop_after_seconds"):
        drawn(clip, tmp_path, stop_after_seconds=0)
    with pytest.raises(ValueError, match="no heat map, or it is empty"):
        drawn(
            clip,
            tmp_path,
            heatmap(torch.zeros(1, 2, 2), [0.0]).__class__(torch.zeros(0, 2, 2), torch.zeros(0), torch.zeros(0)),
        )
    mute = tmp_path / "mute.mp4"
    write_video(mute, torch.zeros(4, 3, 48, 64, dtype=torch.uint8), 4)
    with pytest.raises(MediaError, match="no audio stream"):
        drawn(mute, tmp_path)
    assert not (tmp_path / "out.mp4").exists()


def test_every_frame_is_drawn_at_its_own_time(tmp_path):
    path = tmp_path / "numbered.mp4"
    video = torch.arange(30, 110, 5, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 48, 64)
    write_video(path, video, FPS, torch.zeros(1, 2 * RATE), RATE)
    with open_media(drawn(path, tmp_path, look=Look(opacity=0, strip=False))) as result:
        frames = result.read_frames([(number + 0.5) / FPS for number in range(16)])
    torch.testing.assert_close(frames.float().mean(dim=(1, 2, 3)), 0.9 * torch.arange(30.0, 110, 5), atol=1.5, rtol=0)


def test_maps_beside_each_other_share_a_scale_and_have_titles(clip, tmp_path):
    weak = heatmap(moving_heat().values / 3, [0.25, 0.75, 1.25, 1.75])
    picture = frame_at(drawn(clip, tmp_path, {"own sound": moving_heat(), "silence": weak}, look=PLAIN), 0.3)
    top = picture.shape[1] - 384
    assert picture.shape[2] == 2 * 512
    assert top > 0
    assert all((picture[:, :top, left : left + 512] > 200).any() for left in (0, 512))  # letters
    assert torch.allclose(picture[:, top + 20, 20], color_table("inferno")[255], atol=12)
    change = [(picture[:, top + 20, left + 20] - 90).norm().item() for left in (0, 512)]
    assert 0.1 * change[0] < change[1] < 0.4 * change[0]


def test_wide_videos_beside_each_other_are_made_smaller(tmp_path, monkeypatch):
    monkeypatch.setattr("avssl.localization.drawing.overlay.WIDEST", 1000)
    path = tmp_path / "wide.mp4"
    write_video(path, torch.full((4, 3, 400, 800), 100, dtype=torch.uint8), 4, torch.zeros(1, RATE), RATE)
    both = {"a": moving_heat(), "b": moving_heat()}
    with open_media(drawn(path, tmp_path, both, look=PLAIN)) as result:
        assert result.info.width == 1000
    with open_media(drawn(path, tmp_path, look=PLAIN)) as result:  # one alone keeps its size
        assert (result.info.height, result.info.width) == (400, 800)


def test_boxes_are_drawn_around_what_is_hot(clip, tmp_path):
    look = Look(opacity=0, strip=False, boxes=0.5)
    frame = frame_at(drawn(clip, tmp_path, look=look), 0.3)
    white = (frame > 200).all(dim=0).nonzero()
    # A cell of 128 x 128 pixels at the top left; bicubic interpolation falls to a half at its edge.
    assert white[:, 0].max().item() == pytest.approx(128, abs=20)
    assert white[:, 1].max().item() == pytest.approx(128, abs=20)
    assert (white.min(dim=0).values <= 2).all()
    # The weaker spot of the second half is below half of the scale.
    assert not (frame_at(tmp_path / "out.mp4", 1.7) > 200).any()


def test_heads_have_colors_of_their_own(clip, tmp_path):
    whole = moving_heat()
    heads = torch.zeros(4, 2, 3, 4)
    heads[:, 0, 0, 0], heads[:, 1, 2, 3] = 0.9, 0.9
    both = Heatmap(whole.values, whole.at_seconds, whole.confidence, heads)
    frame = frame_at(drawn(clip, tmp_path, both, look=Look(opacity=1.0, strip=False, heads=True)), 0.5)
    for place, color in (((20, 20), HEAD_COLORS[0]), ((360, 490), HEAD_COLORS[1])):
        expected = torch.tensor([int(color[i : i + 2], 16) for i in (1, 3, 5)]).float()
        assert torch.allclose(frame[:, place[0], place[1]], expected, atol=14)
    assert torch.allclose(frame[:, 20, 490], torch.full((3,), 90.0), atol=6)
    with pytest.raises(ValueError, match="the model has one head"):
        drawn(clip, tmp_path, look=Look(heads=True))


def test_a_picture_is_the_frame_of_the_surest_moment(clip, tmp_path):
    values = torch.zeros(4, 3, 4)
    values[2, 0, 0], values[0, 2, 3] = 0.9, 0.5
    heat = heatmap(values, [0.25, 0.75, 1.25, 1.75])
    video = frame_at(drawn(clip, tmp_path, heat), 1.3)
    with open_media(clip) as reader:
        overlay_picture(reader, heat, tmp_path / "out.png")
        overlay_picture(reader, heat, tmp_path / "early.png", at_seconds=0.25, look=PLAIN)
    picture = read_image(tmp_path / "out.png").float()
    assert picture.shape == video.shape
    assert torch.allclose(picture[:, 20, 20], video[:, 20, 20], atol=30)
    assert picture[:, 20, 20].sum() > 300
    assert picture[:, 360, 490].sum() == pytest.approx(270, abs=20)
    early = read_image(tmp_path / "early.png").float()
    assert early.shape == (3, 384, 512)
    assert (early[:, 360, 490] - 90).norm() > (early[:, 20, 20] - 90).norm() + 50
    assert sorted(path.name for path in tmp_path.iterdir()) == ["early.png", "out.mp4", "out.png"]


def test_a_foreign_video_has_a_stamp_above_its_map(clip, tmp_path):
    """The stamp adds a line above the frame and changes nothing below it."""
    foreign = Familiarity(3, (DomainScore("frames", 9.0, 1.0, 0.005, 256),))
    pictures = []
    for familiarity in (None, foreign):
        with open_media(clip) as reader:
            heat = replace(moving_heat(), familiarity=familiarity)
            overlay_picture(reader, heat, tmp_path / "out.png", at_seconds=0.25, look=PLAIN)
        pictures.append(read_image(tmp_path / "out.png"))
    plain, stamped = pictures
    added = stamped.shape[1] - plain.shape[1]
    assert added > 20
    assert (stamped[:, added:].int() - plain.int()).abs().float().mean() < 1
    assert stamped[0, :added].float().mean() > 2 * stamped[2, :added].float().mean()  # amber
