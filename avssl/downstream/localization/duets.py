"""Sources in mixtures: does the map of a source find it, and not the other one?

Two kinds of rows have them. A frame of a duet has boxes with a label for each instrument (MUSIC-Duet): its sources are
scored under the mixture, and each under the audio of another clip that has its class alone, so that a class-agnostic
model can be scored too. And in a mixture of two clips (VGGSound-Duet), named by ``mixed_audio_path``, each clip's frame
is shown with the audio of both.

Dimensions: N sources, h and w cells, H and W pixels of the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avssl.core.draws import epoch_order, text_keys
from avssl.core.manifest import Manifest
from avssl.data.official.box_truth import read_boxes
from avssl.downstream.localization.baselines import CENTER, WHOLE
from avssl.downstream.localization.clips import InstantClips
from avssl.downstream.localization.instants import Instant
from avssl.downstream.localization.maps import TRAINED, prompted_maps
from avssl.downstream.localization.rows import box_truth
from avssl.downstream.localization.scores import Numbers
from avssl.evaluation import center_blob, ciou, whole_frame
from avssl.evaluation.localization.curves import auc, success
from avssl.evaluation.localization.duets import CIOU_AT, best_assignment, class_mean, pixel_precision
from avssl.hub.pretrained import PretrainedModel

PROMPTED = "trained model, audio of the class alone"
_TRIES = 4  # clips of a class that are tried until one can be read


@dataclass(frozen=True, eq=False)
class Source:
    """One sounding object of a mixture."""

    place: int
    """Position of its instant among the scored ones."""
    label: str
    """Its class."""
    truth: Tensor
    """(H, W) float32: its boxes."""


def find_sources(manifest: Manifest, instants: Sequence[Instant]) -> list[Source]:
    """Return the sources of all mixtures among the instants, in order."""
    sources: list[Source] = []
    for place, instant in enumerate(instants):
        path = manifest.truth_file(instant.row)
        if path is None or path.suffix != ".json" or instant.is_mask:
            continue
        clip = read_boxes(path)
        frame = clip.frames[instant.number]
        labels = sorted({box.label for box in frame.boxes if box.label})
        if len(labels) < 2 and not manifest.value(instant.row, "mixed_audio_path"):
            continue
        for label in labels:
            alone = replace(frame, boxes=[box for box in frame.boxes if box.label == label])
            sources.append(Source(place, label, box_truth(clip, alone)))
    return sources


def duet_rows(
    pretrained: PretrainedModel,
    clips: InstantClips,
    maps: Mapping[str, Tensor],
    instants: Sequence[Instant],
    rules: Sequence[str],
    seed: int,
    batch_size: int,
) -> dict[str, Numbers]:
    """Score the maps of the sources in mixtures.

    Args:
        clips: Reader of the instants.
        maps: Name of the row -> (P, h, w) under the mixture.
        instants: P with a sounding object.
        rules: Binarization rules.
        seed: Random seed of the clips that lend the audio of a class.

    Returns:
        Name of the row -> ``n`` sources; for each rule ``ciou30_<rule>``, the share with a cIoU of 0.3, and
        ``auc_<rule>``; ``cap``, the average precision of pixels, a mean over classes; and ``piap``, that under the best
        assignment of a frame's maps to its sources. Empty without mixtures.
    """
    sources = find_sources(clips.manifest, instants)
    if not sources:
        return {}
    places = [source.place for source in sources]
    hw = (int(sources[0].truth.shape[0]), int(sources[0].truth.shape[1]))
    rows = {name: values[places] for name, values in maps.items()}
    rows |= {CENTER: center_blob(len(sources), hw), WHOLE: whole_frame(len(sources), hw)}
    found = {name: _numbers(values, sources, rules) for name, values in rows.items()}
    lenders = [_lenders(clips.manifest, instants[source.place], source.label, seed) for source in sources]
    asked = [place for place, rows_of in enumerate(lenders) if rows_of]
    if asked:
        shown = [instants[sources[place].place] for place in asked]
        prompted, read = prompted_maps(pretrained, clips, shown, [lenders[place] for place in asked], batch_size)
        if read:
            found[PROMPTED] = _numbers(prompted, [sources[asked[number]] for number in read], rules)
    first = [TRAINED, PROMPTED]
    return {name: found[name] for name in [*first, *found] if name in found}


def _lenders(manifest: Manifest, instant: Instant, label: str, seed: int) -> list[Instant]:
    """Return clips of a class alone, from other files, in random order, read at their middle."""
    own = manifest.file(instant.row)
    labels = manifest["label"] if "label" in manifest else [None] * len(manifest)
    rows = [row for row, name in enumerate(labels) if name == label and manifest.file(row) != own]
    mixed = manifest["mixed_audio_path"] if "mixed_audio_path" in manifest else [None] * len(manifest)
    rows = [row for row in rows if not mixed[row]]
    if not rows:
        return []
    order = epoch_order(seed, 0, text_keys(str(manifest.value(row, "id")) for row in rows)).tolist()
    return [replace(instant, row=rows[number], seconds=None, picture=None) for number in order[:_TRIES]]


def _numbers(maps: Tensor, sources: Sequence[Source], rules: Sequence[str]) -> Numbers:
    truth = torch.stack([source.truth for source in sources])
    precision, classes = pixel_precision(maps, truth), [source.label for source in sources]
    numbers: Numbers = {"n": float(len(sources))}
    for rule in rules:
        values = torch.as_tensor(ciou(maps, truth, rule))
        numbers |= {f"ciou30_{rule}": success(values, CIOU_AT), f"auc_{rule}": auc(values)}
    by_frame: dict[int, list[int]] = {}
    for number, source in enumerate(sources):
        by_frame.setdefault(source.place, []).append(number)
    best = [_best_of_frame(maps[of], truth[of]) for of in by_frame.values()]
    return numbers | {"cap": class_mean(precision, classes), "piap": float(np.mean(best))}


def _best_of_frame(maps: Tensor, truth: Tensor) -> float:
    """Return the best assignment's precision of the maps and sources of one frame."""
    count = len(maps)
    pairs = pixel_precision(maps.repeat_interleave(count, dim=0), truth.repeat(count, 1, 1))
    return best_assignment(pairs.reshape(count, count))
