"""Likeness of a file to the clips that a model was trained on: one check for every verb that looks at a user's file.

Two questions are asked of at most 16 windows that do not overlap, evenly spread over the file:

- Do its frames and its audio lie where those of the training corpus lie? (:mod:`avssl.hub.training_world`) Of several
  corpora the one is meant whose frames are nearest.
- Is the model surer of the file's own audio than of silence, and of other clips' audio? A model that understands the
  file is; a map is drawn in either case.

Dimensions: n windows, D embedding size, S steps of the audio.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.stats import permutation_test
from torch import Tensor

from avssl.core.batch import Modality
from avssl.core.familiarity import DomainScore, Familiarity, SoundCheck
from avssl.engine import Precision
from avssl.hub.pretrained import PretrainedModel
from avssl.hub.training_world import TrainingWorld, describe_clips
from avssl.localization.similarity import sound_map
from avssl.localization.windows import AudioSource, AudioWindows, FrameWindows
from avssl.media import MediaReader
from avssl.models import ClipEncoder
from avssl.training.build import build_transform

MOST_WINDOWS = 16
_BATCH = 4
_EXACT = 2**MOST_WINDOWS  # sign flips of so many windows are all tried
_BOTH: tuple[Modality, Modality] = ("video", "audio")


@torch.no_grad()
def check_familiarity(
    reader: MediaReader,
    pretrained: PretrainedModel,
    audio_from: AudioSource = None,
    *,
    modalities: Sequence[Modality] = _BOTH,
    audio_late_seconds: float = 0.0,
    stop_after_seconds: float | None = None,
) -> Familiarity:
    """Compare a file with the clips that a model was trained on.

    Args:
        reader: The file; a stream that it lacks is not compared.
        pretrained: The model, with any crop: the check uses the crop of the model's own evaluation, as its statistics
            do.
        audio_from: The audio, as in :func:`avssl.localization.sliding_heatmaps`. Silence and noise are no audio to
            compare: the frames alone are.
        modalities: Streams to compare; both are needed to compare the own audio with silence.
        audio_late_seconds: By how much the audio is late: the model may know a video whose streams are shifted against
            each other.
        stop_after_seconds: Look at this much of the file only, from its start.
    """
    encoder, sampling = _encoder(pretrained), pretrained.sampling
    instants = _instants(reader, sampling.video_seconds, sampling.audio_seconds, stop_after_seconds)
    frames, sound = _Found(), _Found()
    if "video" in modalities and reader.info.has_video:
        windows = FrameWindows(reader, sampling, stop_after_seconds)
        for part in windows.read(windows.starts(instants), _BATCH):
            x = encoder.video_input(part)
            frames.add(describe_clips(encoder, "video", x), encoder.cells(x).cpu())
    has_audio = reader.info.has_audio if audio_from is None else not isinstance(audio_from, str)
    if "audio" in modalities and has_audio:
        source = AudioWindows(reader, audio_from)
        for part in instants.split(_BATCH):
            x = encoder.audio_input(
                source.around(part + audio_late_seconds, sampling.audio_seconds, sampling.sample_rate_hz)
            )
            sound.add(describe_clips(encoder, "audio", x), encoder.queries(x).float().cpu())
    streams: dict[Modality, _Found] = {"video": frames, "audio": sound}
    described = {modality: torch.cat(found.descriptions) for modality, found in streams.items() if found.descriptions}
    world, domains = _nearest(described, pretrained.worlds)
    check = None
    if frames.vectors and sound.vectors:
        silence = encoder.queries(encoder.audio_input(torch.zeros(1, sampling.num_samples))).float().cpu()
        others = None if world is None else world.queries
        cells, queries = torch.cat(frames.vectors), torch.cat(sound.vectors)
        check = _sound_check(cells, queries, silence, others, encoder.num_heads)
    return Familiarity(len(instants), domains, check, pretrained.trained_on)


class _Found:
    """Descriptions, and cells or queries, of the windows of one stream."""

    def __init__(self) -> None:
        self.descriptions: list[Tensor] = []
        self.vectors: list[Tensor] = []

    def add(self, descriptions: Tensor, vectors: Tensor) -> None:
        self.descriptions.append(descriptions)
        self.vectors.append(vectors)


def _encoder(pretrained: PretrainedModel) -> ClipEncoder:
    """Return the model with its own evaluation crop, which the statistics were measured with."""
    transform = build_transform(pretrained.config, eval_size=pretrained.config.transform.video.size)
    transform.load_state_dict(pretrained.transform.state_dict())
    return ClipEncoder(pretrained.model, transform.eval().to(pretrained.device), Precision())


def _instants(
    reader: MediaReader, video_seconds: float, audio_seconds: float, stop_after_seconds: float | None
) -> Tensor:
    """Return (n,) float64 middles of windows that do not overlap, evenly spread; one in a short file."""
    info = reader.info
    start, stop = info.video_start_seconds, info.video_stop_seconds
    if start is None or stop is None:
        start, stop = info.audio_start_seconds or 0.0, info.audio_stop_seconds or 0.0
    if stop_after_seconds is not None:
        stop = min(stop, start + stop_after_seconds)
    count = int((stop - start) / max(video_seconds, audio_seconds) + 1e-6)
    count = min(max(count, 1), MOST_WINDOWS)
    return start + (torch.arange(count, dtype=torch.float64) + 0.5) * (stop - start) / count


def _nearest(
    described: dict[Modality, Tensor], worlds: Sequence[TrainingWorld]
) -> tuple[TrainingWorld | None, tuple[DomainScore, ...]]:
    """Return the corpus whose frames, or else audio, are nearest for its threshold, and the distances from it."""
    every = [tuple(_domain(m, vectors, world) for m, vectors in described.items()) for world in worlds]
    if not every or not described:
        return (worlds[0] if worlds else None), ()

    def distance(number: int) -> float:
        """Return the distance as a multiple of the threshold, which is 0 for a corpus of equal clips."""
        nearest = every[number][0]
        return nearest.score / max(nearest.threshold, 1e-12)

    best = min(range(len(every)), key=distance)
    return worlds[best], every[best]


def _domain(modality: Modality, vectors: Tensor, world: TrainingWorld) -> DomainScore:
    novelty = world.streams[modality]
    score = float(novelty.scores(vectors).median())
    name = "frames" if modality == "video" else "audio"
    return DomainScore(name, score, float(novelty.threshold), float(novelty.false_alarms), int(novelty.num_rows))


def _sound_check(cells: Tensor, own: Tensor, silence: Tensor, others: Tensor | None, num_heads: int) -> SoundCheck:
    def confidence(queries: Tensor) -> Tensor:
        """Return (n,) highest cosines of the windows' cells with n queries, or with one."""
        return sound_map(cells, queries.expand(len(cells), -1, -1), num_heads).amax(dim=(1, 2, 3)).double()

    own_n, silence_n = confidence(own), confidence(silence)
    mean, others_p = None, None
    if others is not None:
        means = torch.stack([confidence(query[None]).mean() for query in others])
        mean = float(means.mean())
        others_p = (1 + int((means >= own_n.mean()).sum())) / (len(means) + 1)
    return SoundCheck(
        float(own_n.mean()),
        float(silence_n.mean()),
        sign_flip_p((own_n - silence_n).numpy()),
        len(own_n),
        mean,
        others_p,
        0 if others is None else len(others),
    )


def sign_flip_p(differences: np.ndarray) -> float:
    """Return p of the exact one-sided sign-flip test that the mean of (n,) paired differences is not above 0.

    It is uniform over its 2^n values where the sign of each difference is a coin's.
    """
    if len(differences) < 2:
        return 1.0 if differences[0] <= 0 else 0.5
    found = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=_EXACT, alternative="greater", vectorized=True
    )
    return float(found.pvalue)
