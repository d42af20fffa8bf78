import numpy as np
import pytest
import torch

from avssl.config import config_from_dict
from avssl.core.manifest import Manifest
from avssl.data.collate import collate
from avssl.data.dataset import ClipDataset
from avssl.features.stage_reader import Stage, StageReader, in_step
from avssl.hub.pretrained import PretrainedModel
from avssl.media import write_video
from avssl.training.build import build_model, build_sampling, build_transform


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Eight rows: two seconds of noise each, but one broken and one of a second."""
    folder = tmp_path_factory.mktemp("stages")
    generator = torch.Generator().manual_seed(0)
    names = [f"{number}.mp4" for number in range(8)]
    for number, name in enumerate(names):
        frames = torch.randint(0, 256, (4 if number == 5 else 8, 3, 32, 32), generator=generator, dtype=torch.uint8)
        write_video(folder / name, frames, 4.0, 0.3 * torch.randn(1, 2000 * len(frames), generator=generator), 8000)
    (folder / names[2]).write_text("no video")
    return Manifest.from_columns({"id": names, "path": names}, folder)


def pretrained(seconds=1, width=4, seed=0):
    config = config_from_dict(
        {
            "sampling": {
                "num_frames": 4 * seconds,
                "frames_per_second": 4,
                "audio_seconds": seconds,
                "sample_rate_hz": 8000,
            },
            "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 8, "window_length": 256}},
            "model": {"video": {"width": width}, "audio": {"width": 4}, "head": {"hidden": 8, "out_features": 6}},
        }
    )
    transform = build_transform(config).eval()
    transform.standardize.set_statistics(torch.zeros(8), torch.ones(8))
    return PretrainedModel(build_model(config, seed).eval(), transform, build_sampling(config), config, "test")


@torch.inference_mode()
def test_stages_are_those_of_the_encoders_in_order(manifest):
    model = pretrained()
    reader = StageReader({"A": model}, manifest, batch_size=3, max_features=10**6)
    batches = list(reader)
    assert [batch.rows.tolist() for batch in batches] == [[0, 1, 3], [4, 5, 6], [7]]
    assert [failure.id for failure in reader.failures] == ["2.mp4"]
    names = ["A video stem", "A video stage1", "A video stage2", "A video head"]
    names += [f"A audio {name}" for name in ("stage1", "stage2", "stage3", "stage4", "head")]
    assert [str(stage) for stage in batches[0].features] == names

    dataset = ClipDataset(manifest, model.sampling)
    clips = [dataset.read_even(row, 1)[0] for row in (4, 5, 6)]
    batch = model.transform(collate(clips, dataset.index([4, 5, 6], 0, [0] * 3)))
    maps = model.model.video_encoder.forward_stages(batch.video)
    for name, values in maps.items():
        found = batches[1].features[Stage("A", "video", name)]
        torch.testing.assert_close(found, values.flatten(1), rtol=1e-4, atol=1e-4)
        shape = tuple(values.shape[1:])
        assert reader.shapes[Stage("A", "video", name)] == (shape, shape)
    embedding = model.model.embed_audio(batch.audio)
    torch.testing.assert_close(batches[1].features[Stage("A", "audio", "head")], embedding, rtol=1e-4, atol=1e-4)
    assert reader.shapes[Stage("A", "audio", "head")] == ((6,), (6,))


def test_large_maps_are_averaged_over_few_cells(manifest):
    whole, few, one = (
        StageReader({"A": pretrained()}, manifest.select(np.arange(2)), max_features=most) for most in (10**6, 32, 1)
    )
    stem = Stage("A", "video", "stem")
    maps, cells, mean = (next(iter(reader)).features[stem] for reader in (whole, few, one))
    full, kept = few.shapes[stem]
    assert (full, kept) == ((4, 4, 8, 8), (4, 2, 2, 2))
    maps = maps.unflatten(1, full)
    expected = maps.unflatten(4, (2, 4)).unflatten(3, (2, 4)).unflatten(2, (2, 2)).mean(dim=(3, 5, 7))
    torch.testing.assert_close(cells.unflatten(1, kept), expected)
    torch.testing.assert_close(mean, maps.mean(dim=(2, 3, 4)))


def test_models_see_the_same_rows_each_in_its_own_way(manifest):
    """B needs two seconds, which row 5 has not; its clips and its encoders are others."""
    models = {"A": pretrained(), "B": pretrained(seconds=2, width=8), "C": pretrained(seed=1)}
    reader = StageReader(models, manifest, batch_size=4, max_features=8192)
    batches = list(reader)
    assert [batch.rows.tolist() for batch in batches] == [[0, 1, 3, 4], [6, 7]]
    assert sorted(failure.id for failure in reader.failures) == ["2.mp4", "5.mp4"]
    assert list(dict.fromkeys(stage.model for stage in batches[0].features)) == ["A", "B", "C"]
    alone = [batch.features for batch in StageReader({"B": models["B"]}, manifest, batch_size=4, max_features=8192)]
    for stage, values in alone[0].items():
        torch.testing.assert_close(batches[0].features[stage], values)
    stem = [batches[0].features[Stage(name, "video", "stem")] for name in models]
    assert stem[0].shape == stem[2].shape != stem[1].shape
    assert not torch.allclose(stem[0], stem[2])


def test_streams_are_read_in_step():
    streams = [
        iter([(n, f"{letter}{n}") for n in numbers])
        for letter, numbers in (("a", (0, 2, 3, 5, 9)), ("b", (1, 2, 5, 6, 9, 10)))
    ]
    assert list(in_step(streams)) == [(2, ["a2", "b2"]), (5, ["a5", "b5"]), (9, ["a9", "b9"])]
    assert list(in_step([iter([(1, "a")]), iter(())])) == []


def test_reader_refuses(manifest):
    with pytest.raises(ValueError, match=r"models \(0\), batch_size \(256\)"):
        StageReader({}, manifest, max_features=8192)
    with pytest.raises(ValueError, match=r"max_features \(0\) must be at least 1"):
        StageReader({"A": pretrained()}, manifest, max_features=0)
