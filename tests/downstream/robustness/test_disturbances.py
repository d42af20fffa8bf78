import numpy as np
import pytest
import torch

from avssl.core.manifest import Manifest
from avssl.data import ClipDataset, ClipSampling, EvalLoader
from avssl.downstream.robustness import encode_disturbed, find_cutouts
from avssl.downstream.robustness.disturbances import CLEAN, DISTURBANCES
from avssl.transforms.disturbances import add_noise, to_rgb

SAMPLING = ClipSampling(num_frames=3, frames_per_second=4.0, audio_seconds=0.5, sample_rate_hz=8000)
ENCODE = {
    "video": lambda batch: batch.video.flatten(1)[:, None, ::97].float(),
    "audio": lambda batch: batch.audio[:, None, ::10],
}
PARTNERS = np.roll(np.arange(12), 5)


def run(shapes, **options):
    cutouts = find_cutouts(shapes, shapes["label"], SAMPLING.frames_per_second)
    return encode_disturbed(ENCODE, ClipDataset(shapes, SAMPLING, seed=1), PARTNERS, cutouts, **options)


def test_features_are_those_of_disturbed_clips(shapes):
    found = run(shapes, windows_per_clip=2, batch_size=8)
    assert set(found.features) == {CLEAN, *DISTURBANCES}
    clean = found.features[CLEAN]
    assert clean["audio"].shape == (12, 2, 400)
    dataset = ClipDataset(shapes, SAMPLING, seed=1)
    for row in (0, 11):
        clips = dataset.read_even(row, 2)
        np.testing.assert_array_equal(clean["audio"][row], np.stack([clip.audio[::10] for clip in clips]))
    swapped = found.features["audio of another class"]["audio"]
    np.testing.assert_array_equal(swapped, clean["audio"][PARTNERS])
    np.testing.assert_array_equal(found.features["video of another class"]["video"], clean["video"][PARTNERS])
    assert (found.features["no audio"]["audio"] == 0).all()


def test_an_undisturbed_modality_is_the_clean_array_itself(shapes):
    found = run(shapes).features
    for name, disturbance in DISTURBANCES.items():
        other = "audio" if disturbance.modality == "video" else "video"
        assert found[name][other] is found[CLEAN][other]
        assert not np.array_equal(found[name][disturbance.modality], found[CLEAN][disturbance.modality])


def test_nothing_depends_on_the_batch_size(shapes):
    one, other = run(shapes, batch_size=12), run(shapes, batch_size=5)
    for name, sides in one.features.items():
        for modality, values in sides.items():
            np.testing.assert_array_equal(values, other.features[name][modality])
    assert one.num_pasted == other.num_pasted > 0


def test_examples_equal_the_encoded_clips(shapes):
    found = run(shapes, num_examples=3, windows_per_clip=2)
    for name, batch in found.examples.items():
        for modality, encode in ENCODE.items():
            np.testing.assert_array_equal(encode(batch)[:, 0].numpy(), found.features[name][modality][:3, 0])


def test_noise_follows_the_seed_of_the_dataset(shapes):
    def noisy(seed):
        dataset = ClipDataset(shapes, SAMPLING, seed)
        cutouts = find_cutouts(shapes, shapes["label"], 4.0)
        return encode_disturbed(ENCODE, dataset, PARTNERS, cutouts).features["noise at SNR 10 dB"]["audio"]

    assert np.array_equal(noisy(1), noisy(1))
    assert not np.array_equal(noisy(1), noisy(2))


def test_one_modality_alone_can_be_encoded(shapes):
    cutouts = find_cutouts(shapes, shapes["label"], 4.0)
    found = encode_disturbed({"audio": ENCODE["audio"]}, ClipDataset(shapes, SAMPLING), PARTNERS, cutouts)
    assert all(set(sides) == {"audio"} for sides in found.features.values())
    assert found.features["25 % of the frame covered"]["audio"] is found.features[CLEAN]["audio"]


def test_a_missing_file_is_named(shapes, tmp_path):
    gone = Manifest(shapes.table, tmp_path)
    with pytest.raises(RuntimeError, match=r"cannot be read now: .*000000.mp4"):
        encode_disturbed(ENCODE, ClipDataset(gone, SAMPLING), PARTNERS, find_cutouts(gone, shapes["label"], 4.0))


def test_the_standard_noise_is_at_the_stated_ratio(shapes):
    (batch, _, _), *_ = EvalLoader(ClipDataset(shapes, SAMPLING, seed=1), 12)
    raw = to_rgb(batch)
    for snr_db in (20, 10, 0):
        disturbance = DISTURBANCES[f"noise at SNR {snr_db} dB"]
        nothing = torch.zeros(0, dtype=torch.bool)
        assert torch.equal(disturbance.apply(raw, raw, nothing).audio, add_noise(raw, snr_db).audio)
