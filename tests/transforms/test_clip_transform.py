from dataclasses import replace

import pytest
import torch

from avssl.core.affine import RandomAffine
from avssl.core.batch import Batch, BatchIndex
from avssl.core.draws import clip_key
from avssl.core.needs import TemporalWindows
from avssl.transforms import (
    SPECTROGRAMS,
    ClipTransform,
    LogMel,
    LogSpectrogram,
    RandomGain,
    SpectrogramMask,
    Standardize,
    VideoAugment,
    VideoEval,
    create_spectrogram,
    estimate_statistics,
)

NUM_CLIPS = 4


def make_batch(places: list[int] | None = None) -> Batch:
    generator = torch.Generator().manual_seed(11)
    video = torch.randint(0, 256, (NUM_CLIPS, 2, 3, 40, 48), dtype=torch.uint8, generator=generator)
    audio = 0.1 * torch.randn(NUM_CLIPS, 4800, generator=generator)
    valid_hw = torch.tensor([[40, 48], [32, 40], [40, 30], [25, 48]])
    rows = torch.arange(NUM_CLIPS)
    index = BatchIndex(rows, rows, clip_key(0, 0, rows * 1234567))
    keep = torch.tensor(list(range(NUM_CLIPS)) if places is None else places)
    index = BatchIndex(index.row[keep], index.group[keep], index.key[keep])
    return Batch(video[keep], audio[keep], index, valid_hw[keep])


def make_transform(num_views: int = 1, view_warp: RandomAffine | None = None) -> ClipTransform:
    spectrogram = LogSpectrogram(window_length=512)
    standardize = Standardize(spectrogram.num_bins)
    standardize.set_statistics(*estimate_statistics([spectrogram(make_batch().audio)]))
    return ClipTransform(
        VideoAugment(24),
        VideoEval(24),
        spectrogram,
        standardize=standardize,
        gain=RandomGain(),
        mask=SpectrogramMask(6, 20),
        num_views=num_views,
        view_warp=view_warp,
    )


def test_training_gives_one_augmented_view() -> None:
    transform, batch = make_transform(), make_batch()
    output = transform(batch)
    assert output.video.shape == (NUM_CLIPS, 3, 2, 24, 24)
    assert output.audio.shape == (NUM_CLIPS, 1, 20, 129)
    assert output.index is batch.index
    assert output.num_views == 1
    assert not output.is_raw


def test_three_crops_share_one_sound() -> None:
    transform, batch = make_transform().eval(), make_batch()
    center = transform(batch)
    transform.video_eval = VideoEval(24, crop="three")
    output = transform(batch)
    assert (output.num_views, len(output)) == (3, NUM_CLIPS)
    assert torch.equal(output.audio, torch.cat([center.audio] * 3))


def test_views_are_view_major_and_each_drawn_anew() -> None:
    transform, batch = make_transform(num_views=3), make_batch()
    output = transform(batch)
    assert output.num_views == 3
    for view in range(3):
        part = slice(view * NUM_CLIPS, (view + 1) * NUM_CLIPS)
        video = transform.video_augment(batch.video, batch.valid_hw, batch.index.key, view)
        waveform = transform.gain(batch.audio, batch.index.key, view)
        audio = transform.mask(transform.standardize(transform.spectrogram(waveform)), batch.index.key, view)
        assert torch.equal(output.video[part], video)
        assert torch.equal(output.audio[part], audio)
    first, second = output.video[:NUM_CLIPS], output.video[NUM_CLIPS : 2 * NUM_CLIPS]
    assert not torch.allclose(first, second)


def test_a_turned_view_is_the_first_one_turned_with_a_sound_of_its_own() -> None:
    warp, batch = RandomAffine(20, (0.6, 0.9)), make_batch()
    plain, output = make_transform(num_views=2)(batch), make_transform(2, warp)(batch)
    first, second = output.video.split(NUM_CLIPS)
    assert torch.equal(first, plain.video[:NUM_CLIPS])
    assert torch.equal(output.audio, plain.audio)
    affine = warp.draw(batch.index.key)
    assert torch.equal(second, affine.warp(first))
    assert second[..., 0, 0].abs().max() == 0  # the corner of a picture of at most 0.9 of the size


def test_the_first_view_does_not_depend_on_the_number_of_views() -> None:
    one, three = make_transform()(make_batch()), make_transform(num_views=3)(make_batch())
    assert torch.equal(three.video[:NUM_CLIPS], one.video)
    assert torch.equal(three.audio[:NUM_CLIPS], one.audio)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("places", [[2, 0, 3, 1], [1], [3, 1]])
def test_a_clip_does_not_depend_on_its_place_or_companions(places: list[int], training: bool) -> None:
    transform = make_transform().train(training)
    together, apart = transform(make_batch()), transform(make_batch(places))
    torch.testing.assert_close(apart.video, together.video[places], atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.audio, together.audio[places], atol=1e-5, rtol=0)


def test_evaluation_has_no_chance_and_one_view() -> None:
    transform, batch = make_transform(num_views=2).eval(), make_batch()
    output = transform(batch)
    assert output.num_views == 1
    assert torch.equal(output.video, transform.video_eval(batch.video, batch.valid_hw))
    assert torch.equal(output.audio, transform.standardize(transform.spectrogram(batch.audio)))
    assert torch.equal(output.audio, transform.audio_input(batch.audio))


def test_transform_touches_no_generator_and_carries_no_gradient() -> None:
    transform, batch = make_transform(num_views=2), make_batch()
    before = torch.get_rng_state()
    first, second = transform(batch), transform(batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first.video, second.video)
    assert torch.equal(first.audio, second.audio)
    assert not first.video.requires_grad
    assert not first.audio.requires_grad


def test_silent_clips_stay_finite() -> None:
    batch = make_batch()
    silent = Batch(batch.video, torch.zeros_like(batch.audio), batch.index, batch.valid_hw)
    assert torch.isfinite(make_transform()(silent).audio).all()


def test_only_the_statistics_are_saved_with_the_weights() -> None:
    assert set(make_transform().state_dict()) == {"standardize.mean", "standardize.std"}


def test_forgotten_statistics_stop_the_run() -> None:
    spectrogram = LogSpectrogram()
    standardize = Standardize(spectrogram.num_bins)
    transform = ClipTransform(VideoAugment(24), VideoEval(24), spectrogram, standardize=standardize)
    with pytest.raises(RuntimeError, match="never estimated"):
        transform(make_batch())


def test_decibels_are_left_without_standardize() -> None:
    spectrogram = LogMel(num_mels=20, window_length=512)
    transform = ClipTransform(VideoAugment(24), VideoEval(24), spectrogram)
    assert torch.equal(transform(make_batch()).audio, spectrogram(make_batch().audio))


def test_a_warped_view_comes_in_the_format_of_the_first() -> None:
    transform = make_transform(num_views=2, view_warp=RandomAffine()).train()
    plain = transform(make_batch()).video
    transform.video_augment.set_output(torch.bfloat16, torch.channels_last_3d)
    video = transform(make_batch()).video
    assert video.dtype == torch.bfloat16
    assert video.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(video.float(), plain, atol=0.05, rtol=0)


def test_parts_that_do_not_fit_are_refused() -> None:
    parts = (VideoAugment(24), VideoEval(24), LogSpectrogram())
    with pytest.raises(ValueError, match="give standardize too"):
        ClipTransform(*parts, mask=SpectrogramMask(2, 2))
    with pytest.raises(ValueError, match="64 bins and the spectrogram 257"):
        ClipTransform(*parts, standardize=Standardize(64))
    with pytest.raises(ValueError, match=r"num_views \(0\)"):
        ClipTransform(*parts, num_views=0)
    with pytest.raises(ValueError, match="second of two views of the first; num_views is 3"):
        ClipTransform(*parts, num_views=3, view_warp=RandomAffine())


def test_a_transformed_batch_is_refused() -> None:
    transform = make_transform()
    with pytest.raises(ValueError, match="transformed already"):
        transform(transform(make_batch()))


def test_spectrograms_are_created_by_name() -> None:
    assert sorted(SPECTROGRAMS) == [
        "avid",
        "clap_mel",
        "kaldi_fbank",
        "log_mel",
        "seamless_fbank",
        "waveform",
        "whisper_mel",
    ]
    assert isinstance(create_spectrogram("avid", window_length=512), LogSpectrogram)
    assert create_spectrogram("log_mel", num_mels=32).num_bins == 32
    with pytest.raises(ValueError, match=r"'mfcc' is not a known spectrogram. Known: avid, log_mel"):
        create_spectrogram("mfcc")


def test_windows_at_several_times_become_views_and_other_audio():
    one, windows = make_batch(), TemporalWindows(num_views=2, num_negatives=2)
    later = one.video.flip(1)
    sounds = [one.audio, one.audio.flip(1), one.audio * 0.5, one.audio.roll(1, 0), one.audio, one.audio.roll(100, 1)]
    batch = replace(one, video=torch.cat([one.video, later], dim=1), audio=torch.cat(sounds, dim=1))
    transform, single = make_transform(num_views=2), make_transform(num_views=2)
    transform.windows = windows
    views = transform.train()(batch)
    single.train()
    for view, (video, others) in enumerate([(one.video, sounds[:3]), (later, sounds[3:])]):
        rows = slice(view * NUM_CLIPS, (view + 1) * NUM_CLIPS)
        # The same clip, augmented as view number ``view``: own audio and negatives have one gain and one mask.
        for number, sound in enumerate(others):
            expected = single(replace(one, video=video, audio=sound))
            torch.testing.assert_close(views.video[rows], expected.video[rows])
            heard = (
                views.other_audio.unflatten(0, (2 * NUM_CLIPS, 2))[rows, number - 1] if number else views.audio[rows]
            )
            torch.testing.assert_close(heard, expected.audio[rows])
    assert transform.eval()(one).other_audio is None
    with pytest.raises(ValueError, match="do not hold 2 windows of video and 6 of audio"):
        transform.train()(replace(one, audio=one.audio[:, :4799]))
