import pytest
import torch

from avssl.core.batch import Heatmap
from avssl.localization import localize, overlay_video
from avssl.localization.drawing.overlay import color_limits
from avssl.media import MediaError, open_media
from avssl.recipes.app.looking import NOISE, OWN, SILENCE, ChosenSound, look


def heatmap_of(pretrained, video, **options) -> Heatmap:
    with open_media(video) as reader:
        return localize(reader, pretrained.model, pretrained.transform, pretrained.sampling, **options)


def test_its_own_sound_gives_the_numbers_of_its_own_map(pretrained, clips, tmp_path):
    heard = []
    looked = look(
        pretrained, clips / "a.mp4", OWN, tmp_path / "o.mp4", report=lambda share, doing: heard.append((share, doing))
    )
    heatmap = heatmap_of(pretrained, clips / "a.mp4")
    assert looked.scale == color_limits(heatmap)
    (own,) = looked.heard
    assert own.mean == pytest.approx(heatmap.confidence.mean().item())
    assert own.best["confidence"] == pytest.approx(heatmap.confidence.max().item(), abs=1e-4)
    assert own.best["second"] == heatmap.at_seconds[heatmap.confidence.argmax()].item()
    assert len(looked.peaks) == len(heatmap.values)
    assert looked.frame_hw == (48, 48)
    assert (looked.seconds, looked.left_out_seconds) == pytest.approx((1.5, 0))
    assert heard[-1] == (1.0, "drawing")
    assert (1.0, "looking for its own sound") in heard
    with open_media(tmp_path / "o.mp4") as reader:
        assert reader.info.has_audio
        assert reader.info.video_stop_seconds == pytest.approx(1.5)


def test_silence_is_drawn_on_the_scale_of_the_videos_own_sound(pretrained, clips, tmp_path):
    video = clips / "a.mp4"
    looked = look(pretrained, video, SILENCE, tmp_path / "silence.mp4")
    own, silence = heatmap_of(pretrained, video), heatmap_of(pretrained, video, audio_from="silence")
    assert [heard.sound for heard in looked.heard] == ["its own sound", "silence"]
    assert looked.scale == color_limits(own)
    assert color_limits(own) != color_limits(silence)
    assert looked.heard[1].mean == pytest.approx(silence.confidence.mean().item())
    with open_media(video) as reader:
        overlay_video(reader, silence, tmp_path / "expected.mp4", scale=color_limits(own), audio_from="silence")
    assert (tmp_path / "silence.mp4").read_bytes() == (tmp_path / "expected.mp4").read_bytes()


def test_sounds_of_a_video_add_up_and_each_is_held_once(pretrained, clips, tmp_path):
    video, other = clips / "a.mp4", ChosenSound("b's sound", clips / "sub" / "b.mp4")
    looked = None
    for number, sound in enumerate((OWN, NOISE, other, NOISE)):
        looked = look(pretrained, video, sound, tmp_path / f"{number}.mp4", before=looked)
    assert [heard.sound for heard in looked.heard] == ["its own sound", "white noise", "b's sound"]
    assert len({heard.mean for heard in looked.heard}) == 3
    with open_media(other.source) as reader:
        expected = heatmap_of(pretrained, video, audio_from=reader)
    assert looked.heard[2].mean == pytest.approx(expected.confidence.mean().item())


def test_a_video_without_sound_can_be_looked_at_with_another(pretrained, mute, clips, tmp_path):
    with pytest.raises(MediaError, match=r"mute.mp4: audio: there is no sound track"):
        look(pretrained, mute, OWN, tmp_path / "o.mp4")
    looked = look(pretrained, mute, ChosenSound("a", clips / "a.mp4"), tmp_path / "o.mp4")
    assert [heard.sound for heard in looked.heard] == ["a"]


def test_only_the_first_seconds_are_looked_at(pretrained, clips, tmp_path):
    looked = look(pretrained, clips / "a.mp4", OWN, tmp_path / "o.mp4", seconds=1.0)
    assert (looked.seconds, looked.left_out_seconds) == pytest.approx((1.0, 0.5))
    assert max(peak["second"] for peak in looked.peaks) < 1
    with open_media(tmp_path / "o.mp4") as reader:
        assert reader.info.video_stop_seconds == pytest.approx(1.0)


def test_a_map_that_is_flat_everywhere_can_be_drawn(pretrained, clips, tmp_path, monkeypatch):
    flat = Heatmap(torch.full((2, 3, 3), 0.25), torch.tensor([0.25, 0.75], dtype=torch.float64), torch.full((2,), 0.25))
    monkeypatch.setattr("avssl.recipes.app.looking.localize", lambda *_, **__: flat)
    looked = look(pretrained, clips / "a.mp4", OWN, tmp_path / "o.mp4")
    assert looked.scale[0] < looked.scale[1]
