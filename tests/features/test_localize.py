"""``avssl.localize``: a file and a model in, heat maps out."""

import pytest
import torch

import avssl
from avssl.features.localize import localize_each
from avssl.hub.pretrained import demo_weights, from_pretrained
from avssl.media import write_image, write_video


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


def test_an_image_lasts_as_long_as_the_audio(videos, tmp_path):
    write_image(tmp_path / "still.png", torch.zeros(3, 48, 64, dtype=torch.uint8))
    heatmap = avssl.localize(tmp_path / "still.png", audio=videos / "b.mp4", stride_seconds=0.25, device="cpu")
    assert len(heatmap.values) == 4


def test_a_model_that_sees_a_part_of_the_frame_is_an_error(videos):
    with pytest.raises(ValueError, match=r'must see the whole frame: .*crop="full"'):
        avssl.localize(videos / "a.mp4", from_pretrained(demo_weights(), crop="center"))
