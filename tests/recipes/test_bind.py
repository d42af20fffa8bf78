"""Towers aligned to a frozen tiny CLIP, SigLIP or CLAP: words work afterwards, and what is frozen has not moved."""

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
SIZES = {"clip": 12, "siglip": 16, "clap": 12}
"""Size of the space of each model."""
OWN = {
    "clip": {"vision_model": "vision_model", "projection": "visual_projection"},
    "siglip": {"vision_model": "vision_model"},
    "clap": {"audio_model": "audio_model", "audio_projection": "audio_projection"},
}
"""Parts of a frozen tower, and their names in the model of transformers."""

transformers = pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def clip(tiny_image_text):
    return tiny_image_text("clip")


def settings(folder, videos, kind="clip", out_features=None, **tower):
    """The model of configs/bind_clip.yaml with a tiny frozen tower and a small one beside it, for tiny clips."""
    model = read_yaml(CONFIG)["model"]
    space = "audio" if kind == "clap" else "video"
    frozen = {name: model["video"][name] for name in ("frozen", "pool")} | {"pretrained": str(folder)} | tower
    head = {"name": "mlp", "hidden": 16, "out_features": out_features or SIZES[kind]}
    towers = {
        "video": {"name": "image_text", **frozen} if space == "video" else {"name": "small_video", "width": 4},
        "audio": {"name": "audio_text", **frozen} if space == "audio" else {"name": "small_audio", "width": 4},
    }
    spectrogram = {} if space == "audio" else {"spectrogram": {"num_mels": 16, "window_length": 256}}
    tree = {
        "sampling": {"num_frames": 2, "audio_seconds": 1.0, "sample_rate_hz": 8000},
        "transform": {"video": {"size": 32}, **spectrogram},
        "model": {**towers, "head": head, "space": {"of": space}},
        "optim": {"batch_size": 8, "epochs": 2},
        "train": {"device": "cpu", "precision": "fp32", "memory_format": "contiguous", "threads": 1},
        "monitor": {"every_steps": 0},
        "data": {"source": str(videos), "num_workers": 0},
    }
    return config_from_dict(tree, "", Config)


@pytest.fixture(scope="module", params=SIZES)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def folder(kind, tiny_image_text):
    return tiny_image_text(kind)


@pytest.fixture(scope="module")
def bound(kind, folder, videos, tmp_path_factory):
    path, _ = pretrain(settings(folder, videos, kind), out=tmp_path_factory.mktemp("runs") / "bind", progress=False)
    return path


def test_only_the_other_tower_has_moved(bound, kind, folder):
    pretrained = from_pretrained(bound)
    theirs = transformers.AutoModel.from_pretrained(folder)
    model, untrained = pretrained.model, build_model(pretrained.config)
    frozen, trained = ("audio_encoder", "video_encoder") if kind == "clap" else ("video_encoder", "audio_encoder")
    network = getattr(model, frozen).backbone.network
    for ours, their in OWN[kind].items():
        found, expected = (getattr(m, n).state_dict() for m, n in ((network, ours), (theirs, their)))
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    texts = ["a dog barks", "rain"]
    stream = "audio" if kind == "clap" else "video"
    expected = text_encoder(weight_folder(str(folder))).eval()(texts)[stream]
    assert torch.equal(pretrained.embed_text(texts, stream), expected)
    held = load_file(bound / "weights" / "model.safetensors")
    assert not any("_model." in name for name in held), "the release names the frozen tower"
    first, second = (getattr(m, trained).state_dict() for m in (model, untrained))
    assert any(not torch.equal(first[name], second[name]) for name in first)


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
    with pytest.raises(HubError, match=r"its video tower has left the space of its texts.*configs/bind_clip.yaml"):
        load_text(model, "runs/first")


def test_a_space_of_another_size_is_an_error(clip, videos):
    with pytest.raises(ConfigError, match=r"takes the 12 features of the video encoder.*out_features \(8\) must be 12"):
        build_model(settings(clip, videos, out_features=8))
