"""Signs, without boxes or masks, that heat maps lie where something is seen.

Retrieval does not tell: the highest cosine of a map can be right while the cell that has it lies beside the object. So
the same clips are looked at again, mirrored, and with the audio of another clip, and the pixels are found that the
highest cell depends on.

Dimensions: N clips, D embedding size, h and w cells of a map.
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.engine import Precision
from avssl.engine.replicas import unwrapped
from avssl.localization.evidence import evidence_offset
from avssl.localization.similarity import at_instant, smooth, sound_map
from avssl.models import ClipEncoder
from avssl.training.monitors.clips import FixedClips
from avssl.training.tasks import PretrainTask

NEAR_CELLS = 1
"""Peaks at most this many rows and columns apart are at the same place."""
OFFSET_CLIPS, OFFSET_CHUNK = 32, 4
"""Clips whose evidence is looked for, and how many at a time: it takes a backward pass, and few clips give the mean."""


def map_numbers(task: PretrainTask, clips: FixedClips, precision: Precision) -> dict[str, float]:
    """Return how often the peak of a map stays at its place, in [0, 1], and whether it lies on its evidence.

    All maps are those in the middle of a clip.

    - ``maps/mirror_agreement``: when the frames are mirrored, and the map is mirrored back. Near 1 for a map of what is
      seen, whatever it is; near ``chance`` if the peak depends on anything else, such as the place in the frame.
    - ``maps/other_audio_agreement``: when the audio is that of another clip. As high as ``mirror_agreement`` if the
      maps do not depend on the audio.
    - ``maps/chance_agreement``: with the map of another clip.
    - ``maps/offset_time``, ``maps/offset_down``, ``maps/offset_right``: where the evidence for the peak lies, in cells
      from the peak (:func:`~avssl.localization.evidence.evidence_offset`), mean over the first 32 clips.

    The task is left in evaluation mode.
    """
    task.eval()
    model = unwrapped(task.model)
    encoder = ClipEncoder(model, task.transform, precision)
    straight: list[Tensor] = []
    mirrored: list[Tensor] = []
    heard: list[Tensor] = []
    offsets: list[Tensor] = []
    for batch in clips:
        video, audio = encoder.model_input(batch, "video"), encoder.model_input(batch, "audio")
        queries = encoder.queries(audio)
        num_frames = video.shape[2]
        middle = torch.full((len(video),), num_frames / 2, device=video.device)
        for parts, cells in zip((straight, mirrored), encoder.mirrored_cells(video), strict=True):
            place, query = at_instant(cells, queries.float(), middle, num_frames)
            parts.append(place.cpu())
        heard.append(query.cpu())
        if OFFSET_CHUNK * len(offsets) < OFFSET_CLIPS:
            inputs = zip(video.split(OFFSET_CHUNK), audio.split(OFFSET_CHUNK), strict=True)
            with precision.computing(model, encoder.device):
                offsets += [evidence_offset(model, *map(precision.arrange, chunk)).cpu() for chunk in inputs]
    return agreements(torch.cat(straight), torch.cat(mirrored), torch.cat(heard), encoder.num_heads) | {
        f"maps/offset_{name}": value
        for name, value in zip(("time", "down", "right"), torch.cat(offsets).mean(dim=0).tolist(), strict=True)
    }


def agreements(straight: Tensor, mirrored: Tensor, queries: Tensor, num_heads: int = 1) -> dict[str, float]:
    """Return the numbers of :func:`map_numbers`.

    Args:
        straight: (N, D, 1, h, w) unit cells.
        mirrored: (N, D, 1, h, w) unit cells of the mirrored frames, mirrored back.
        queries: (N, D, 1) audio of the same clips.
        num_heads: K of the model.
    """
    other = queries.roll(len(queries) // 2, dims=0)
    own, seen_again, heard_again = (
        peaks(sound_map(cells, query, num_heads)[:, 0])
        for cells, query in ((straight, queries), (mirrored, queries), (straight, other))
    )
    places = {
        "mirror": seen_again,
        "other_audio": heard_again,
        "chance": own.roll(len(own) // 2, dims=0),
    }
    return {f"maps/{name}_agreement": near(own, place) for name, place in places.items()}


def peaks(maps: Tensor) -> Tensor:
    """Return the (N, 2) row and column of the highest cell of (N, h, w) maps, smoothed as for localization."""
    width = maps.shape[2]
    cell = smooth(maps).flatten(1).argmax(dim=1)
    return torch.stack([cell // width, cell % width], dim=1)


def near(one: Tensor, other: Tensor) -> float:
    """Return the share of (N, 2) cells that lie near those of the other."""
    return ((one - other).abs().amax(dim=1) <= NEAR_CELLS).double().mean().item()
