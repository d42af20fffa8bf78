import pytest
import torch

from avssl.core.batch import Heatmap
from avssl.features.localize import localize
from avssl.localization import overlay_video
from avssl.localization.drawing.overlay import color_limits
from avssl.media import MediaError, open_media
from avssl.recipes.app.heatmap_video import NOISE, OWN, SILENCE, AudioChoice, write_heatmap_video


def test_own_audio_gives_the_numbers_of_its_own_map(pretrained, clips, tmp_path):
    steps = []
    analysis = write_heatmap_video(
        pretrained, clips / "a.mp4", OWN, tmp_path / "o.mp4", report=lambda share, step: steps.append((share, step))
    )
    heatmap = localize(clips / "a.mp4", pretrained)
    assert analysis.scale == color_limits(heatmap)
    (own,) = analysis.scores
    assert own.mean_confidence == pytest.approx(heatmap.confidence.mean().item())
    assert own.peak["confidence"] == pytest.approx(heatmap.confidence.max().item(), abs=1e-4)
    assert own.peak["second"] == heatmap.at_seconds[heatmap.confidence.argmax()].item()
    assert len(analysis.peaks) == len(heatmap.values)
    assert analysis.frame_hw == (48, 48)
    assert (analysis.seconds, analysis.total_seconds) == pytest.approx((1.5, 1.5))
    assert steps[-1] == (1.0, "drawing")
    assert (1.0, "localizing its own audio") in steps
    with open_media(tmp_path / "o.mp4") as reader:
        assert reader.info.has_audio
        assert reader.info.video_stop_seconds == pytest.approx(1.5)


def test_silence_is_drawn_on_the_color_scale_of_the_own_audio(pretrained, clips, tmp_path):
    video = clips / "a.mp4"
    analysis = write_heatmap_video(pretrained, video, SILENCE, tmp_path / "silence.mp4")
    own, silence = localize(video, pretrained), localize(video, pretrained, "silence")
    assert [score.name for score in analysis.scores] == ["its own audio", "silence"]
    assert analysis.scale == color_limits(own)
    assert color_limits(own) != color_limits(silence)
    assert analysis.scores[1].mean_confidence == pytest.approx(silence.confidence.mean().item())
    with open_media(video) as reader:
        overlay_video(reader, silence, tmp_path / "expected.mp4", scale=color_limits(own), audio_from="silence")
    assert (tmp_path / "silence.mp4").read_bytes() == (tmp_path / "expected.mp4").read_bytes()


def test_each_audio_of_a_video_has_one_score(pretrained, clips, tmp_path):
    video, other = clips / "a.mp4", AudioChoice("b's sound", clips / "sub" / "b.mp4")
    analysis = None
    for number, sound in enumerate((OWN, NOISE, other, NOISE)):
        analysis = write_heatmap_video(pretrained, video, sound, tmp_path / f"{number}.mp4", previous=analysis)
    assert [score.name for score in analysis.scores] == ["its own audio", "white noise", "b's sound"]
    assert len({score.mean_confidence for score in analysis.scores}) == 3
    expected = localize(video, pretrained, other.source)
    assert analysis.scores[2].mean_confidence == pytest.approx(expected.confidence.mean().item())


def test_a_video_without_audio_needs_that_of_another_file(pretrained, mute, clips, tmp_path):
    with pytest.raises(MediaError, match=r"mute.mp4: audio: there is no audio stream"):
        write_heatmap_video(pretrained, mute, OWN, tmp_path / "o.mp4")
    analysis = write_heatmap_video(pretrained, mute, AudioChoice("a", clips / "a.mp4"), tmp_path / "o.mp4")
    assert [score.name for score in analysis.scores] == ["a"]


def test_only_the_first_seconds_are_processed(pretrained, clips, tmp_path):
    analysis = write_heatmap_video(pretrained, clips / "a.mp4", OWN, tmp_path / "o.mp4", max_seconds=1.0)
    assert (analysis.seconds, analysis.total_seconds) == pytest.approx((1.0, 1.5))
    assert max(peak["second"] for peak in analysis.peaks) < 1
    with open_media(tmp_path / "o.mp4") as reader:
        assert reader.info.video_stop_seconds == pytest.approx(1.0)


def test_a_constant_map_can_be_drawn(pretrained, clips, tmp_path, monkeypatch):
    flat = Heatmap(torch.full((2, 3, 3), 0.25), torch.tensor([0.25, 0.75], dtype=torch.float64), torch.full((2,), 0.25))
    monkeypatch.setattr("avssl.recipes.app.heatmap_video.localize_each", lambda *_, **__: [flat])
    analysis = write_heatmap_video(pretrained, clips / "a.mp4", OWN, tmp_path / "o.mp4")
    assert analysis.scale[0] < analysis.scale[1]
