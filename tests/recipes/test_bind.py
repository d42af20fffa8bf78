"""Audio aligned to a frozen tiny CLIP: words work afterwards, and neither image nor text tower has moved."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from avssl.cli import main
from avssl.config import Config, ConfigError, config_from_dict, read_yaml
from avssl.hub.pretrained import from_pretrained
from avssl.hub.release import HubError
from avssl.hub.text import load_text
from avssl.models import encoder_builder
from avssl.models.foreign.spec import Spec
from avssl.models.foreign.text import text_encoder
from avssl.models.foreign.weights import weight_folder
from avssl.recipes.pretrain import pretrain
from avssl.training.build import build_model

CONFIG = Path(__file__).parents[2] / "configs" / "bind_clip.yaml"

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def clip(tiny_image_text):
    return tiny_image_text("clip")


def settings(clip, videos, out_features=12, **video):
    """The model of configs/bind_clip.yaml with a tiny CLIP and small audio, for tiny clips."""
    model = read_yaml(CONFIG)["model"]
    chosen = {name: model["video"][name] for name in ("name", "frozen", "pool")} | {"pretrained": str(clip)} | video
    audio = {"name": "small_audio", "width": 4}
    head = {"name": "mlp", "hidden": 16, "out_features": out_features}
    tree = {
        "sampling": {"num_frames": 2, "audio_seconds": 1.0, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16, "window_length": 256}},
        "model": {"video": chosen, "audio": audio, "head": head, "space": model["space"]},
        "optim": {"batch_size": 8, "epochs": 2},
        "train": {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "threads": 1},
        "monitor": {"every_steps": 0},
        "data": {"source": str(videos), "num_workers": 0},
    }
    return config_from_dict(tree, "", Config)


@pytest.fixture(scope="module")
def bound(clip, videos, tmp_path_factory):
    path, _ = pretrain(settings(clip, videos), out=tmp_path_factory.mktemp("runs") / "bind", progress=False)
    return path


def test_only_the_audio_has_moved(bound, clip):
    pretrained = from_pretrained(bound)
    theirs = transformers.CLIPModel.from_pretrained(clip)
    network = pretrained.model.video_encoder.backbone.network
    for ours, their in ((network.vision_model, theirs.vision_model), (network.projection, theirs.visual_projection)):
        found, expected = ours.state_dict(), their.state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    texts = ["a dog barks", "rain"]
    assert torch.equal(
        pretrained.embed_text(texts, "video"), text_encoder(weight_folder(str(clip))).eval()(texts)["video"]
    )
    held = load_file(bound / "weights" / "model.safetensors")
    assert not any("vision_model" in name for name in held), "the release names the frozen tower"
    first = from_pretrained(bound).model.audio_encoder.state_dict()
    untrained = build_model(pretrained.config).audio_encoder.state_dict()
    assert any(not torch.equal(first[name], untrained[name]) for name in first)


def test_words_search_by_sound_and_by_sight_and_locate(bound, videos, tmp_path, capsys):
    table = tmp_path / "f.parquet"
    words = ["--checkpoint", str(bound), "--device", "cpu"]
    assert main(["embed", str(videos), *words, "-o", str(table), "--num-workers", "0"]) == 0
    assert main(["search", str(table), "--text", "a dog barks", "-k", "2", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "Video windows that match the text." in said
    assert "Audio windows that match the text." in said
    out = tmp_path / "map.png"
    assert main(["localize", str(videos / "clip00.mp4"), *words, "--text", "the violin", "-o", str(out)]) == 0
    assert out.stat().st_size > 1000


@pytest.mark.parametrize("change", [{"frozen": False}, {"pool": "mean"}, {"pretrained": ""}])
def test_a_tower_that_left_its_space_has_no_text(change, clip, videos):
    spec = encoder_builder("image_text").spec_of(Spec(""), weight_folder(str(clip)))
    model = build_model(settings(clip, videos, **spec.words() | change))
    with pytest.raises(HubError, match=r"its image tower has left the space of its texts.*configs/bind_clip.yaml"):
        load_text(model, "runs/first")


def test_a_space_of_another_size_is_an_error(clip, videos):
    with pytest.raises(ConfigError, match=r"takes the 12 features of the video encoder.*out_features \(8\) must be 12"):
        build_model(settings(clip, videos, out_features=8))
