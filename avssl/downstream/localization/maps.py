"""Compute the map of each model under each audio at all instants, small enough to be kept.

Dimensions: N readable instants, B of them at a time, T frames, S samples, h and w cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from avssl.core.batch import Batch, BatchIndex, Clip
from avssl.core.draws import clip_key, normal, text_keys
from avssl.core.manifest import ManifestError
from avssl.core.progress import Bar
from avssl.data.collate import collate
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.partners import Partners
from avssl.hub.pretrained import PretrainedModel, random_init
from avssl.localization.object_prior import ResNetPrior, activation_map
from avssl.localization.similarity import maps_at, smooth, sound_map
from avssl.localization.windows import NOISE_RMS
from avssl.media import MediaError
from avssl.models import ClipEncoder
from avssl.transforms.corruptions import Corruption

TRAINED = "trained model"
SHUFFLED, SILENCE, NOISE = "shuffled audio", "silence", "noise"
UNTRAINED = "random-init model"
OWN_PRIOR = "image only, own tower"
RESNET_PRIOR = "image only, ImageNet ResNet-18"


@dataclass(frozen=True, eq=False)
class InstantMaps:
    """Maps of the readable instants."""

    instants: list[Instant]
    """The N readable instants, in order."""
    maps: dict[str, Tensor]
    """Name of the row -> (N, h, w) float32; cosines, except for the priors."""
    unreadable: Counter[str]
    """Number of instants left out, by reason."""


@dataclass(frozen=True, eq=False)
class _Sample:
    """A decoded instant."""

    instant: Instant
    frames: Tensor
    """(T, 3, H, W) uint8."""
    frame: float
    """Position of the instant among the frames."""
    waveforms: dict[str, Tensor]
    """(S,) by name of the row."""


def compute_maps(
    pretrained: PretrainedModel,
    clips: InstantClips,
    instants: Sequence[Instant],
    partners: Partners,
    *,
    resnet: ResNetPrior | None = None,
    seed: int = 0,
    batch_size: int,
    progress: bool = False,
) -> InstantMaps:
    """Compute the maps at all instants, a batch at a time.

    Args:
        pretrained: Loaded with ``crop="full"``.
        clips: Reader of the instants.
        partners: The instants whose audio each one is also shown with.
        resnet: Object prior; None leaves its row out.
        seed: Random seed of the noise and of the untrained model.

    Raises:
        ManifestError: If no instant can be read.
    """
    encoders = {TRAINED: pretrained.encoder(), UNTRAINED: random_init(pretrained, seed + 1).encoder()}
    kept: list[Instant] = []
    parts: dict[str, list[Tensor]] = {}
    unreadable: Counter[str] = Counter()
    with Bar(total=len(instants), desc="localize", unit="clip", show=progress) as bar:
        for batch in _batches(_read(clips, instants, partners, unreadable, seed, bar), batch_size):
            kept += [sample.instant for sample in batch]
            maps = _embed(encoders, clips, batch)
            if resnet is not None:
                pictures = [sample.frames[min(int(sample.frame), len(sample.frames) - 1)] for sample in batch]
                maps[RESNET_PRIOR] = torch.stack([resnet(picture).cpu() for picture in pictures])
            for name, values in maps.items():
                parts.setdefault(name, []).append(values)
    _check_any(clips, kept, unreadable)
    return InstantMaps(kept, {name: torch.cat(values) for name, values in parts.items()}, unreadable)


@torch.no_grad()
def own_maps(
    pretrained: PretrainedModel,
    clips: InstantClips,
    instants: Sequence[Instant],
    *,
    corruption: Corruption | None = None,
    batch_size: int = 16,
    progress: bool = False,
) -> InstantMaps:
    """Compute the maps of a model at instants under their own audio, clean or corrupted.

    Args:
        pretrained: Loaded with ``crop="full"``.
        clips: Reader of the instants.
        instants: The instants; unreadable ones are left out and counted.
        corruption: Corruption of frames or audio.

    Raises:
        ManifestError: If no instant can be read.
    """
    encoder = pretrained.encoder()
    title = "localize" if corruption is None else str(corruption)
    kept: list[Instant] = []
    parts: list[Tensor] = []
    unreadable: Counter[str] = Counter()
    with Bar(total=len(instants), desc=title, unit="clip", delay=1.0, leave=False, show=progress) as bar:
        for batch in _batches(_read_own(clips, instants, unreadable, bar), batch_size):
            kept += [sample.instant for sample in batch]
            raw = _raw(clips, batch)
            if corruption is not None:
                raw = corruption(raw.to(encoder.device), clips.sampling.sample_rate_hz)
            cells, audio = encoder.cells(encoder.model_input(raw, "video")), encoder.model_input(raw, "audio")
            maps = sound_map(cells, encoder.queries(audio), encoder.num_heads)
            frame = torch.tensor([sample.frame for sample in batch])
            parts.append(smooth(maps_at(maps.cpu(), frame, clips.sampling.num_frames)))
    _check_any(clips, kept, unreadable)
    return InstantMaps(kept, {TRAINED: torch.cat(parts)}, unreadable)


def _read_own(
    clips: InstantClips, instants: Sequence[Instant], unreadable: Counter[str], bar: Bar
) -> Iterator[_Sample]:
    """Yield the readable instants with their own audio, and count the others by reason."""
    for instant in instants:
        try:
            yield _Sample(instant, *clips.frames(instant), {TRAINED: clips.sound(instant)})
        except MediaError as error:
            unreadable[f"{error.stream}: {error.reason}"] += 1
        bar.update()


def _check_any(clips: InstantClips, kept: Sequence[Instant], unreadable: Counter[str]) -> None:
    if not any(instant.is_positive for instant in kept):
        reasons = ", ".join(f"{count} x {reason}" for reason, count in unreadable.most_common())
        raise ManifestError(f"{clips.manifest.root}: no instant with a visible source can be read ({reasons}).")


def prompted_maps(
    pretrained: PretrainedModel,
    clips: InstantClips,
    instants: Sequence[Instant],
    lenders: Sequence[Sequence[Instant]],
    batch_size: int,
) -> tuple[Tensor, list[int]]:
    """Compute the maps of a model at instants under the audio of other clips.

    Args:
        pretrained: Loaded with ``crop="full"``.
        clips: Reader of the instants.
        instants: The frames.
        lenders: For each of them, clips whose audio it may be shown with; the first that can be read is.

    Returns:
        (n, h, w) float32 of the n readable instants, and their positions.
    """
    encoder = {TRAINED: pretrained.encoder()}
    samples: list[_Sample] = []
    read: list[int] = []
    parts: list[Tensor] = []
    for place, (instant, others) in enumerate(zip(instants, lenders, strict=True)):
        try:
            frames, frame = clips.frames(instant)
            sound = _first_sound(clips, others)
            assert sound is not None, "called only for instants with lenders"
            samples.append(_Sample(instant, frames, frame, {TRAINED: sound}))
            read.append(place)
        except MediaError:
            continue
        if len(samples) == batch_size:
            parts.append(_embed(encoder, clips, samples)[TRAINED])
            samples = []
    if samples:
        parts.append(_embed(encoder, clips, samples)[TRAINED])
    return torch.cat(parts) if parts else torch.empty(0, 1, 1), read


def _read(
    clips: InstantClips,
    instants: Sequence[Instant],
    partners: Partners,
    unreadable: Counter[str],
    seed: int,
    bar: Bar,
) -> Iterator[_Sample]:
    """Yield the readable instants and count the others by reason."""
    num_samples = clips.sampling.num_samples
    for number, instant in enumerate(instants):
        try:
            frames, frame = clips.frames(instant)
            waveforms = {TRAINED: clips.sound(instant), SHUFFLED: _borrowed(clips, partners, number)}
            name = f"{clips.manifest.value(instant.row, 'id')}/{instant.number}"
            noise = normal(clip_key(seed, 0, text_keys([name])), "localization_eval.noise", num_samples)[0].float()
            waveforms |= {SILENCE: torch.zeros(num_samples), NOISE: NOISE_RMS * noise}
            yield _Sample(instant, frames, frame, waveforms)
        except MediaError as error:
            unreadable[f"{error.stream}: {error.reason}"] += 1
        bar.update()


def _borrowed(clips: InstantClips, partners: Partners, number: int) -> Tensor:
    """Return the audio of the first partner whose file can be read."""
    sound = _first_sound(clips, partners.of(number))
    if sound is None:
        raise ManifestError(f"{clips.manifest.root}: no clip with other frames has other audio to borrow. Add clips.")
    return sound


def _first_sound(clips: InstantClips, others: Iterable[Instant]) -> Tensor | None:
    """Return the audio of the first of several clips that can be read; None if there are no clips."""
    failure: MediaError | None = None
    for other in others:
        try:
            return clips.sound(other)
        except MediaError as error:
            failure = error
    if failure is not None:
        raise failure
    return None


def _batches(samples: Iterator[_Sample], size: int) -> Iterator[list[_Sample]]:
    while batch := list(islice(samples, size)):
        yield batch


@torch.no_grad()
def _embed(encoders: Mapping[str, ClipEncoder], clips: InstantClips, batch: Sequence[_Sample]) -> dict[str, Tensor]:
    """Return (B, h, w) by name of the row; frames are transformed once for all models and sounds."""
    trained, num_frames = encoders[TRAINED], clips.sampling.num_frames
    raw = _raw(clips, batch)
    video = trained.video_input(raw.video, raw.valid_hw, raw.chroma)
    audio = {
        name: trained.audio_input(torch.stack([sample.waveforms[name] for sample in batch]))
        for name in batch[0].waveforms
    }
    frame = torch.tensor([sample.frame for sample in batch])
    maps: dict[str, Tensor] = {}
    for model, encoder in encoders.items():
        cells = encoder.cells(video)
        for row, x in audio.items() if model == TRAINED else [(model, audio[TRAINED])]:
            maps[row] = sound_map(cells, encoder.queries(x), encoder.num_heads)
    maps[OWN_PRIOR] = activation_map(trained.feature_map(video))
    return {name: smooth(maps_at(values.cpu(), frame, num_frames)) for name, values in maps.items()}


def _raw(clips: InstantClips, batch: Sequence[_Sample]) -> Batch:
    rows = torch.tensor([sample.instant.row for sample in batch])
    ids = [str(clips.manifest.value(sample.instant.row, "id")) for sample in batch]
    parts = [
        Clip(name, sample.instant.row, sample.instant.number, sample.frames, 0.0, sample.waveforms[TRAINED], 0.0)
        for name, sample in zip(ids, batch, strict=True)
    ]
    return collate(parts, BatchIndex(rows, rows, text_keys(ids)))
