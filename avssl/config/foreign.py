"""Settings that follow from the backbones of other libraries: their input contracts as defaults and as checks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from avssl.core.errors import ConfigError, InputError
from avssl.models import AUDIO_ENCODERS, VIDEO_ENCODERS, encoder_builder
from avssl.models.foreign.contract import AudioContract, Contract, VideoContract

_TABLES = {"model.video": VIDEO_ENCODERS, "model.audio": AUDIO_ENCODERS}
_PACKAGE = "avssl.models.foreign."


def foreign_groups(names: Mapping[str, str]) -> list[str]:
    """Return the groups of settings whose chosen encoder is a backbone of another library."""
    return [path for path, table in _TABLES.items() if table.get(names.get(path, ""), "").startswith(_PACKAGE)]


def describe_tower(path: str, options: Mapping[str, Any], size: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the settings that describe a backbone completely, and the defaults that follow from its contract.

    Files of public weights are read here, once: afterwards the settings describe the network and its input.

    Args:
        path: ``"model.video"`` or ``"model.audio"``.
        options: Its settings.
        size: Size of the frames, if it is set.

    Raises:
        ConfigError: If an option is wrong, or the weights are not found.
    """
    from avssl.models.foreign.spec import Spec, parse_words
    from avssl.models.foreign.weights import named_weights, weight_folder

    with _naming(path, options):
        builder: Any = encoder_builder(options["name"], path.rpartition(".")[2])
        words = {option: parse_words(option, options[option]) for option in ("config", "preprocessing")}
        spec, pretrained = Spec(options["backbone"], **words), named_weights(options["pretrained"])
        if pretrained:
            if not spec.preprocessing:
                spec = builder.spec_of(spec, weight_folder(pretrained))
        elif not spec.backbone:
            spec = replace(spec, backbone=builder.default)
        contract = builder.contract_of(spec)
        takes = "video" if isinstance(contract, VideoContract) else "audio"
        if path != f"model.{takes}":
            raise InputError(f"backbone ({spec.backbone}) takes {takes}: name it as model.{takes}.")
    own = {
        f"{path}.{option}": list(value) if isinstance(value, tuple) else value for option, value in spec.words().items()
    }
    if isinstance(contract, VideoContract):
        return own, _video_defaults(contract, size)
    return own, _audio_defaults(contract)


def _video_defaults(contract: VideoContract, size: Any) -> dict[str, Any]:
    resize_short = contract.resize_short
    if resize_short is not None and str(size).isdigit():  # the same share of the frame at another size
        resize_short = round(resize_short * int(str(size)) / contract.size)
    found = {
        "transform.video.size": contract.size,
        "transform.video.mean": list(contract.mean),
        "transform.video.std": list(contract.std),
        "transform.video.eval_crop": "full" if contract.resize_short is None else "center",
        "transform.video.eval_resize_short": resize_short,
        "transform.video.eval_interpolation": contract.interpolation,
        "transform.video.eval_keep_aspect": contract.keep_aspect,
        "transform.video.eval_antialias": contract.antialias,
    }
    return found | ({} if contract.num_frames is None else {"sampling.num_frames": contract.num_frames})


def _audio_defaults(contract: AudioContract) -> dict[str, Any]:
    return {
        "sampling.sample_rate_hz": contract.sample_rate_hz,
        "sampling.audio_seconds": contract.audio_seconds,
        "transform.spectrogram.name": contract.spectrogram,
        **{f"transform.spectrogram.{name}": value for name, value in contract.options.items()},
    }


def check_contract(config: Any, path: str, contract: Contract) -> None:
    """Raise ConfigError for the first setting that contradicts the backbone, with the value that it wants.

    Args:
        config: All settings, with ``sampling`` and ``transform``.
        path: ``"model.video"`` or ``"model.audio"``.
        contract: Input of the backbone.
    """
    name = getattr(config.model, path.rpartition(".")[2])
    for key, want, is_met in _demands(config, contract):
        if not is_met:
            value: Any = config
            for part in key.split("."):
                value = getattr(value, part)
            raise ConfigError(
                f"{key} ({_shown(value)}) contradicts {path} {name.options()['backbone']}, which wants {want}. Leave "
                "the setting out: it follows from the backbone."
            )


def _demands(config: Any, contract: Contract) -> Iterator[tuple[str, str, bool]]:
    """Yield (setting, wanted, whether it is met)."""
    if isinstance(contract, VideoContract):
        yield from _video_demands(config, contract)
    else:
        yield from _audio_demands(config, contract)


def _video_demands(config: Any, contract: VideoContract) -> Iterator[tuple[str, str, bool]]:
    video, sampling, step = config.transform.video, config.sampling, contract.size_multiple
    others = f", or another multiple of {step}" if step else ""
    fits = video.size == contract.size or bool(step and video.size % step == 0)
    yield "transform.video.size", f"{contract.size}{others}", fits
    for key, want in (("mean", contract.mean), ("std", contract.std)):
        values = getattr(video, key)
        is_same = all(abs(a - b) < 1e-6 for a, b in zip(values, want, strict=True))
        yield f"transform.video.{key}", _shown(want), is_same
    if contract.is_fixed_length:
        yield "sampling.num_frames", str(contract.num_frames), sampling.num_frames == contract.num_frames
    is_multiple = sampling.num_frames % contract.frame_multiple == 0
    yield "sampling.num_frames", f"a multiple of {contract.frame_multiple}", is_multiple


def _audio_demands(config: Any, contract: AudioContract) -> Iterator[tuple[str, str, bool]]:
    sampling, chosen = config.sampling, config.transform.spectrogram
    rate = contract.sample_rate_hz
    yield "sampling.sample_rate_hz", str(rate), sampling.sample_rate_hz == rate
    longest = contract.max_seconds
    fits = longest is None or sampling.audio_seconds <= longest + 1e-6
    yield "sampling.audio_seconds", f"at most {longest}", fits
    yield "transform.spectrogram.name", contract.spectrogram, chosen.name == contract.spectrogram
    for name, want in contract.options.items():
        yield f"transform.spectrogram.{name}", _shown(want), getattr(chosen, name, None) == want


def _shown(value: Any) -> str:
    return ", ".join(f"{each:g}" for each in value) if isinstance(value, tuple | list) else str(value)


@contextmanager
def _naming(group: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn an error whose message begins with an option into a ConfigError that names the option's group."""
    try:
        yield
    except InputError as error:
        option = re.split(r"\W", str(error), maxsplit=1)[0]
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{group}.{error}" if option in options else f"{group}.pretrained: {error}") from error
