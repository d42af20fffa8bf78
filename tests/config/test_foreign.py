"""Settings that follow from backbones of other libraries, and settings that contradict them."""

import pytest
import yaml

from avssl.config import ConfigError, config_from_dict, parse_settings, to_yaml
from avssl.training.build import check_options

VIT = {
    "model.video.name": "timm",
    "model.video.backbone": "vit_tiny_patch16_224",
    "model.video.config": ["depth=1", "embed_dim=48", "num_heads=2"],
}


def test_defaults_follow_from_the_backbone_and_are_written_out():
    config = parse_settings(VIT)
    video = config.transform.video
    assert (video.size, video.mean, video.eval_resize_short) == (224, (0.5, 0.5, 0.5), 248)
    assert (video.eval_interpolation, video.eval_crop) == ("bicubic", "center")
    assert config_from_dict(yaml.safe_load(to_yaml(config))) == config
    check_options(config)


def test_a_size_that_is_set_keeps_the_share_of_the_frame():
    video = parse_settings(VIT | {"transform.video.size": "112"}).transform.video
    assert (video.size, video.eval_resize_short) == (112, 124)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"transform.video.size": "100"},
            r"transform.video.size \(100\) contradicts .* wants 224, or another multiple",
        ),
        ({"transform.video.mean": ["0.1", "0.2", "0.3"]}, r"transform.video.mean .* wants 0.5, 0.5, 0.5"),
        (
            {"model.video.backbone": "vit_tiny_patch16_225"},
            r"--model.video.backbone .* Did you mean vit_tiny_patch16_224",
        ),
        ({"model.video.pretrained": "/nowhere"}, r"--model.video.pretrained: /nowhere: no such folder"),
        ({"model.video.lora": "-1"}, r"--model.video.lora"),
        ({"model.video.width": "3"}, r"model.video.width is a setting of model.video.name="),
    ],
)
def test_contradictions_are_errors_that_say_what_the_backbone_wants(given, message):
    with pytest.raises(ConfigError, match=message):
        check_options(parse_settings(VIT | given))


def test_weights_complete_the_settings_once(timm_folder):
    given = {"model.video.name": "timm", "model.video.pretrained": str(timm_folder)}
    config = parse_settings(given)
    assert config.model.video.backbone == "vit_tiny_patch16_224"
    assert "embed_dim=48" in config.model.video.config
    assert "license=apache-2.0" in config.model.video.preprocessing
    assert (config.transform.video.size, config.transform.video.mean) == (32, (0.4, 0.5, 0.6))
    tree = yaml.safe_load(to_yaml(config))
    tree["model"]["video"]["pretrained"] = "/gone/since"  # a run, its resume and its release look nothing up again
    check_options(config_from_dict(tree))
    tree["model"]["video"]["backbone"] = "convnext_tiny"
    with pytest.raises(ConfigError):
        check_options(config_from_dict(tree))
