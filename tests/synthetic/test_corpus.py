import numpy as np
import pytest
import torch

from avssl.core.errors import InputError
from avssl.core.manifest import read_manifest
from avssl.media import open_media
from avssl.synthetic import (
    SceneSettings,
    Split,
    draw_scene,
    read_truth,
    render_audio,
    render_frames,
    synthesize_corpus,
)

SHORT = SceneSettings(duration_seconds=1.0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    splits = {
        "train": Split(5, SHORT),
        "pairs": Split(2, SceneSettings(object_weights=(0, 1), interactive_pairs=True, duration_seconds=1.0)),
    }
    return synthesize_corpus(folder, splits, seed=1, num_workers=0, progress=False)


def test_manifest_describes_the_files(corpus):
    again = read_manifest(corpus.root / "manifest.csv")
    assert len(again) == 7
    assert again["id"].tolist() == corpus["id"].tolist()
    assert again.value(5, "pair") == again.value(6, "pair") == "pairs/000000"
    for row in range(len(again)):
        truth = read_truth(again.truth_file(row))
        assert again.value(row, "label") == truth.kinds[int(np.flatnonzero(truth.sounding)[0])]
        with open_media(again.file(row), backend="pyav") as reader:
            assert (reader.info.width, reader.info.height) == (128, 128)
            assert reader.info.video_fps == pytest.approx(16.0)
            assert reader.info.audio_sample_rate_hz == 24000


def test_decoded_sound_is_in_step_to_the_sample(corpus):
    for row in range(3):
        wave = render_audio(draw_scene(SHORT, 1, "train", row))
        with open_media(corpus.file(row), backend="pyav") as reader:
            decoded = reader.read_audio(0.0, 1.0)[0].numpy()
        size = 2 * len(wave)
        correlation = np.fft.irfft(np.fft.rfft(decoded, size) * np.conj(np.fft.rfft(wave, size)), size)
        lag = int(np.argmax(correlation))
        assert min(lag, size - lag) <= 1


def test_decoded_frames_are_those_rendered(corpus):
    frames, _ = render_frames(draw_scene(SHORT, 1, "train", 0))
    with open_media(corpus.file(0), backend="pyav") as reader:
        decoded = reader.read_frames([k / 16 for k in range(16)])
    error = (decoded.permute(0, 2, 3, 1).float() - torch.from_numpy(frames).float()).abs().mean(dim=(1, 2, 3))
    assert error.max() < 6
    shifted = (decoded[1:].permute(0, 2, 3, 1).float() - torch.from_numpy(frames[:-1]).float()).abs().mean()
    assert shifted > error.mean(), "each frame is nearest to itself"


def test_truth_round_trip(corpus):
    scene = draw_scene(SHORT, 1, "train", 2)
    _, masks = render_frames(scene)
    truth = read_truth(corpus.truth_file(2))
    np.testing.assert_array_equal(truth.masks, masks)
    assert truth.kinds == [o.kind for o in scene.objects]
    assert np.flatnonzero(truth.sounding).tolist() == list(scene.sounding)
    assert (np.diff(truth.event_seconds) >= 0).all()
    for i, item in enumerate(scene.objects):
        np.testing.assert_allclose(truth.event_seconds[truth.event_object == i], item.motion.events(1.0)[0])
    np.testing.assert_array_equal(truth.sounding_mask(0.5), masks[8, scene.sounding[0]])


@pytest.mark.parametrize(
    "change",
    [
        {"width": 10**12},
        {"width": 1},
        {"masks": np.zeros((5, 2, 8), np.uint8)},
        {"masks": np.zeros((0, 2, 8, 8), np.uint8)},
        {"boxes": np.zeros((1, 1, 4), np.int16)},
        {"kinds": np.asarray("bell")},
        {"nuisance": np.asarray(["none"])},
        {"event_object": np.asarray([99])},
        {"event_seconds": np.asarray([np.nan])},
        {"video_fps": 0.0},
        {"more": 1},
    ],
    ids=str,
)
def test_a_truth_whose_parts_do_not_fit_is_refused(corpus, tmp_path, change):
    with np.load(corpus.truth_file(2)) as file:
        arrays = dict(file) | change
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=r"x\.npz: not a truth file"):
        read_truth(tmp_path / "x.npz")


def test_workers_do_not_change_the_corpus(corpus, tmp_path):
    other = synthesize_corpus(tmp_path, {"train": Split(5, SHORT)}, seed=1, num_workers=2, progress=False)
    assert other["id"].tolist() == corpus["id"].tolist()[:5]
    for row in range(5):
        assert other.file(row).read_bytes() == corpus.file(row).read_bytes()
        np.testing.assert_array_equal(read_truth(other.truth_file(row)).masks, read_truth(corpus.truth_file(row)).masks)


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match="cannot be a folder"):
        synthesize_corpus(tmp_path, {"a/b": Split(1)}, progress=False)
    with pytest.raises(ValueError, match="must be even"):
        Split(3, SceneSettings(object_weights=(0, 1), interactive_pairs=True))
    (tmp_path / "x.npz").write_text("no")
    with pytest.raises(ValueError, match="not a truth file"):
        read_truth(tmp_path / "x.npz")
