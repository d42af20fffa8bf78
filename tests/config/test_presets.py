"""Presets of augmentation: what a name stands for, and what overrides it."""

from pathlib import Path
from typing import Any

import pytest

from avssl.config import Config, base_of, config_from_dict, load_config, parse_settings, to_dict, to_yaml
from avssl.config.finetune import FinetuneConfig
from avssl.config.presets import PRESETS, preset_values
from avssl.core.errors import ConfigError
from avssl.training.build import build_transform, check_options
from avssl.transforms import AUDIO_PRESETS, VIDEO_PRESETS

SIMCLR = {"transform": {"video": {"preset": "simclr"}, "audio": {"preset": "simclr"}}}


def test_default_preset_is_the_defaults_of_the_classes() -> None:
    assert config_from_dict({"transform": {"video": {"preset": "default"}, "audio": {"preset": "default"}}}) == Config()


@pytest.mark.parametrize("group", PRESETS)
@pytest.mark.parametrize("name", ["none", "simclr"])
def test_each_preset_is_a_run_and_sets_options_that_exist(group: str, name: str) -> None:
    part = group.rpartition(".")[2]
    config = config_from_dict({"transform": {part: {"preset": name}}})
    chosen = vars(getattr(config.transform, part))
    table: Any = PRESETS[group]
    assert table[name].items() <= chosen.items()
    assert {key: chosen[key] for key in preset_values(group, name)} == preset_values(group, name)
    check_options(config)
    build_transform(config)


def test_simclr_preset_holds_the_numbers_of_the_paper() -> None:
    video = config_from_dict(SIMCLR).transform.video
    assert (video.scale, video.jitter_probability, video.grayscale_probability) == ((0.08, 1.0), 0.8, 0.2)
    assert (video.brightness, video.contrast, video.saturation, video.hue) == (0.8, 0.8, 0.8, 0.2)
    assert (video.blur_probability, video.blur_sigma, video.erase_probability) == (0.5, (0.1, 2.0), 0.0)


def test_single_options_override_a_preset_of_the_same_place() -> None:
    given = {"transform.video.hue": "0.1", "transform.video.preset": "simclr"}
    video = parse_settings(given).transform.video
    assert (video.hue, video.brightness, video.preset) == (0.1, 0.8, "simclr")
    video = config_from_dict({"transform": {"video": {"hue": 0.1, "preset": "simclr"}}}).transform.video
    assert (video.hue, video.brightness) == (0.1, 0.8)


def test_a_preset_overrides_what_lies_below_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("transform: {video: {size: 64, brightness: 0.1, blur_probability: 0.3}}")
    file = tmp_path / "top.yaml"
    file.write_text("base: base.yaml\ntransform: {video: {preset: simclr, contrast: 0.2}}")
    video = load_config(file).transform.video
    assert (video.size, video.brightness, video.contrast, video.blur_probability) == (64, 0.8, 0.2, 0.5)
    video = parse_settings({"transform.video.preset": "none"}, file=file).transform.video
    assert (video.size, video.scale, video.hue, video.contrast) == (64, (1.0, 1.0), 0.0, 0.0)
    assert VIDEO_PRESETS["default"] == AUDIO_PRESETS["default"] == {}
    video = parse_settings({"transform.video.preset": "default"}, file=file).transform.video
    assert (video.brightness, video.blur_probability) == (0.4, 0.0)


def test_saved_settings_do_not_depend_on_what_a_preset_stands_for(tmp_path: Path, monkeypatch: Any) -> None:
    config = config_from_dict(SIMCLR)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    monkeypatch.setitem(VIDEO_PRESETS, "simclr", {"brightness": 0.123})
    assert load_config(tmp_path / "config.yaml") == config


def test_settings_saved_before_presets_still_load() -> None:
    tree = to_dict(Config())
    tree["transform"]["video"] = {"scale": (0.5, 1.0)}
    tree["transform"]["audio"] = {"gain": (0.9, 1.1)}
    config = config_from_dict(tree)
    assert (config.transform.video.preset, config.transform.video.scale) == ("default", (0.5, 1.0))


def test_a_preset_overrides_the_settings_of_the_checkpoint() -> None:
    base = base_of(config_from_dict(SIMCLR | {"train": {"seed": 3}}))
    inherited = config_from_dict({}, root=FinetuneConfig, base=base).transform.audio
    assert inherited.mix_probability == 0.8
    plain = config_from_dict({"transform": {"audio": {"preset": "default"}}}, root=FinetuneConfig, base=base)
    assert plain.transform.audio.mix_probability == 0.0
    assert plain.transform.video.hue == 0.2


@pytest.mark.parametrize("name", ["simcrl", 3, ["simclr"]])
def test_an_unknown_preset_is_refused(name: Any) -> None:
    with pytest.raises(ConfigError, match=r"transform.video.preset"):
        config_from_dict({"transform": {"video": {"preset": name}}})


def test_a_shift_in_time_is_refused_by_objectives_that_compare_over_time() -> None:
    from avssl.training.build import build_task

    tree = {"objective": {"name": "dense_av"}, "transform": {"audio": {"max_shift_seconds": 0.2}}}
    with pytest.raises(ConfigError, match=r"max_shift_seconds \(0.2\) must be 0"):
        build_task(config_from_dict(tree))
