"""The dataclasses that are passed between the parts of avssl.

None can be built inconsistent: ``__post_init__`` checks every shape, because a batch of seven videos and eight
audios would otherwise train without an error.

Dimensions: B clips, V views, T frames, H and W pixels or cells, S samples, D embedding size, M clips
of silence and noise, K negatives in time of a view, A windows of audio of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.familiarity import Familiarity
from avssl.core.predictions import AugmentedPair as AugmentedPair
from avssl.core.predictions import Originals as Originals
from avssl.core.predictions import Patches as Patches

Modality = Literal["video", "audio"]
_DIMENSIONS = {"video_map": 5, "audio_map": 3, "video_where_map": 5, "audio_where": 2, "joint": 2}


def _check(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def _check_chroma(video: Tensor, chroma: Tensor | None) -> None:
    """Raise ValueError unless ``chroma`` has half the size of ``video`` (..., 1, H, W)."""
    if chroma is None:
        return
    half = ((side + 1) // 2 for side in video.shape[-2:])
    expected = (*video.shape[:-3], 2, *half)
    _check(
        tuple(chroma.shape) == expected and chroma.dtype == torch.uint8,
        f"chroma must be {expected} uint8 beside luma {tuple(video.shape)}, got {tuple(chroma.shape)} {chroma.dtype}.",
    )


@dataclass(frozen=True)
class Clip:
    """One decoded sample: frames and audio of one manifest row."""

    id: str
    """The manifest id of the row."""
    row: int
    """Position of the row in the manifest, >= 0."""
    clip_number: int
    """Number of the clip of this row in this epoch, >= 0; part of every random key."""
    video: Tensor
    """(T, 3, H, W) uint8 RGB in [0, 255], upright; or (T, 1, H, W) luma with ``chroma``."""
    video_start_seconds: float
    """Presentation time of the first frame, in the file's own time."""
    audio: Tensor
    """(S,) float32 mono in [-1, 1], at the sample rate of the dataset. A training clip of several windows
    (:class:`~avssl.core.needs.TemporalWindows`) has them one after another here and in ``video``."""
    audio_start_seconds: float
    """Presentation time of the first sample, in the file's own time."""
    chroma: Tensor | None = None
    """(T, 2, ceil(H / 2), ceil(W / 2)) uint8 Cb and Cr, full range BT.601 as in JPEG; None with RGB. Half the bytes
    of RGB; the transforms convert to RGB on the device."""

    def __post_init__(self) -> None:
        channels = 3 if self.chroma is None else 1
        _check(
            self.video.ndim == 4 and self.video.shape[1] == channels and self.video.dtype == torch.uint8,
            f"{self.id}: video must be (T, {channels}, H, W) uint8, got {tuple(self.video.shape)} {self.video.dtype}.",
        )
        _check_chroma(self.video, self.chroma)
        _check(
            self.audio.ndim == 1 and self.audio.dtype == torch.float32,
            f"{self.id}: audio must be (S,) float32, got {tuple(self.audio.shape)} {self.audio.dtype}.",
        )


@dataclass(frozen=True)
class BatchIndex:
    """Rows, files and random keys of the clips of a batch."""

    row: Tensor
    """(B,) int64 manifest row (the memory row of the id)."""
    group: Tensor
    """(B,) int64; equal for rows cut from the same source file."""
    key: Tensor
    """(B,) int64 from :func:`avssl.core.draws.clip_key`: the root of all random draws of the clip."""

    def __post_init__(self) -> None:
        shapes = {tuple(t.shape) for t in (self.row, self.group, self.key)}
        _check(len(shapes) == 1 and self.row.ndim == 1, f"row, group and key must be (B,), got {shapes}.")

    def __len__(self) -> int:
        return len(self.row)

    def to(self, device: torch.device | str) -> BatchIndex:
        return BatchIndex(*(t.to(device, non_blocking=True) for t in (self.row, self.group, self.key)))


@dataclass(frozen=True)
class Batch:
    """B clips (raw), or V views of B clips (after the transforms, view-major).

    Raw: ``video`` is a uint8 canvas and ``audio`` a waveform. Transformed: ``video`` is
    normalized float and ``audio`` a spectrogram, and their first dimension is V * B.

    Example:
        >>> from avssl.data import ClipDataset, ClipSampling, EvalLoader
        >>> loader = EvalLoader(ClipDataset(avssl.read_manifest("corpus/manifest.csv"), ClipSampling()), batch_size=4)
        >>> batch, rows, failures = next(iter(loader))
        >>> len(batch.index), batch.audio.ndim
        (4, 2)
    """

    video: Tensor
    """Raw: (B, T, 3, H, W) uint8 canvas, or (B, T, 1, H, W) with ``chroma``. Transformed: (V*B, 3, T, h, w) float."""
    audio: Tensor
    """Raw: (B, S) float32 in [-1, 1]. Transformed: (V*B, 1, time, freq) float."""
    index: BatchIndex
    """The B clips."""
    valid_hw: Tensor | None = None
    """Raw: (B, 2) int64, the height and width of each clip inside the canvas, top left."""
    chroma: Tensor | None = None
    """Raw: (B, T, 2, ceil(H / 2), ceil(W / 2)) uint8, see :class:`Clip`; None where ``video`` is RGB."""
    negative_audio: Tensor | None = None
    """Transformed: (M, 1, time, freq) float spectrograms of silence and noise of no clip; None for none."""
    other_audio: Tensor | None = None
    """Transformed: (V*B*K, 1, time, freq) float spectrograms of each view's clip at other times; None for none."""
    originals: Originals | None = None
    """Transformed: the B clips without augmentation; None for none."""
    local_video: Tensor | None = None
    """Transformed: (L*B, 3, T, h', w') float frames of L local views, view-major; None for none."""
    local_audio: Tensor | None = None
    """Transformed: (L*B, 1, time', freq) float spectrograms of the local views; None for none."""

    def __post_init__(self) -> None:
        if self.is_raw:
            channels = 3 if self.chroma is None else 1
            _check(
                self.video.ndim == 5 and self.video.shape[2] == channels and self.audio.ndim == 2,
                f"a raw batch is video (B, T, {channels}, H, W) uint8 and audio (B, S), "
                f"got {tuple(self.video.shape)} and {tuple(self.audio.shape)}.",
            )
            _check_chroma(self.video, self.chroma)
            _check(len(self.video) == len(self.index), f"{len(self.video)} videos but {len(self.index)} ids.")
            _check(
                self.valid_hw is not None and tuple(self.valid_hw.shape) == (len(self.video), 2),
                "a raw batch needs valid_hw of shape (B, 2).",
            )
            _check(self.negative_audio is None, "a raw batch has no negative_audio: the transform makes it.")
        else:
            _check(
                self.video.ndim == 5 and self.video.shape[1] == 3 and self.audio.ndim == 4,
                "a transformed batch is video (V*B, 3, T, h, w) and audio (V*B, 1, time, freq), "
                f"got {tuple(self.video.shape)} and {tuple(self.audio.shape)}.",
            )
            _check(
                len(self.index) > 0 and len(self.video) % len(self.index) == 0,
                f"{len(self.video)} videos are not whole views of {len(self.index)} clips.",
            )
            negative = self.negative_audio
            _check(
                negative is None or negative.shape[1:] == self.audio.shape[1:],
                f"negative_audio must be (M, {str(tuple(self.audio.shape[1:]))[1:]} as audio, "
                f"got {None if negative is None else tuple(negative.shape)}.",
            )
        _check(
            self.originals is None or len(self.originals.video) == len(self.index),
            f"originals must be the {len(self.index)} clips of the batch.",
        )
        local = self.local_video, self.local_audio
        _check(
            local[0] is local[1] is None
            or (
                local[0] is not None
                and local[1] is not None
                and len(local[0]) == len(local[1])
                and len(local[0]) % len(self.index) == 0
            ),
            f"local_video and local_audio must both hold whole views of {len(self.index)} clips, "
            f"got {[None if x is None else tuple(x.shape) for x in local]}.",
        )
        _check(len(self.video) == len(self.audio), f"video holds {len(self.video)} clips and audio {len(self.audio)}.")

    @property
    def is_raw(self) -> bool:
        """True before the transforms."""
        return self.video.dtype == torch.uint8

    @property
    def num_views(self) -> int:
        """V; 1 for a raw batch."""
        return len(self.video) // len(self.index)

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> Batch:
        """Return a raw batch on ``device``; copies from pinned memory do not block."""
        moved: dict[str, Any] = {
            item.name: value.to(device, non_blocking=True)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), Tensor)
        }
        return replace(self, **moved, index=self.index.to(device))


@dataclass(frozen=True)
class Embeddings:
    """Output of the model and input of objectives: V views of B clips, view-major, not normalized.

    Example:
        >>> embeddings = Embeddings(video=torch.ones(8, 128), audio=torch.ones(8, 128))
        >>> avssl.info_nce(embeddings.video, embeddings.audio, temperature=0.1)  # log 8: all clips look alike
        tensor(2.0794)
    """

    video: Tensor
    """(V*B, D) projection of the pooled video features."""
    audio: Tensor
    """(V*B, D) projection of the pooled audio features."""
    video_map: Tensor | None = None
    """(V*B, D, T, H, W): the video head on every cell; None unless the objective needs maps."""
    audio_map: Tensor | None = None
    """(V*B, D, T): the audio head on every time cell (frequency pooled); None unless needed."""
    video_where_map: Tensor | None = None
    """(V*B, D, T, H, W): the second ("where") video head on every cell; None without it or without maps."""
    audio_where: Tensor | None = None
    """(V*B, D): the second audio head on the pooled features, with ``video_where_map``; else None."""
    logit_scale: Tensor | None = None
    """() learned inverse temperature, or None when it is fixed."""
    logit_bias: Tensor | None = None
    """() learned offset of every logit, or None."""
    negative_audio: Tensor | None = None
    """(M, D) projection of the pooled features of silence and noise, which belong to no clip; None for none."""
    negative_audio_map: Tensor | None = None
    """(M, D, T): the audio head on every time cell of them; None unless the objective needs maps."""
    audio_heard: Tensor | None = None
    """(V*B, T) bool: audible time cells of ``audio_map``; None unless the objective needs them."""
    other_audio: Tensor | None = None
    """(V*B, K, D) projection of the pooled features of each view's clip at other times; None for none."""
    other_audio_map: Tensor | None = None
    """(V*B, K, D, T): the audio head on every time cell of them; None unless the objective needs maps."""
    other_heard: Tensor | None = None
    """(V*B, K, T) bool: audible time cells of ``other_audio_map``; None unless needed."""
    video_scores: Tensor | None = None
    """(V*B, H, P) cosines of the video embedding with P prototypes in each of H sets; None without prototypes."""
    audio_scores: Tensor | None = None
    """(V*B, H, P) cosines of the audio embedding with its prototypes; None without."""
    video_prototypes: Tensor | None = None
    """(H, P, D) unit prototypes of video, without gradient, to score stored embeddings; None without."""
    audio_prototypes: Tensor | None = None
    """(H, P, D) unit prototypes of audio, without gradient; None without."""
    video_prediction: Tensor | None = None
    """(V*B, D): the predictor on the video embedding; None without a predictor."""
    audio_prediction: Tensor | None = None
    """(V*B, D): the predictor on the audio embedding; None without a predictor."""
    video_augmented: AugmentedPair | None = None
    """Predicted and true embeddings of the augmented frames of B clips; None without an equivariant branch."""
    audio_augmented: AugmentedPair | None = None
    """Predicted and true embeddings of the augmented audio of B clips; None without an equivariant branch."""
    joint: Tensor | None = None
    """(V*B, D) embedding of video and audio together, of one of them for some clips; None without a joint head."""
    video_patches: Patches | None = None
    """Patches of the frames of each clip, frame by frame; None unless the objective needs them."""
    audio_patches: Patches | None = None
    """Patches of the spectrogram of each clip; None unless the objective needs them."""
    local: Embeddings | None = None
    """Embeddings of the L*B local views, with their scores and predictions; None for none."""

    def __post_init__(self) -> None:
        _check(
            self.video.ndim == 2 and self.video.shape == self.audio.shape,
            "video and audio must hold the same clips in the same order, "
            f"got video {tuple(self.video.shape)} and audio {tuple(self.audio.shape)}.",
        )
        for name, ndim in _DIMENSIONS.items():
            value = getattr(self, name)
            _check(
                value is None or (value.ndim == ndim and value.shape[:2] == self.video.shape),
                f"{name} must start with {tuple(self.video.shape)} and have {ndim} dimensions, "
                f"got {None if value is None else tuple(value.shape)}.",
            )
        heard, audio_map = self.audio_heard, self.audio_map
        _check(
            heard is None or (audio_map is not None and heard.shape == audio_map[:, 0].shape),
            "audio_heard must be (V*B, T) beside audio_map (V*B, D, T), "
            f"got {None if heard is None else tuple(heard.shape)}.",
        )
        negative, negative_map = self.negative_audio, self.negative_audio_map
        _check(
            negative is None or (negative.ndim == 2 and negative.shape[1:] == self.audio.shape[1:]),
            f"negative_audio must be (M, {self.audio.shape[1]}), "
            f"got {None if negative is None else tuple(negative.shape)}.",
        )
        other, other_map = self.other_audio, self.other_audio_map
        _check(
            other is None or (other.ndim == 3 and other[:, 0].shape == self.audio.shape),
            f"other_audio must be (V*B, K, D) beside audio {tuple(self.audio.shape)}, "
            f"got {None if other is None else tuple(other.shape)}.",
        )
        _check(
            other_map is None or (other is not None and other_map.ndim == 4 and other_map.shape[:3] == other.shape),
            "other_audio_map must be (V*B, K, D, T) beside other_audio (V*B, K, D), "
            f"got {None if other_map is None else tuple(other_map.shape)}.",
        )
        _check(
            negative_map is None
            or (negative is not None and negative_map.ndim == 3 and negative_map.shape[:2] == negative.shape),
            "negative_audio_map must be (M, D, T) beside negative_audio (M, D), "
            f"got {None if negative_map is None else tuple(negative_map.shape)}.",
        )
        self._check_learned()

    def _check_learned(self) -> None:
        """Raise ValueError if outputs of learned heads do not fit the embeddings."""
        predicted = self.video_prediction, self.audio_prediction
        _check(
            predicted[0] is predicted[1] is None
            or all(x is not None and x.shape == self.video.shape for x in predicted),
            f"video_prediction and audio_prediction must both be {tuple(self.video.shape)}, "
            f"got {[None if x is None else tuple(x.shape) for x in predicted]}.",
        )
        scores = self.video_scores, self.audio_scores
        _check(
            scores[0] is scores[1] is None
            or all(x is not None and x.ndim == 3 and len(x) == len(self.video) for x in scores),
            f"video_scores and audio_scores must both be (V*B, H, P) of {len(self.video)} views, "
            f"got {[None if x is None else tuple(x.shape) for x in scores]}.",
        )
        for name, rows, of_them in zip(
            ("video", "audio"), (self.video_prototypes, self.audio_prototypes), scores, strict=True
        ):
            _check(
                rows is None or (of_them is not None and rows.shape == (*of_them.shape[1:], self.video.shape[1])),
                f"{name}_prototypes must be (H, P, D) beside {name}_scores (V*B, H, P), "
                f"got {None if rows is None else tuple(rows.shape)}.",
            )

    def detach(self) -> Embeddings:
        """Return the same values without gradient, for banks and queues."""
        # A tensor, patches, or the embeddings of local views.
        detached: dict[str, Any] = {name: value.detach() for name, value in vars(self).items() if value is not None}
        return Embeddings(**detached)


@dataclass(frozen=True)
class LossTerms:
    """Output of an objective."""

    total: Tensor
    """() float32 with gradient: the number to minimize."""
    terms: dict[str, Tensor] = field(default_factory=dict)
    """() detached tensors by name, on the device until they are logged."""

    def __post_init__(self) -> None:
        _check(self.total.ndim == 0, f"total must be a scalar, got shape {tuple(self.total.shape)}.")


@dataclass(frozen=True)
class Heatmap:
    """Location of the audio's source in the frames of one video.

    Example:
        >>> values = torch.tensor([[[0.1, 0.7], [0.0, 0.2]]])  # one map of 2 x 2 cells
        >>> Heatmap(values, at_seconds=torch.tensor([0.5]), confidence=values.amax((1, 2))).confidence
        tensor([0.7000])
    """

    values: Tensor
    """(T, h, w) float32 cosine similarity in [-1, 1] at the resolution of the visual map."""
    at_seconds: Tensor
    """(T,) float64 presentation time of each map, ascending."""
    confidence: Tensor
    """(T,) float32 in [-1, 1]: the maximum of each map."""
    head_values: Tensor | None = None
    """(T, K, h, w) float32 in [-1, 1]: the map of each of the model's K heads; None if there is one."""
    familiarity: Familiarity | None = None
    """Likeness of the video to the training clips of the model; None if it was not checked."""

    def __post_init__(self) -> None:
        _check(
            self.head_values is None
            or (self.head_values.ndim == 4 and self.head_values[:, 0].shape == self.values.shape),
            f"head_values must be (T, K, h, w) beside values {tuple(self.values.shape)}, "
            f"got {None if self.head_values is None else tuple(self.head_values.shape)}.",
        )
        _check(
            self.values.ndim == 3
            and self.at_seconds.shape == self.values.shape[:1]
            and self.confidence.shape == self.values.shape[:1],
            f"one time and one confidence a map: values {tuple(self.values.shape)}, "
            f"at_seconds {tuple(self.at_seconds.shape)}, confidence {tuple(self.confidence.shape)}.",
        )
