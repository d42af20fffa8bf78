"""Networks with their preprocessing as modules that an exporter can trace, beside the code that they must equal.

Dimensions: B clips, T frames, H and W pixels, S samples, D embedding size, K classes; T', h and w cells of the video
map, T' also time cells of the audio map, Q steps of the audio query.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.moments import unit_heads
from avssl.data.sampling import ClipSampling
from avssl.hub.export.fourier import FourierSpectrogram
from avssl.hub.pretrained import PretrainedModel
from avssl.hub.trained_classifier import TrainedClassifier
from avssl.models import AVModel, Classifier
from avssl.models.foreign.contract import AudioContract, VideoContract
from avssl.models.foreign.tower import ForeignEncoder, merge_adapters
from avssl.transforms import ClipTransform, LogMel, LogSpectrogram, VideoEval
from avssl.transforms.standardize import EPSILON

SpectrogramPlace = Literal["inside", "outside"]
"""Place of the spectrogram: computed inside an exported file, or its input."""
Reference = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Port:
    """An input or an output of an exported file."""

    name: str
    dims: tuple[str | int, ...]
    """Names of the dimensions, those of a fixed size as numbers."""
    content: str
    """Values and their units."""
    size: tuple[int, ...] = ()
    """Size of an input in training, without the batch."""
    multiples: Mapping[str, int] = field(default_factory=dict)
    """Sizes that the network takes are multiples of these, by the name of the dimension."""
    most: Mapping[str, int] = field(default_factory=dict)
    """Largest sizes that the network takes, by the name of the dimension."""

    def trained(self) -> list[tuple[str, int]]:
        """Return the name of each dimension and its size in training, without the batch."""
        return [(str(name), size) for name, size in zip(self.dims[1:], self.size, strict=True)]

    def other(self, name: str, size: int) -> int:
        """Return another size of a dimension, to try the network at; that of one without a name is returned as is."""
        if name not in self.dims:
            return size
        if name in ("height", "width"):
            step = self.multiples.get(name, 1)
            return size + step * -(-32 // step)
        longer = size + 2 if name == "frames" else 2 * size
        return longer if longer <= self.most.get(name, longer) else size // 2


@dataclass(frozen=True, eq=False)
class Tower:
    """One exported file."""

    name: str
    module: nn.Module
    """In evaluation mode on the CPU: tensors of the inputs, in order, to a tuple of those of the outputs."""
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    reference: Reference
    """The same function by the code that evaluates models."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Dimensions of which the network takes one size by its own word, with the reasons."""


def towers_of(pretrained: PretrainedModel, place: SpectrogramPlace) -> list[Tower]:
    """Return the video and the audio tower of a pretrained model, each with its heads."""
    model, transform = pretrained.model, pretrained.transform
    embedding = Port("embedding", ("batch", model.embedding_size), "unit vector of the clip")
    video_map = Port(
        "map",
        ("batch", "channels", "cells", "rows", "columns"),
        "unit vectors of all cells, in each of num_heads groups",
    )
    audio_map = Port("map", ("batch", model.embedding_size, "cells"), "unit vectors over time")
    query = Port(
        "query", ("batch", "channels", "steps"), "unit vectors in each of num_heads groups, as in the video map"
    )

    def video_reference(frames: Tensor) -> tuple[Tensor, ...]:
        x = _video_input(transform, frames)
        return F.normalize(model.embed_video(x)), unit_heads(model.visual_cells(x), model.num_heads).flatten(1, 2)

    def audio_reference(audio: Tensor) -> tuple[Tensor, ...]:
        x = _audio_input(transform, audio, place)
        query = unit_heads(model.sound_queries(x), model.num_heads).flatten(1, 2)
        return F.normalize(model.embed_audio(x)), F.normalize(model.audio_map(x)), query

    frames, audio = _ports(transform, pretrained.sampling, place)
    frames, fixed_frames = _limited(frames, model.video_encoder)
    audio, fixed_audio = _limited(audio, model.audio_encoder)
    plain = merge_adapters(model)
    video_module, audio_module = _VideoTower(plain, transform), _AudioTower(plain, transform, place)
    return [
        Tower("video", video_module, (frames,), (embedding, video_map), video_reference, fixed_frames),
        Tower("audio", audio_module, (audio,), (embedding, audio_map, query), audio_reference, fixed_audio),
    ]


def tower_of_classifier(classifier: TrainedClassifier, place: SpectrogramPlace) -> Tower:
    """Return the one tower of a classifier, with the streams that it takes."""
    model, transform = classifier.model, classifier.transform
    ports = dict(zip(("video", "audio"), _ports(transform, classifier.sampling, place), strict=True))
    streams: list[Modality] = [name for name in ("video", "audio") if model.inputs in (name, "both")]

    def reference(*given: Tensor) -> tuple[Tensor, ...]:
        found = dict(zip(streams, given, strict=True))
        x = {
            name: _video_input(transform, value) if name == "video" else _audio_input(transform, value, place)
            for name, value in found.items()
        }
        return (model(**x),)

    logits = Port("logits", ("batch", len(classifier.classes)), "before the softmax, or the sigmoid if multi_label")
    module = _ClassifierTower(merge_adapters(model), transform, place, streams)
    limited = [_limited(ports[name], model.encoders[name]) for name in streams]
    fixed = {name: reason for _, reasons in limited for name, reason in reasons.items()}
    return Tower("classifier", module, tuple(port for port, _ in limited), (logits,), reference, fixed)


def _ports(transform: ClipTransform, sampling: ClipSampling, place: SpectrogramPlace) -> tuple[Port, Port]:
    size, num_samples = transform.video_eval.size, sampling.num_samples
    frames = Port(
        "frames",
        ("batch", 3, "frames", "height", "width"),
        "RGB in [0, 1]; the mean and the standard deviation of the channels are applied inside",
        (3, sampling.num_frames, size, size),
    )
    if place == "inside":
        waveform = f"mono samples in [-1, 1] at {sampling.sample_rate_hz} Hz; the spectrogram is computed inside"
        return frames, Port("waveform", ("batch", "samples"), waveform, (num_samples,))
    time, bins = transform.spectrogram.num_frames(num_samples), transform.spectrogram.num_bins
    content = "spectrogram before standardization, which is applied inside; its numbers are in input.audio"
    return frames, Port("spectrogram", ("batch", 1, "time", bins), content, (1, time, bins))


def _limited(port: Port, encoder: nn.Module) -> tuple[Port, dict[str, str]]:
    """Return an input with the limits by the contract of an encoder of another library, and what this fixes."""
    contract = encoder.contract if isinstance(encoder, ForeignEncoder) else None
    fixed: dict[str, str] = {}
    if isinstance(contract, VideoContract):
        step, size = contract.size_multiple, port.size[-1]
        if not step:
            fixed |= dict.fromkeys(("height", "width"), f"the network takes {size} x {size} pixels only")
        if contract.is_fixed_length:
            fixed["frames"] = f"the network takes {contract.num_frames} frames only"
        multiples = {"height": step, "width": step, "frames": contract.frame_multiple}
        port = replace(port, multiples={name: count for name, count in multiples.items() if count > 1})
    elif isinstance(contract, AudioContract) and contract.max_seconds is not None:
        if port.name == "waveform":
            port = replace(port, most={"samples": round(contract.max_seconds * contract.sample_rate_hz)})
        else:
            fixed["time"] = f"the network takes windows of {contract.max_seconds:g} s only; shorter audio is padded"
    return port, fixed


# ---------------------------------------------------------------- modules to trace


class _Frames(nn.Module):
    """Normalizes (B, 3, T, H, W) RGB frames in [0, 1]."""

    mean: Tensor
    std: Tensor

    def __init__(self, transform: ClipTransform) -> None:
        super().__init__()
        for name in ("mean", "std"):
            self.register_buffer(name, getattr(transform.video_eval, name).view(3, 1, 1, 1).clone())

    def forward(self, frames: Tensor) -> Tensor:
        return (frames - self.mean) / self.std


class _Audio(nn.Module):
    """Computes the spectrogram, unless it is the input, and standardizes it."""

    mean: Tensor
    std: Tensor

    def __init__(self, transform: ClipTransform, place: SpectrogramPlace) -> None:
        super().__init__()
        front_end, standardize = transform.spectrogram, transform.standardize
        if place == "outside":
            self.front_end: nn.Module = nn.Identity()
        elif isinstance(front_end, LogSpectrogram | LogMel):
            self.front_end = FourierSpectrogram(front_end)
        else:
            self.front_end = front_end
        if standardize is not None:
            self.register_buffer("mean", standardize.mean.clone())
            self.register_buffer("std", standardize.std + EPSILON)
        self.is_standardized = standardize is not None

    def forward(self, audio: Tensor) -> Tensor:
        x: Tensor = self.front_end(audio)
        return (x - self.mean) / self.std if self.is_standardized else x


class _VideoTower(nn.Module):
    """Frames to embedding and map, in one pass of the encoder."""

    def __init__(self, model: AVModel, transform: ClipTransform) -> None:
        super().__init__()
        self.frames, self.model = _Frames(transform), model

    def forward(self, frames: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        pooled, features = model.video_encoder.forward_pooled(self.frames(frames))
        cells = unit_heads(model.cells_of(features), model.num_heads).flatten(1, 2)
        return F.normalize(model.video_head(pooled)), cells


class _AudioTower(nn.Module):
    """Audio to embedding, map over time and query, in one pass of the encoder."""

    def __init__(self, model: AVModel, transform: ClipTransform, place: SpectrogramPlace) -> None:
        super().__init__()
        self.audio, self.model = _Audio(transform, place), model

    def forward(self, audio: Tensor) -> tuple[Tensor, ...]:
        model = self.model
        pooled, features = model.audio_encoder.forward_pooled(self.audio(audio))
        over_time = model.audio_head(features.amax(dim=3).movedim(1, -1)).movedim(-1, 1)
        query = unit_heads(model.queries_of(pooled, features), model.num_heads).flatten(1, 2)
        return F.normalize(model.audio_head(pooled)), F.normalize(over_time), query


class _ClassifierTower(nn.Module):
    """The streams of a classifier to logits."""

    def __init__(
        self, model: Classifier, transform: ClipTransform, place: SpectrogramPlace, streams: list[Modality]
    ) -> None:
        super().__init__()
        self.model, self.streams = model, streams
        self.prepare = nn.ModuleDict(
            {name: _Frames(transform) if name == "video" else _Audio(transform, place) for name in streams}
        )

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        x = {name: self.prepare[name](value) for name, value in zip(self.streams, given, strict=True)}
        return (self.model(**x),)


# ---------------------------------------------------------------- the code that evaluates models


def _video_input(transform: ClipTransform, frames: Tensor) -> Tensor:
    """Return model input of (B, 3, T, S, S) frames in [0, 1], which are multiples of 1 / 255."""
    used = transform.video_eval
    whole = VideoEval(frames.shape[-1], crop="full", mean=tuple(used.mean.tolist()), std=tuple(used.std.tolist()))
    canvas = (frames * 255).round().to(torch.uint8).transpose(1, 2)
    return whole(canvas, torch.tensor(canvas.shape[-2:]).expand(len(canvas), 2))


def _audio_input(transform: ClipTransform, audio: Tensor, place: SpectrogramPlace) -> Tensor:
    if place == "inside":
        return transform.audio_input(audio)
    return audio if transform.standardize is None else transform.standardize(audio)
