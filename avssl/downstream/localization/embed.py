"""One pass over the instants: the map of each model under each sound, little enough to be kept for all of them.

Dimensions: N readable instants, B of them at a time, T frames, S samples, h and w cells.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from avssl.core.batch import Batch, BatchIndex, Clip
from avssl.core.draws import clip_key, normal, text_keys
from avssl.core.manifest import ManifestError
from avssl.data.collate import collate
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.partners import Partners
from avssl.features.extract import run_precision
from avssl.hub.pretrained import Pretrained, random_init
from avssl.localization.heatmap import maps_at, smooth, sound_map, unit_cells
from avssl.localization.image_prior import ResNetPrior, activation_map
from avssl.localization.windows import NOISE_RMS
from avssl.media import MediaError

TRAINED = "trained model"
SHUFFLED, SILENCE, NOISE = "shuffled sound", "silence", "noise"
UNTRAINED = "random-init model"
OWN_PRIOR = "image only, own tower"
RESNET_PRIOR = "image only, ImageNet ResNet-18"


@dataclass(frozen=True, eq=False)
class InstantMaps:
    """What the models made of the instants that could be read."""

    instants: list[Instant]
    """(N,) those, in their order."""
    maps: dict[str, Tensor]
    """Name of the row → (N, h, w) float32; cosines but for those of the priors."""
    unreadable: Counter[str]
    """Instants left out, by reason."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """An instant, decoded."""

    instant: Instant
    frames: Tensor
    """(T, 3, H, W) uint8."""
    place: float
    """The instant as a position among the frames."""
    sounds: dict[str, Tensor]
    """(S,) by name of the row."""


def embed_instants(
    pretrained: Pretrained,
    clips: InstantClips,
    instants: Sequence[Instant],
    partners: Partners,
    *,
    resnet: ResNetPrior | None = None,
    seed: int = 0,
    batch_size: int = 16,
    progress: bool = False,
) -> InstantMaps:
    """Maps at all instants, decoded and embedded a batch at a time.

    Args:
        pretrained: Loaded with ``crop="full"``.
        clips: What is read.
        instants: All of them.
        partners: Whose sound each is also shown with.
        resnet: The object prior, if its row is wanted.
        seed: Of the noise and of the untrained model.
        batch_size: Instants embedded at a time.
        progress: Show a bar.

    Raises:
        ManifestError: If none can be read.
    """
    models = {TRAINED: pretrained, UNTRAINED: random_init(pretrained, seed + 1)}
    kept: list[Instant] = []
    parts: dict[str, list[Tensor]] = {}
    unreadable: Counter[str] = Counter()
    with tqdm(total=len(instants), desc="localize", unit="clip", disable=not progress) as bar:
        for batch in _batches(_read(clips, instants, partners, unreadable, seed, bar), batch_size):
            kept += [seen.instant for seen in batch]
            maps = _embed(models, clips, batch)
            if resnet is not None:
                pictures = [seen.frames[min(int(seen.place), len(seen.frames) - 1)] for seen in batch]
                maps[RESNET_PRIOR] = torch.stack([resnet(picture).cpu() for picture in pictures])
            for name, values in maps.items():
                parts.setdefault(name, []).append(values)
    if not any(instant.is_positive for instant in kept):
        reasons = ", ".join(f"{count} x {reason}" for reason, count in unreadable.most_common())
        raise ManifestError(f"{clips.manifest.root}: no instant with a visible source can be read ({reasons}).")
    return InstantMaps(kept, {name: torch.cat(values) for name, values in parts.items()}, unreadable)


def _read(
    clips: InstantClips,
    instants: Sequence[Instant],
    partners: Partners,
    unreadable: Counter[str],
    seed: int,
    bar: tqdm,
) -> Iterator[_Seen]:
    """The readable ones; the others are counted by reason."""
    num_samples = clips.sampling.num_samples
    for number, instant in enumerate(instants):
        try:
            frames, place = clips.frames(instant)
            sounds = {TRAINED: clips.sound(instant), SHUFFLED: _borrowed(clips, partners, number)}
            name = f"{clips.manifest.value(instant.row, 'id')}/{instant.number}"
            noise = normal(clip_key(seed, 0, text_keys([name])), "localization_eval.noise", num_samples)[0].float()
            sounds |= {SILENCE: torch.zeros(num_samples), NOISE: NOISE_RMS * noise}
            yield _Seen(instant, frames, place, sounds)
        except MediaError as error:
            unreadable[f"{error.stream}: {error.reason}"] += 1
        bar.update()


def _borrowed(clips: InstantClips, partners: Partners, number: int) -> Tensor:
    """The sound of the first partner whose file can be read."""
    failure: MediaError | None = None
    for partner in partners.of(number):
        try:
            return clips.sound(partner)
        except MediaError as error:
            failure = error
    if failure is not None:
        raise failure
    raise ManifestError(f"{clips.manifest.root}: no clip of another picture has another sound, which could be lent.")


def _batches(seen: Iterator[_Seen], size: int) -> Iterator[list[_Seen]]:
    batch: list[_Seen] = []
    for each in seen:
        batch.append(each)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def _embed(models: Mapping[str, Pretrained], clips: InstantClips, batch: Sequence[_Seen]) -> dict[str, Tensor]:
    """(B, h, w) by name of the row."""
    pretrained = models[TRAINED]
    device, num_frames = pretrained.device, clips.sampling.num_frames
    video = pretrained.transform(_raw(clips, batch).to(device)).video
    spectrograms = {
        name: pretrained.transform.audio_input(torch.stack([seen.sounds[name] for seen in batch]).to(device))
        for name in batch[0].sounds
    }
    frame = torch.tensor([seen.place for seen in batch])
    maps: dict[str, Tensor] = {}
    with run_precision(pretrained).autocast(device):
        for name, model in ((name, each.model) for name, each in models.items()):
            cells = unit_cells(model, video)
            for row, heard in spectrograms.items() if name == TRAINED else [(name, spectrograms[TRAINED])]:
                found = sound_map(cells, model.sound_queries(heard), model.num_heads)
                maps[row] = smooth(maps_at(found.cpu(), frame, num_frames))
        seen = activation_map(pretrained.model.video_encoder, video)
    maps[OWN_PRIOR] = smooth(maps_at(seen.cpu(), frame, num_frames))
    return maps


def _raw(clips: InstantClips, batch: Sequence[_Seen]) -> Batch:
    rows = torch.tensor([seen.instant.row for seen in batch])
    ids = [str(clips.manifest.value(seen.instant.row, "id")) for seen in batch]
    parts = [
        Clip(name, seen.instant.row, seen.instant.number, seen.frames, 0.0, seen.sounds[TRAINED], 0.0)
        for name, seen in zip(ids, batch, strict=True)
    ]
    return collate(parts, BatchIndex(rows, rows, text_keys(ids)))
