"""A release says all that its input needs, is believed in it, and is refused before it takes memory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from avssl.config import ConfigError, FinetuneConfig, config_from_dict
from avssl.evaluation.calibration import Calibration
from avssl.hub import classifier as classifier_module
from avssl.hub import pretrained as pretrained_module
from avssl.hub.classifier import create_classifier, load_classifier, save_classifier
from avssl.hub.pretrained import from_pretrained, save_pretrained
from avssl.hub.release import HubError
from avssl.training.build import build_model, build_transform, check_options

NETWORK: dict[str, Any] = {
    "transform": {"video": {"size": 32}, "spectrogram": {"num_mels": 16}},
    "model": {"video": {"width": 4}, "audio": {"width": 4}, "head": {"name": "mlp", "hidden": 8, "out_features": 6}},
}


def _save_pretrained(folder: Path) -> Path:
    config = config_from_dict(NETWORK)
    transform = build_transform(config)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    return save_pretrained(folder, build_model(config), transform, config)


def _save_classifier(folder: Path, calibration: Calibration | None = None) -> Path:
    config = config_from_dict({**NETWORK, "test": {"crop": "full"}}, root=FinetuneConfig)
    model, transform = create_classifier(config, 3)
    transform.standardize.set_statistics(torch.zeros(16), torch.ones(16))
    return save_classifier(folder, model, transform, ["a", "b", "c"], config, calibration=calibration)


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "pretrained": (_save_pretrained, from_pretrained),
    "classifier": (_save_classifier, load_classifier),
}


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Callable[[Path], Any]]:
    """A release folder, and the function that loads it."""
    save, load = KINDS[request.param]
    return save(tmp_path / "weights"), load


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


def test_a_stranger_finds_all_numbers_of_the_input(kind: tuple[Path, Callable[[Path], Any]]) -> None:
    folder, load = kind
    described = json.loads((folder / "config.json").read_text())["input"]
    video, audio = described["video"], described["audio"]
    assert (video["mean"], video["std"]) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert (video["shape"], video["frames_per_second"]) == ([3, 8, 32, 32], 4.0)
    assert (audio["sample_rate_hz"], audio["num_samples"]) == (24000, 48000)
    assert (audio["window_length"], audio["hop_length"], audio["shape"]) == (1024, 240, [1, 200, 16])
    assert (audio["floor_power"], audio["dynamic_range_db"], audio["epsilon"]) == (1e-10, 100.0, 1e-5)
    tensors = load_file(folder / "model.safetensors")
    assert {audio["mean"], audio["std"]} <= set(tensors)
    loaded = load(folder)
    assert loaded.transform.video_eval.crop == video["crop"]
    assert list(loaded.transform.audio_input(torch.zeros(1, audio["num_samples"])).shape[1:]) == audio["shape"]


def test_the_numbers_of_the_input_suffice_to_prepare_it() -> None:
    """NumPy-like arithmetic of the described steps gives what the transform gives."""
    config = config_from_dict({**NETWORK, "transform": {**NETWORK["transform"], "spectrogram": {"name": "avid"}}})
    said = pretrained_module.describe_input(config)["audio"]
    waveform = torch.rand(1, said["num_samples"], generator=torch.Generator().manual_seed(0)) - 0.5
    window = torch.hann_window(said["window_length"], periodic=True)
    spectrum = torch.stft(
        waveform, said["window_length"], said["hop_length"], window=window, center=True,
        pad_mode=said["padding"], return_complex=True,
    )  # fmt: skip
    power = spectrum.abs().square()[0, :, : said["shape"][1]]
    bins = torch.cat([power[:1], (power[1::2] + power[2::2]) / 2])
    decibels = 10 * bins.clamp(min=said["floor_power"]).log10()
    decibels = decibels.clamp(min=decibels.max() - said["dynamic_range_db"]).T
    torch.testing.assert_close(build_transform(config).spectrogram(waveform)[0, 0], decibels, rtol=1e-4, atol=1e-3)


def test_pixel_statistics_of_the_file_are_those_that_are_used(kind: tuple[Path, Callable[[Path], Any]]) -> None:
    folder, load = kind
    mean, std = [0.5, 0.25, 0.125], [0.1, 0.2, 0.3]

    def change(content: dict[str, Any]) -> None:
        content["config"]["transform"]["video"] |= {"mean": mean, "std": std}
        content["input"]["video"] |= {"mean": mean, "std": std}

    edit(folder, change)
    transform = load(folder).transform
    for part in (transform.video_eval, transform.video_augment):
        assert (part.mean.tolist(), part.std.tolist()) == (pytest.approx(mean), pytest.approx(std))
    white = torch.full((1, 8, 3, 40, 40), 255, dtype=torch.uint8)
    expected = [(1 - m) / s for m, s in zip(mean, std, strict=True)]
    assert transform.video_input(white)[0, :, 0, 16, 16].tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("part", "key", "value"),
    [("video", "mean", [0.5, 0.5, 0.5]), ("video", "frames_per_second", 25.0), ("audio", "sample_rate_hz", 16000),
     ("audio", "hop_length", 160), ("audio", "epsilon", 1e-6), ("audio", "whitening", True)],
)  # fmt: skip
def test_an_input_that_the_settings_do_not_give_is_refused_by_name(
    kind: tuple[Path, Callable[[Path], Any]], part: str, key: str, value: Any
) -> None:
    folder, load = kind
    edit(folder, lambda content: content["input"][part].update({key: value}))
    with pytest.raises(HubError, match=rf"config\.json: input\.{part}\.{key} is .*, but .*use the one that wrote it"):
        load(folder)


def test_releases_of_earlier_versions_have_the_statistics_of_imagenet(
    kind: tuple[Path, Callable[[Path], Any]],
) -> None:
    folder, load = kind

    def change(content: dict[str, Any]) -> None:
        del content["input"], content["config"]["transform"]["video"]["mean"]
        del content["config"]["transform"]["video"]["std"]

    edit(folder, change)
    assert load(folder).transform.video_eval.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("model.video.width", 6000, r"video\S*\.stem\.0\.weight is \(4, .*, but config\.json describes"),
        ("model.audio.width", 16384, r"model\.audio_encoder\..* is \(4, .*, but config\.json describes \(16384,"),
        ("model.head.hidden", 16000, r"is \(8.*, but config\.json describes \(16000"),
        ("model.video.num_blocks", [64, 64], r"stage1\.1\..* is missing"),
        ("model.video.width", 100_000, r"model\.video\.width \(100000\) must be >= 1 and <= 16384"),
        ("model.video.num_blocks", [2_000_000, 1], r"num_blocks \(2000000, 1\) must all be >= 1 and <= 64"),
        ("transform.spectrogram.window_length", 2**30, r"window_length \(1073741824\) must be >= 4 and <= 65536"),
        ("transform.video.size", 2**31, r"size \(2147483648\) must be >= 1 and <= 16384"),
    ],
)
def test_sizes_are_compared_before_any_is_allocated(
    kind: tuple[Path, Callable[[Path], Any]], path: str, value: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, load = kind
    is_classifier = load is load_classifier
    if is_classifier and path.startswith(("model.head", "model.audio")):
        return  # a classifier of frames has neither

    def change(content: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        group = content["config"]
        for parent in parents:
            group = group[parent]
        group[last] = value
        content.pop("input")

    edit(folder, change)

    def allocated(*_: Any, **__: Any) -> None:
        raise AssertionError("a model was built of memory")

    monkeypatch.setattr(pretrained_module, "_assemble", allocated)
    monkeypatch.setattr(classifier_module, "create_classifier", allocated)
    with pytest.raises((HubError, ConfigError), match=message):
        load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("end", ["stem.0.weight", "transform.standardize.std"])
def test_weights_that_are_not_finite_are_refused_by_name(
    kind: tuple[Path, Callable[[Path], Any]], end: str, value: float
) -> None:
    folder, load = kind
    tensors = load_file(folder / "model.safetensors")
    name = next(key for key in tensors if key.endswith(end))
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(HubError, match=rf"model\.safetensors: {name} holds NaN or infinite values"):
        load(folder)


def test_a_classifier_keeps_its_calibration(tmp_path: Path) -> None:
    folder = _save_classifier(tmp_path / "weights", Calibration(1.7, "probability", 0.6))
    loaded = load_classifier(folder)
    assert loaded.calibration == Calibration(1.7, "probability", 0.6)
    logits = np.array([[[4.0, 0.0, 0.0]], [[0.0, 0.1, 0.0]]])
    np.testing.assert_array_equal(loaded.probabilities(logits), loaded.calibration.probabilities(logits, "probability"))
    assert loaded.is_unknown(logits).tolist() == [False, True]
    edit(folder, lambda content: content.pop("calibration"))
    assert load_classifier(folder).calibration == Calibration()  # a release of an earlier version


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"temperature": -1.0}, r"config\.json: calibration: temperature \(-1.0\) must be"),
        ({"unknown_threshold": "low"}, r"config\.json: calibration: unknown_threshold \('low'\)"),
        ({"heat": 2}, r"config\.json: calibration must have temperature, .* and no other key, got \{'heat': 2\}"),
        ([1.0], r"calibration must have"),
    ],
)
def test_a_calibration_out_of_range_is_refused_by_name(tmp_path: Path, values: Any, message: str) -> None:
    folder = _save_classifier(tmp_path / "weights")
    edit(folder, lambda content: content.update(calibration=values))
    with pytest.raises(HubError, match=message):
        load_classifier(folder)


def test_a_model_larger_than_this_machines_memory_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match=r"model: \d+ parameters .* take \d+ GiB, but this machine has \d+ GiB"):
        check_options(config_from_dict({"model": {"video": {"width": 16384, "num_blocks": [64, 64]}}}))
