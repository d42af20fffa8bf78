"""How much of the audio of StampScenes is made by augmentation, for `benchmarks/real.py --augmentation`.

Dimensions: V views of a clip, B clips, D values of a spectrogram.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from localization import untrained
from real_stamps_measures import STRONG, Method, settings
from shapes_in_memory import Clips, MemoryLoader
from torch import Tensor

from avssl.training.build import build_sampling

VIEWS, CLIPS = 8, 128
PARTS: dict[str, tuple[str, ...]] = {
    "loudness alone (default)": (),
    "more loudness": ("gain",),
    "pitch": ("max_semitones",),
    "masks": ("max_time_width", "max_freq_width"),
    "noise": ("noise_probability",),
    "filter": ("filter_probability",),
    "all but filter and noise": ("gain", "max_semitones", "max_time_width", "max_freq_width"),
    "all (strong augmentation)": tuple(STRONG["audio"]),
}
"""Parts of strong augmentation, by the settings that they change."""


def audio_share(views: Tensor) -> float:
    """Return the share of variance that is between views of a clip, and not between clips.

    Args:
        views: (V, B, D) values, independent views of the same clips.

    Returns:
        A number in [0, 1]: 0 if all views of a clip are equal, 1 if clips differ no more than views do.
    """
    within = views.var(dim=0).mean()
    # The mean of V views still has a share 1 / V of the variance between them.
    between = (views.mean(dim=0).var(dim=0).mean() - within / len(views)).clamp(min=0)
    return float(within / (within + between))


def shares(world: Clips, seed: int = 0) -> Mapping[str, float]:
    """Return :func:`audio_share` of standardized spectrograms of training clips, by the part of augmentation."""
    found = {}
    for part, changed in PARTS.items():
        method = Method(augmentation={"audio": {name: STRONG["audio"][name] for name in changed}})
        config = settings(method, seed)
        transform = untrained(config, world).transform.train()
        rows = world.rows("train")
        raw = next(iter(MemoryLoader(world, rows, min(CLIPS, len(rows)), seed, build_sampling(config))))
        keys = [raw.index.key + view for view in range(VIEWS)]
        views = [transform.audio_views(replace(raw, index=replace(raw.index, key=key)))[:, 0] for key in keys]
        found[part] = audio_share(torch.stack(views).flatten(2))
    return found


def share_table(found: Mapping[str, float]) -> str:
    """Return a Markdown table of :func:`shares`."""
    lines = [f"| {part} | {share:.2f} |" for part, share in found.items()]
    return "\n".join(["| augmentation of audio | share of the variance |", "| --- | ---: |", *lines])
