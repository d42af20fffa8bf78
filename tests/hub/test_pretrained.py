import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from avssl.config import config_from_dict, to_dict
from avssl.core.batch import Batch, BatchIndex
from avssl.engine import Precision
from avssl.hub.pretrained import from_pretrained, random_init, save_pretrained
from avssl.hub.release import HubError
from avssl.training.build import build_model, build_transform

SMALL = config_from_dict(
    {
        "data": {"source": "/home/somebody/videos"},
        "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16}},
        "model": {
            "video": {"width": 4},
            "audio": {"width": 4},
            "head": {"name": "mlp", "hidden": 8, "out_features": 6},
        },
    }
)


@pytest.fixture
def release(tmp_path):
    """A release folder, and the model and transform in it."""
    model, transform = build_model(SMALL, seed=3), build_transform(SMALL)
    transform.standardize.set_statistics(torch.arange(16.0), torch.full((16,), 2.0))
    folder = save_pretrained(tmp_path / "run" / "weights", model, transform, SMALL, {"rows": 12})
    return folder, model.eval(), transform.eval()


def raw_batch(size=40):
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (2, 8, 3, size, size), dtype=torch.uint8, generator=generator)
    index = BatchIndex(*(torch.arange(2) for _ in range(3)))
    return Batch(video, torch.rand(2, 24000, generator=generator), index, torch.full((2, 2), size))


@torch.no_grad()
def embed(model, transform):
    batch = transform(raw_batch())
    return model(batch.video, batch.audio)


def test_round_trip_gives_the_same_embeddings(release):
    folder, model, transform = release
    loaded = from_pretrained(folder)
    ours, theirs = embed(model, transform), embed(loaded.model, loaded.transform)
    assert torch.equal(ours.video, theirs.video)
    assert torch.equal(ours.audio, theirs.audio)
    assert not loaded.model.training
    assert not loaded.transform.training
    assert loaded.sampling.num_frames == SMALL.sampling.num_frames


def test_two_headed_model_is_rebuilt_without_its_objective(tmp_path):
    config = config_from_dict({**to_dict(SMALL), "objective": {"name": "slavc"}})
    model, transform = build_model(config, seed=3), build_transform(config)
    transform.standardize.set_statistics(torch.arange(16.0), torch.full((16,), 2.0))
    loaded = from_pretrained(save_pretrained(tmp_path, model, transform, config))
    batch = transform.eval()(raw_batch())
    with torch.no_grad():
        cells = [m.visual_cells(batch.video) for m in (model.eval(), loaded.model)]
        queries = [m.sound_queries(batch.audio) for m in (model, loaded.model)]
    assert cells[0].shape[1] == 2 * 6
    assert torch.equal(*cells)
    assert torch.equal(*queries)


def test_heads_and_audio_over_time_are_rebuilt_without_their_objective(tmp_path):
    config = config_from_dict({**to_dict(SMALL), "objective": {"name": "dense_av", "num_heads": 3}})
    model, transform = build_model(config, seed=3).eval(), build_transform(config)
    transform.standardize.set_statistics(torch.arange(16.0), torch.full((16,), 2.0))
    loaded = from_pretrained(save_pretrained(tmp_path, model, transform, config))
    batch = transform.eval()(raw_batch())
    assert loaded.model.num_heads == 3
    with torch.no_grad():
        queries = loaded.model.sound_queries(batch.audio)
        assert queries.shape[2] > 1
        assert torch.equal(queries, model.audio_map(batch.audio))


def test_a_framewise_model_is_rebuilt_without_its_objective(tmp_path):
    config = config_from_dict({**to_dict(SMALL), "objective": {"name": "framewise"}})
    model, transform = build_model(config, seed=3).eval(), build_transform(config)
    transform.standardize.set_statistics(torch.arange(16.0), torch.full((16,), 2.0))
    loaded = from_pretrained(save_pretrained(tmp_path, model, transform, config))
    assert loaded.encoder().framewise
    assert random_init(loaded).encoder().framewise
    audio = transform.eval()(raw_batch()).audio
    with torch.no_grad():
        expected = torch.nn.functional.normalize(model.audio_map(audio), dim=1).transpose(1, 2)
    torch.testing.assert_close(loaded.encoder(Precision()).instants("audio", audio), expected)


def test_run_folder_is_accepted_and_crop_can_be_changed(release):
    loaded = from_pretrained(release[0].parent, crop="full")
    assert loaded.transform.video_eval.crop == "full"
    assert loaded.transform.video_eval.size == 48  # 4/3 of 32, to the nearest 16
    assert from_pretrained(release[0].parent).transform.video_eval.size == 32
    assert random_init(loaded).transform.video_eval.size == 48


def test_release_tells_nothing_of_the_machine(release):
    folder = release[0]
    assert "somebody" not in (folder / "config.json").read_text() + (folder / "README.md").read_text()
    assert "- rows: 12" in (folder / "README.md").read_text()


def test_random_twin_keeps_the_statistics_and_changes_the_weights(release):
    loaded = from_pretrained(release[0])
    twin, other = random_init(loaded, seed=7), random_init(loaded, seed=8)
    assert torch.equal(twin.transform.standardize.mean, torch.arange(16.0))
    hashes = {loaded.weights_hash(), twin.weights_hash(), other.weights_hash()}
    assert len(hashes) == 3
    assert random_init(loaded, seed=7).weights_hash() == twin.weights_hash()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("model.video_head.0.bias"), "model.video_head.0.bias is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "extra is not in the model"),
        (
            lambda t: t.update({"model.video_head.0.bias": torch.zeros(3)}),
            r"is \(3,\), but config.json describes \(8,\)",
        ),
    ],
)
def test_weights_of_another_model_are_refused_by_name(release, change, message):
    folder = release[0]
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(HubError, match=message):
        from_pretrained(folder)


def test_other_format_version_is_refused(release):
    path = release[0] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(HubError, match=r"release format 99.*Install a newer avssl"):
        from_pretrained(release[0])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 1, "avssl_version": "0.0.9"}))
    with pytest.raises(HubError, match=r"release format 1.*wrote it \(0\.0\.9\), or train or convert the model again"):
        from_pretrained(release[0])


def test_truncated_weights_are_refused(release):
    path = release[0] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(HubError, match="not a readable safetensors file"):
        from_pretrained(release[0])


def test_missing_places_say_what_to_do(tmp_path, monkeypatch):
    with pytest.raises(HubError, match="no such folder"):
        from_pretrained(tmp_path / "none")
    with pytest.raises(HubError, match="neither a release"):
        from_pretrained(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(HubError, match="Finish it with: avssl pretrain --resume"):
        from_pretrained(tmp_path)
    (tmp_path / "runs" / "first").mkdir(parents=True)
    with pytest.raises(HubError, match=r"runs/frist: no such folder. Did you mean .*/runs/first\?"):
        from_pretrained(f"local-dir:{tmp_path}/runs/frist")
    monkeypatch.setattr(
        "avssl.core.hub_client.importlib.import_module", lambda name: (_ for _ in ()).throw(ImportError(name))
    )
    with pytest.raises(HubError, match=r"pip install 'avssl\[hub\]'"):
        from_pretrained("owner/name")


def test_card_names_the_license_of_weights_that_others_trained(release, tmp_path):
    _, model, transform = release
    folder = save_pretrained(
        tmp_path / "theirs", model, transform, SMALL, license_id="cc-by-4.0", notice="Credit them."
    )
    card = (folder / "README.md").read_text()
    assert card.index("\nlicense: cc-by-4.0\n---\n") < card.index("\n## License\n\nCredit them.\n")
    assert "icen" not in (release[0] / "README.md").read_text()


def test_a_public_backbone_in_place_of_a_release_is_named(timm_folder):
    with pytest.raises(HubError, match=r"backbone of timm .* --model.video.pretrained"):
        from_pretrained(timm_folder)
