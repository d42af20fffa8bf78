import os
import shutil
import wave

import numpy as np
import pytest
import torch

from avssl.config import config_from_dict
from avssl.core.manifest import Manifest
from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.features.extract import extract_features
from avssl.hub.pretrained import PretrainedModel
from avssl.media import write_video
from avssl.models import StagePooling
from avssl.training.build import build_model, build_sampling, build_transform
from avssl.transforms.corruptions import Corruption


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("extract")
    generator = torch.Generator().manual_seed(0)
    for number in range(5):
        frames = torch.randint(0, 256, (12, 3, 1, 1), generator=generator, dtype=torch.uint8).expand(12, 3, 32, 32)
        sound = 0.3 * torch.randn(1, 24000, generator=generator)
        write_video(path / f"{number}.mp4", frames.contiguous(), 4.0, sound, 8000)
    (path / "bad.mp4").write_text("no video")
    return path


@pytest.fixture(scope="module")
def manifest(folder):
    names = ["0.mp4", "1.mp4", "bad.mp4", "2.mp4", "3.mp4", "4.mp4"]
    return Manifest.from_columns({"id": names, "path": names}, folder)


@pytest.fixture(scope="module")
def pretrained():
    config = config_from_dict(
        {
            "sampling": {"num_frames": 4, "frames_per_second": 4, "audio_seconds": 1, "sample_rate_hz": 8000},
            "transform": {"video": {"size": 16}, "spectrogram": {"num_mels": 8, "window_length": 256}},
            "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"hidden": 8, "out_features": 6}},
        }
    )
    transform = build_transform(config).eval()
    transform.standardize.set_statistics(torch.zeros(8), torch.ones(8))
    return PretrainedModel(build_model(config).eval(), transform, build_sampling(config), config, "test")


def test_rows_keep_their_order_and_bad_ones_are_listed(pretrained, manifest):
    found = extract_features(pretrained, manifest, batch_size=2)
    assert list(found.ids) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "4.mp4"]
    assert list(found.rows) == [0, 1, 3, 4, 5]
    assert [failure.id for failure in found.failures] == ["bad.mp4"]
    assert found.video.shape == (5, 16)
    assert found.audio.shape == (5, 32)


@torch.inference_mode()
def test_features_are_means_over_the_windows_of_a_row(pretrained, manifest):
    found = extract_features(pretrained, manifest, windows_per_clip=3, batch_size=4)
    clips = ClipDataset(manifest, pretrained.sampling).read_even(3, 3)
    index = ClipDataset(manifest, pretrained.sampling).index([3] * 3, 0, [0, 1, 2])
    batch = pretrained.transform(collate(clips, index))
    expected = pretrained.model.encode_video(batch.video).mean(0)
    assert not torch.allclose(*pretrained.model.encode_video(batch.video)[:2])
    np.testing.assert_allclose(found.video[2], expected.numpy(), rtol=1e-4, atol=1e-5)


def test_windows_are_kept_with_their_times(pretrained, manifest):
    found = extract_features(pretrained, manifest, windows_per_clip=3, keep_windows=True, batch_size=4)
    mean = extract_features(pretrained, manifest, windows_per_clip=3)
    assert found.video.shape == (5, 3, 16)
    assert found.audio.shape == (5, 3, 32)
    np.testing.assert_allclose(found.video.mean(axis=1), mean.video, rtol=1e-4, atol=1e-5)
    # Files of 3 s, picture and sound windows of 1 s: the first begins with the file and the last ends with it.
    np.testing.assert_allclose(found.at_seconds, [[0.5, 1.5, 2.5]] * 5, atol=0.03)
    np.testing.assert_array_equal(found.at_seconds, mean.at_seconds)
    single = extract_features(pretrained, manifest, keep_windows=True, what="embeddings")
    assert single.video.shape == (5, 1, 6)


def test_times_are_those_of_the_file_and_not_of_the_row(pretrained, folder):
    columns = {"id": ["a"], "path": ["0.mp4"], "start_seconds": [1.0], "stop_seconds": [3.0]}
    found = extract_features(pretrained, Manifest.from_columns(columns, folder), windows_per_clip=2)
    np.testing.assert_allclose(found.at_seconds, [[1.5, 2.5]], atol=0.03)


@torch.inference_mode()
def test_stages_are_the_encoders_own_pooled(pretrained, manifest):
    stages = {"video": StagePooling(2, "max", 100), "audio": StagePooling(1, "mean", 64)}
    found = extract_features(pretrained, manifest, windows_per_clip=2, stages=stages, batch_size=4)
    plain = extract_features(pretrained, manifest, windows_per_clip=2)
    np.testing.assert_allclose(found.video, plain.video, rtol=1e-4, atol=1e-5)
    dataset = ClipDataset(manifest, pretrained.sampling)
    batch = pretrained.transform(collate(dataset.read_even(1, 2), dataset.index([1] * 2, 0, [0, 1])))
    maps = pretrained.model.video_encoder.forward_stages(batch.video)
    assert list(found.stages) == ["video", "audio"]
    assert list(found.stages["video"]) == ["stage1", "stage2"]
    assert found.stages["video"]["stage1"].shape == (5, 2, 8, 1, 2, 2)  # no finer than the map
    assert found.stages["audio"]["stage4"].shape[:3] == (5, 2, 32)
    expected = torch.nn.functional.adaptive_max_pool3d(maps["stage1"], (1, 2, 2))
    np.testing.assert_allclose(found.stages["video"]["stage1"][1], expected.numpy(), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"last_stages \(0\)"):
        StagePooling(0)


def test_stages_come_back_from_the_cache(pretrained, manifest, tmp_path, monkeypatch):
    words = {"stages": {"audio": StagePooling(2)}, "cache_folder": tmp_path, "keep_windows": True}
    first = extract_features(pretrained, manifest, **words)
    monkeypatch.setattr("avssl.features.extract._encode", None)
    again = extract_features(pretrained, manifest, **words)
    assert list(again.stages["audio"]) == ["stage3", "stage4"]
    np.testing.assert_array_equal(first.stages["audio"]["stage3"], again.stages["audio"]["stage3"])
    np.testing.assert_array_equal(first.at_seconds, again.at_seconds)


def test_touched_files_keep_their_cache_and_changed_ones_do_not(pretrained, manifest, folder, tmp_path, monkeypatch):
    copied = Manifest(manifest.table, tmp_path / "copy")
    shutil.copytree(folder, tmp_path / "copy")
    extract_features(pretrained, manifest, cache_folder=tmp_path / "cache")
    (tmp_path / "copy" / "0.mp4").touch()
    with monkeypatch.context() as patch:
        patch.setattr("avssl.features.extract._encode", None)
        extract_features(pretrained, copied, cache_folder=tmp_path / "cache")
    stat = (tmp_path / "copy" / "0.mp4").stat()
    data = bytearray((tmp_path / "copy" / "0.mp4").read_bytes())
    data[-1] ^= 1
    (tmp_path / "copy" / "0.mp4").write_bytes(data)
    os.utime(tmp_path / "copy" / "0.mp4", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # same size, same date
    extract_features(pretrained, copied, cache_folder=tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("features-*.npz"))) == 2


def test_batch_size_changes_nothing(pretrained, manifest):
    one, all_at_once = (extract_features(pretrained, manifest, batch_size=size) for size in (1, 32))
    np.testing.assert_allclose(one.video, all_at_once.video, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(one.audio, all_at_once.audio, rtol=1e-4, atol=1e-5)


def test_embeddings_have_unit_length(pretrained, manifest):
    found = extract_features(pretrained, manifest, what="embeddings")
    assert found.video.shape == found.audio.shape == (5, 6)
    np.testing.assert_allclose(np.linalg.norm(found.audio, axis=1), 1, rtol=1e-5)


def test_cache_is_used_for_the_same_and_for_nothing_else(pretrained, manifest, folder, tmp_path, monkeypatch):
    first = extract_features(pretrained, manifest, cache_folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("avssl.features.extract._encode", None)  # nothing is computed again
        again = extract_features(pretrained, manifest, cache_folder=tmp_path)
        embeddings = extract_features(pretrained, manifest, cache_folder=tmp_path, what="embeddings")
    np.testing.assert_array_equal(first.video, again.video)
    assert again.failures == first.failures
    assert list(again.ids) == list(first.ids)
    assert embeddings.video.shape == (5, 6)

    extract_features(pretrained, manifest, cache_folder=tmp_path, windows_per_clip=2)
    extract_features(pretrained, manifest, cache_folder=tmp_path, keep_windows=True)
    extract_features(pretrained, manifest, cache_folder=tmp_path, stages={"video": StagePooling(1)})
    extract_features(pretrained, manifest, cache_folder=tmp_path, stages={"audio": StagePooling(1)})
    extract_features(pretrained, manifest.select(np.arange(3)), cache_folder=tmp_path)
    other = PretrainedModel(
        build_model(pretrained.config, seed=5).eval(), pretrained.transform, pretrained.sampling, pretrained.config, ""
    )
    extract_features(other, manifest, cache_folder=tmp_path)
    changed = tmp_path / "copy"
    shutil.copytree(folder, changed)
    shutil.copy(changed / "0.mp4", changed / "1.mp4")
    extract_features(pretrained, Manifest(manifest.table, changed), cache_folder=tmp_path)
    for severity, seed in ((1, 0), (2, 0), (2, 1)):
        corruption = Corruption("pixel_noise", severity, seed)
        found = extract_features(pretrained, manifest, cache_folder=tmp_path, corruption=corruption)
        assert not np.allclose(found.video, first.video, atol=1e-4)
        np.testing.assert_allclose(found.audio, first.audio, atol=1e-5)
    assert len(list(tmp_path.glob("features-*.npz"))) == 8 + 3


def test_nothing_readable_is_an_error(pretrained, manifest):
    with pytest.raises(ValueError, match=r"none of 1 rows can be read: .*bad.mp4"):
        extract_features(pretrained, manifest.select(np.array([2])))
    with pytest.raises(ValueError, match="must be at least 1"):
        extract_features(pretrained, manifest, windows_per_clip=0)


def write_sound(path, samples, sample_rate_hz):
    """16-bit mono PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate_hz)
        file.writeframes((32767 * samples[0]).short().numpy().tobytes())


def test_one_stream_is_enough_for_its_features(pretrained, manifest, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "media")
    sound = torch.rand(1, 24000, generator=torch.Generator().manual_seed(1)) - 0.5
    write_sound(tmp_path / "media" / "sound.wav", sound, 8000)
    columns = {"id": ["0.mp4", "sound.wav"], "path": ["0.mp4", "sound.wav"]}
    both = Manifest.from_columns(columns, tmp_path / "media")
    words = {"windows_per_clip": 2, "stages": {"audio": StagePooling(1)}, "cache_folder": tmp_path / "cache"}
    found = extract_features(pretrained, both, stream="audio", **words)
    assert list(found.ids) == ["0.mp4", "sound.wav"]
    assert found.audio.shape == (2, 32)
    assert found.video.shape == (2, 0)
    np.testing.assert_allclose(found.at_seconds, [[0.5, 2.5]] * 2, atol=0.03)
    pairs = extract_features(pretrained, both, **words)
    assert list(pairs.ids) == ["0.mp4"]
    assert pairs.failures[0].reason == "no_video"
    np.testing.assert_allclose(found.audio[0], pairs.audio[0], rtol=0.05, atol=0.05)  # windows end with the stream
    with pytest.raises(ValueError, match="stages of audio need that stream, but only stream 'video' is read"):
        extract_features(pretrained, both, stream="video", **words)
