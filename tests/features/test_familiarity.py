"""Tests of the question whether a video is like the training clips."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import permutation_test

from avssl.features.familiarity import check_familiarity, sign_flip_p
from avssl.features.localize import load_localizer, localize
from avssl.hub.pretrained import from_pretrained
from avssl.media import open_media, write_video
from avssl.synthetic import SceneSettings, Split, synthesize_corpus


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    synthesize_corpus(folder, {"test": Split(2, SceneSettings(width=96, height=96))}, 4, 0, progress=False)
    return sorted(folder.glob("test/*.mp4"))


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "noise.mp4"
    draw = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 255, (32, 3, 96, 96), dtype=torch.uint8, generator=draw)
    write_video(path, frames, 8.0, [0.1 * torch.randn(1, 4 * 24000, generator=draw)], 24000)
    return path


def test_shapes_are_familiar_and_noise_is_foreign(shapes, noise, caplog):
    """The packaged weights know no noise; the result of the Python call carries the answer and logs a warning."""
    model = load_localizer(None, "cpu")
    familiar = localize(shapes[0], model, stride_seconds=1.0).familiarity
    assert not familiar.is_foreign, familiar.line
    assert not caplog.records
    foreign = localize(noise, model, stride_seconds=1.0).familiarity
    assert foreign.is_foreign
    assert "WARNING" in caplog.text
    assert familiar.num_windows == foreign.num_windows == 2


def test_of_several_corpora_the_nearest_counts(shapes, noise):
    """Far statistics beside the own ones change nothing, and alone they make the shapes foreign."""
    model = load_localizer(None, "cpu")
    far = [
        replace(world, streams={name: replace(each, mean=each.mean + 100) for name, each in world.streams.items()})
        for world in model.worlds
    ]
    with open_media(shapes[0]) as video:
        own = check_familiarity(video, model)
        assert check_familiarity(video, replace(model, worlds=(*far, *model.worlds))) == own
        assert check_familiarity(video, replace(model, worlds=tuple(far))).is_foreign


def test_a_corpus_of_equal_clips_has_no_distance_and_is_compared(shapes):
    model = load_localizer(None, "cpu")
    zero = torch.zeros((), dtype=torch.float64)
    equal = [
        replace(world, streams={name: replace(each, threshold=zero) for name, each in world.streams.items()})
        for world in model.worlds
    ]
    with open_media(shapes[0]) as video:
        assert check_familiarity(video, replace(model, worlds=(*equal, *model.worlds))) == check_familiarity(
            video, model
        )
        assert check_familiarity(video, replace(model, worlds=tuple(equal))).is_foreign


def test_anothers_audio_is_no_surer(shapes, noise):
    """The frames stay familiar: only the comparison with other clips' audio can tell, or the audio's own statistics."""
    model = load_localizer(None, "cpu")
    with open_media(shapes[0]) as video, open_media(noise) as sound:
        found = check_familiarity(video, model, sound)
    frames, _ = found.domains
    assert not frames.is_foreign
    assert found.is_foreign


def test_the_crop_of_the_model_does_not_matter(shapes):
    with open_media(shapes[1]) as video:
        one = check_familiarity(video, load_localizer(None, "cpu"))
        other = check_familiarity(video, from_pretrained(load_localizer(None, "cpu").source))
    assert one == other


def test_late_audio_is_compared_where_it_belongs(tmp_path, shapes):
    """Audio that a file holds 0.5 s too late is judged as if it were in time."""
    model = load_localizer(None, "cpu")
    with open_media(shapes[0]) as video:
        audio = video.read_audio(0.0, 4.0, 24000)
        frames = video.read_frames(torch.arange(64, dtype=torch.float64) / 16)
    late = tmp_path / "late.mp4"
    write_video(late, frames, 16.0, [torch.cat([torch.zeros(1, 12000), audio[..., :-12000]], dim=1)], 24000)
    with open_media(shapes[0]) as one, open_media(late) as other:
        expected = check_familiarity(one, model).sound.own
        ignored = check_familiarity(other, model).sound.own
        found = check_familiarity(other, model, audio_late_seconds=0.5).sound.own
    assert abs(found - expected) < abs(ignored - expected)


def test_silence_asks_about_the_frames_alone(shapes):
    with open_media(shapes[0]) as video:
        found = check_familiarity(video, load_localizer(None, "cpu"), "silence")
    assert found.sound is None
    assert [each.stream for each in found.domains] == ["frames"]


def test_without_statistics_only_silence_is_compared(shapes, tiny_release):
    with open_media(shapes[0]) as video:
        found = check_familiarity(video, from_pretrained(tiny_release))
    assert found.domains == ()
    assert found.sound.others is None


def test_sign_flips_are_exact():
    """All 2^n sign patterns are counted, as scipy does and as by hand: of three positive numbers one in eight."""
    assert sign_flip_p(np.array([1.0, 2.0, 3.0])) == pytest.approx(1 / 8)
    values = np.random.default_rng(0).normal(0.3, 1, 7)
    signs = np.array(np.meshgrid(*[[-1, 1]] * 7)).reshape(7, -1).T
    by_hand = ((signs * values).mean(axis=1) >= values.mean() - 1e-12).mean()
    assert sign_flip_p(values) == pytest.approx(by_hand)
    reference = permutation_test((values,), np.mean, permutation_type="samples", alternative="greater")
    assert sign_flip_p(values) == pytest.approx(reference.pvalue)


def test_sign_flip_p_is_uniform_without_a_difference():
    draws = np.random.default_rng(1).normal(size=(200, 6))
    found = np.array([sign_flip_p(draw) for draw in draws])
    assert (found <= 0.25).mean() == pytest.approx(0.25, abs=0.09)
    assert (found <= 0.75).mean() == pytest.approx(0.75, abs=0.09)
