"""Input of a released model, in numbers that another program can follow, and that must not change unseen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from avssl.config import Config
from avssl.hub.release import CONFIG_NAME, HubError
from avssl.training.build import Crop, build_sampling, build_transform
from avssl.transforms.standardize import EPSILON


def describe_input(config: Config, crop: Crop | None = None) -> dict[str, Any]:
    """Return the preprocessing of a model in evaluation, as the plain values of a release's ``input``.

    Args:
        config: Settings that the preprocessing follows from.
        crop: Evaluation crop in place of ``transform.video.eval_crop``.
    """
    sampling, transform = build_sampling(config), build_transform(config, crop=crop)
    frames, spectrogram = transform.video_eval, transform.spectrogram
    described = {
        "video": {
            "shape": [3, sampling.num_frames, frames.size, frames.size],
            "frames_per_second": sampling.frames_per_second,
            "decoded_short_side": sampling.short_side,
            "resize_short": None if frames.crop == "full" else frames.resize_short,
            "crop": frames.crop,
            "keep_aspect": frames.keep_aspect,
            "antialias": frames.antialias,
            "channels": "RGB, values in [0, 1], then (value - mean) / std",
            "mean": list(config.transform.video.mean),
            "std": list(config.transform.video.std),
        },
        "audio": {
            "shape": [1, spectrogram.num_frames(sampling.num_samples), spectrogram.num_bins],
            "sample_rate_hz": sampling.sample_rate_hz,
            "num_samples": sampling.num_samples,
            "samples": "mono, in [-1, 1]",
            **spectrogram.describe(),
            "mean": "transform.standardize.mean",
            "std": "transform.standardize.std",
            "epsilon": EPSILON,
        },
    }
    plain: dict[str, Any] = json.loads(json.dumps(described))
    return plain


def check_input(content: Mapping[str, Any], described: Mapping[str, Any], folder: Path) -> None:
    """Raise HubError if a release was made for another input than its settings give in this version of avssl.

    Args:
        content: Content of ``config.json``; releases of earlier versions have no ``input``.
        described: :func:`describe_input` of its settings.
        folder: The release.
    """
    ours = dict(_leaves(described))
    for key, value in _leaves(content.get("input", {})):
        if key not in ours or ours[key] != value:
            ours_text = f"its settings give {ours[key]!r}" if key in ours else "this avssl knows no such number"
            raise HubError(
                f"{folder / CONFIG_NAME}: input.{key} is {value!r}, but {ours_text}. Either the file was edited in one "
                "place only, or another version of avssl prepares input differently: use the one that wrote it "
                f"({content.get('avssl_version', 'unknown')})."
            )


def _leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _leaves(value, f"{prefix}.{key}".removeprefix("."))
    else:
        yield prefix, tree
