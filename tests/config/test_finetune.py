import pytest

from avssl.config import (
    Config,
    ConfigError,
    FinetuneConfig,
    base_of,
    config_from_dict,
    field_docs,
    flatten,
    load_config,
    parse_settings,
    to_dict,
    to_yaml,
)
from avssl.config.parsing import groups

PRETRAINED = config_from_dict(
    {
        "sampling": {"num_frames": 4},
        "transform": {"spectrogram": {"name": "avid", "window_length": 512}},
        "model": {"video": {"name": "small_video", "width": 8}},
        "train": {"precision": "bf16", "memory_format": "contiguous", "seed": 3},
    }
)


def parse(*argv, base=None):
    given = {word.removeprefix("--"): value for word, value in zip(argv[::2], argv[1::2], strict=True)}
    return parse_settings(given, FinetuneConfig, given.pop("config", None), base)


def test_no_arguments_give_the_defaults():
    assert parse() == FinetuneConfig() == config_from_dict({}, root=FinetuneConfig)


def test_yaml_round_trip(tmp_path):
    config = parse("--labels.split_column", "[split1, split2]", "--schedule.name", "cosine", "--optim.head_lr", "0.1")
    assert config.labels.split_column == ("split1", "split2")
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert load_config(tmp_path / "c.yaml", FinetuneConfig) == config
    assert config_from_dict(to_dict(config), root=FinetuneConfig) == config


def test_a_checkpoint_is_below_the_file_which_is_below_the_command_line(tmp_path):
    (tmp_path / "c.yaml").write_text("sampling: {num_frames: 32, audio_seconds: 1.0}\n")
    words = ("--config", str(tmp_path / "c.yaml"), "--sampling.audio_seconds", "3")
    config = parse(*words, base=base_of(PRETRAINED))
    assert (config.sampling.num_frames, config.sampling.audio_seconds) == (32, 3.0)
    assert config.model.video.options()["width"] == 8
    assert config.transform.spectrogram.options()["window_length"] == 512
    assert (config.train.precision, config.train.seed) == ("bf16", 0)
    from_dict = config_from_dict(
        {"sampling": {"num_frames": 32, "audio_seconds": 3.0}}, root=FinetuneConfig, base=base_of(PRETRAINED)
    )
    assert from_dict == config


def test_another_choice_drops_the_options_of_the_bases(tmp_path):
    config = parse("--model.video.name", "avid_r2plus1d_10", base=base_of(PRETRAINED))
    assert config.model.video.options() == {"stem_pool": True, "stride": None, "dilated": False}
    assert config.transform.spectrogram.name == "avid"


def test_a_conflict_with_the_file_names_the_file(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("labels:\n  per_class: 3\n")
    with pytest.raises(ConfigError, match=r"^\S*x.yaml: labels.per_class \(3\) and fraction \(0.1\) exclude"):
        parse("--config", str(path), "--labels.fraction", "0.1")


def test_network_is_what_pretraining_would_build():
    config = parse("--data.source", "x", base=base_of(PRETRAINED))
    network = config.network()
    assert isinstance(network, Config)
    assert (network.sampling, network.transform, network.model) == (
        PRETRAINED.sampling,
        PRETRAINED.transform,
        PRETRAINED.model,
    )
    assert (network.data.source, network.train.precision, network.optim.batch_size) == ("x", "bf16", 32)


def test_every_setting_is_documented():
    config = FinetuneConfig()
    names = {"transform.spectrogram": "log_mel", "model.video": "small_video", "model.audio": "small_audio"}
    for path, group in groups(names | {"model.head": "mlp_bn", "schedule": "steps", "loss": "softmax"}, config):
        for name in vars(group):
            assert field_docs(type(group)).get(name), f"{path}.{name}"
    assert len(flatten(to_dict(config))) > 60


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--objective.name", "avid"], "--objective.name is not a setting"),
        (["--labels.per_class", "3", "--labels.fraction", "0.1"], r"--labels.per-class \(3\) and fraction .* exclude"),
        (["--labels.fraction", "0"], r"fraction \(0.0\) must be in \(0, 1\]"),
        (["--schedule.final_lr", "1"], "is a setting of schedule.name=cosine, and schedule.name is steps"),
        (["--schedule.at_epochs", "[3, 2]"], "must be ascending"),
        (["--optim.layer_decay", "2"], r"--optim.layer-decay \(2.0\) must be in \(0, 1\]"),
        (["--labels.multi_label", "true", "--classifier.class_weights", "balanced"], "needs one label per row"),
        (["--labels.multi_label", "true", "--labels.per_class", "2"], "with multi_label use fraction"),
        (["--classifier.fusion", "early"], r"Expected one of \['late', 'fused'\]"),
    ],
)
def test_wrong_settings_raise(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse(*argv)
