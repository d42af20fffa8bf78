"""``avssl.localize``: a file and a model in, heat maps out."""

import json

import pytest
import torch

import avssl
from avssl.cli import main
from avssl.engine import Precision
from avssl.features.localize import localize_each
from avssl.hub.pretrained import demo_weights, from_pretrained
from avssl.media import write_image, write_video
from avssl.models import TextEncoder


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of a second with noise for sound."""
    folder, generator = tmp_path_factory.mktemp("videos"), torch.Generator().manual_seed(0)
    for name in "ab":
        frames = torch.randint(0, 256, (8, 3, 48, 64), generator=generator, dtype=torch.uint8)
        write_video(folder / f"{name}.mp4", frames, 8.0, 0.3 * torch.randn(1, 24_000, generator=generator), 24_000)
    return folder


def test_a_file_and_a_model_give_a_heat_map(videos):
    heatmap = avssl.localize(videos / "a.mp4", stride_seconds=0.5, device="cpu")
    assert heatmap.values.shape == (2, 16, 16)
    assert heatmap.at_seconds.tolist() == [0.25, 0.75]
    pretrained = from_pretrained(demo_weights(), crop="full")
    for model in (demo_weights(), pretrained):
        again = avssl.localize(str(videos / "a.mp4"), model, stride_seconds=0.5, device="cpu")
        assert torch.equal(again.values, heatmap.values)


def test_each_audio_has_its_own_map_and_frames_are_encoded_once(videos, monkeypatch):
    pretrained = from_pretrained(demo_weights(), crop="full")
    calls, transform = [], pretrained.transform.video_input
    monkeypatch.setattr(pretrained.transform, "video_input", lambda *args: calls.append(1) or transform(*args))
    audios = [None, videos / "b.mp4", "silence", "noise"]
    maps = localize_each(videos / "a.mp4", pretrained, audios, stride_seconds=0.5)
    assert len(calls) == 1
    alone = [avssl.localize(videos / "a.mp4", pretrained, audio, stride_seconds=0.5) for audio in audios]
    assert all(torch.equal(one.values, other.values) for one, other in zip(maps, alone, strict=True))
    assert len({tuple(heatmap.values.flatten().tolist()) for heatmap in maps}) == 4


class _Known(torch.nn.Module):
    """A text tower that knows one vector."""

    def __init__(self, vector):
        super().__init__()
        self.vector = torch.nn.Parameter(vector)

    def forward(self, count):
        return self.vector.expand(len(count), -1)


def with_words_for_silence():
    """A model to which any words mean what silence does."""
    pretrained = from_pretrained(demo_weights(), crop="full")
    encoder = pretrained.encoder(Precision())
    vector = encoder.encode("audio", encoder.audio_input(torch.zeros(1, pretrained.sampling.num_samples))).embedding[0]
    heads = {"video": torch.nn.Identity(), "audio": torch.nn.Identity()}
    tower = _Known(vector)
    pretrained.load_text = lambda: TextEncoder(lambda texts: {"count": torch.ones(len(texts))}, tower, heads)
    return pretrained


def test_words_take_the_place_of_audio(videos, tmp_path):
    pretrained = with_words_for_silence()
    asked = {"stride_seconds": 0.5}
    said = avssl.localize(videos / "a.mp4", pretrained, text="nothing at all", **asked)
    silent = avssl.localize(videos / "a.mp4", pretrained, "silence", **asked)
    torch.testing.assert_close(said.values, silent.values, atol=1e-5, rtol=0)
    assert said.familiarity.sound is None  # words are not compared with silence
    write_image(tmp_path / "still.png", torch.zeros(3, 48, 64, dtype=torch.uint8))
    assert len(avssl.localize(tmp_path / "still.png", pretrained, text="a wall", **asked).values) > 0
    with pytest.raises(ValueError, match="audio and text are both given"):
        avssl.localize(videos / "a.mp4", pretrained, "silence", text="a dog")
    with pytest.raises(ValueError, match="has no text tower"):
        avssl.localize(videos / "a.mp4", text="a dog", device="cpu")


def test_words_on_the_command_line(videos, tmp_path, monkeypatch, capsys):
    """A video without audio has a map of words, beside silence if that is requested; its output is silent."""
    monkeypatch.setattr("avssl.recipes.localize.load_localizer", lambda *_: with_words_for_silence())
    write_video(tmp_path / "mute.mp4", torch.full((8, 3, 48, 64), 99, dtype=torch.uint8), 8.0)
    for video in (videos / "a.mp4", tmp_path / "mute.mp4"):
        out, numbers = tmp_path / f"{video.stem}_map.mp4", tmp_path / f"{video.stem}.json"
        words = ["localize", str(video), "--text", "the violin", "--side-by-side", "--stride-seconds", "0.5"]
        assert main([*words, "-o", str(out), "--readout", str(numbers)]) == 0
        assert out.stat().st_size > 1000
        titles = [each["sound"] for each in json.loads(numbers.read_text())["maps"]]
        assert '"the violin"' in titles
        assert len(titles) == 2
    assert main(["localize", str(videos / "a.mp4"), "--text", "the violin", "--noise"]) == 2
    assert "--audio, --text, --silence and --noise exclude each other" in capsys.readouterr().err


def test_an_image_lasts_as_long_as_the_audio(videos, tmp_path):
    write_image(tmp_path / "still.png", torch.zeros(3, 48, 64, dtype=torch.uint8))
    heatmap = avssl.localize(tmp_path / "still.png", audio=videos / "b.mp4", stride_seconds=0.25, device="cpu")
    assert len(heatmap.values) == 4


def test_a_model_that_sees_a_part_of_the_frame_is_an_error(videos):
    with pytest.raises(ValueError, match=r'must see the whole frame: .*crop="full"'):
        avssl.localize(videos / "a.mp4", from_pretrained(demo_weights(), crop="center"))
