"""Two encoders and two heads as the one module that is trained, wrapped and saved.

Dimensions: B clips (all views together), C encoder features, D embedding size; T', H', W' cells
of the video map, T' also time cells of the audio map.
"""

from __future__ import annotations

from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..batch import Embeddings
from .chunking import in_chunks
from .encoder import Encoder
from .heads import LogitScale, ProjectionHead


class AVModel(nn.Module):
    """Embeds video and sound in one space.

    DDP, FSDP and ``torch.compile`` wrap this module: one :meth:`forward` a step runs every
    parameter. The other methods serve inference and extraction.

    Args:
        video_encoder: Encoder of (B, 3, T, H, W).
        audio_encoder: Encoder of (B, 1, time, freq).
        video_head: From the video encoder's ``num_features`` to D.
        audio_head: From the audio encoder's ``num_features`` to D.
        logits: A learned inverse temperature and offset, for objectives that want them.
        num_heads: K: how many groups of D / K channels are compared each for itself where a sound meets
            the cells of a map.
        sound_over_time: Whether a sound meets the map step by step, and not as a whole.

    Raises:
        ValueError: If the modalities are exchanged or the sizes do not fit.
    """

    def __init__(
        self,
        video_encoder: Encoder,
        audio_encoder: Encoder,
        video_head: ProjectionHead,
        audio_head: ProjectionHead,
        logits: LogitScale | None = None,
        *,
        num_heads: int = 1,
        sound_over_time: bool = False,
    ) -> None:
        super().__init__()
        _check_pair("video", video_encoder, video_head)
        _check_pair("audio", audio_encoder, audio_head)
        if video_head.out_features != audio_head.out_features:
            raise ValueError(
                "both heads must end in the same embedding size, "
                f"got video {video_head.out_features} and audio {audio_head.out_features}."
            )
        if num_heads < 1 or video_head.out_features % num_heads:
            raise ValueError(
                f"the embedding size ({video_head.out_features}) must be a multiple of num_heads ({num_heads} >= 1)."
            )
        self.num_heads = num_heads
        self.sound_over_time = sound_over_time
        self.video_encoder = video_encoder
        self.audio_encoder = audio_encoder
        self.video_head = video_head
        self.audio_head = audio_head
        self.logits = logits

    @property
    def embedding_size(self) -> int:
        """D."""
        return self.video_head.out_features

    def forward(
        self,
        video: Tensor,
        audio: Tensor,
        needs_maps: bool = False,
        chunk_size: int | None = None,
        negative_audio: Tensor | None = None,
    ) -> Embeddings:
        """Embeddings of clips, from one trunk pass for each modality.

        Args:
            video: (B, 3, T, H, W) normalized float.
            audio: (B, 1, time, freq) spectrograms of the same clips in the same order.
            needs_maps: Also apply the heads to every cell; the pooled embeddings stay as they are.
            chunk_size: Clips that pass the encoders at a time, for batches whose activations do not
                fit; backward computes each chunk anew. Chunks are made here, inside the one call
                that DDP wraps. BatchNorm in training normalizes within a chunk.
            negative_audio: (M, 1, time, freq) spectrograms of silence and noise. They pass the encoder
                and the head behind the clips' sounds, in one batch: BatchNorm in training normalizes
                all of them together, and its running statistics are of clips and negatives.

        Returns:
            ``video`` and ``audio`` (B, D); with ``needs_maps`` also ``video_map``
            (B, D, T', H', W') and ``audio_map`` (B, D, T'). Not normalized. ``logit_scale`` and
            ``logit_bias`` where the model learns them; ``negative_audio`` (M, D) and its map where it
            was given.

        Raises:
            ValueError: If an input has another layout, or the two differ in B.
        """
        sounds = audio if negative_audio is None else torch.cat([audio, negative_audio])
        if chunk_size is None:
            video_side = _project(self.video_encoder, self.video_head, video, needs_maps)
            audio_side = _project(self.audio_encoder, self.audio_head, sounds, needs_maps)
        else:  # one modality after the other, so that a chunk of one alone is in memory
            video_side = self._in_chunks(self.video_encoder, self.video_head, video, needs_maps, chunk_size)
            audio_side = self._in_chunks(self.audio_encoder, self.audio_head, sounds, needs_maps, chunk_size)
        logit_scale, logit_bias = (None, None) if self.logits is None else self.logits()
        (own, negative), (own_map, negative_map) = (_split(rows, len(audio)) for rows in audio_side)
        assert own is not None, "_project always gives it"
        return Embeddings(
            video_side[0],
            own,
            video_side[1],
            own_map,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            negative_audio=negative,
            negative_audio_map=negative_map,
        )

    def _in_chunks(
        self, encoder: Encoder, head: ProjectionHead, x: Tensor, needs_maps: bool, chunk_size: int
    ) -> tuple[Tensor, Tensor | None]:
        def project(rows: Tensor) -> tuple[Tensor, Tensor | None]:
            return _project(encoder, head, rows, needs_maps)

        embedding, cells = in_chunks(nn.ModuleList([encoder, head]), project, (x,), chunk_size)
        assert embedding is not None, "_project always gives it"
        return embedding, cells

    def encode_video(self, video: Tensor) -> Tensor:
        """(B, C) pooled video features, before the head: what probes use."""
        return self.video_encoder(video)

    def encode_audio(self, audio: Tensor) -> Tensor:
        """(B, C) pooled audio features, before the head: what probes use."""
        return self.audio_encoder(audio)

    def embed_video(self, video: Tensor) -> Tensor:
        """(B, D) video embeddings: the head on the pooled features."""
        return self.video_head(self.video_encoder(video))

    def embed_audio(self, audio: Tensor) -> Tensor:
        """(B, D) audio embeddings: the head on the pooled features."""
        return self.audio_head(self.audio_encoder(audio))

    def energy(self, video: Tensor, audio: Tensor) -> Tensor:
        """How badly sounds fit pictures, pair by pair: 1 less the cosine of their embeddings.

        Args:
            video: (B, 3, T, H, W) normalized float.
            audio: (B, 1, time, freq) spectrograms; sound i is compared with picture i.

        Returns:
            (B,) float32 in [0, 2]: 0 where the embeddings have one direction, 1 where they are
            orthogonal, as unrelated pairs nearly are, 2 where they are opposite. No probability:
            compare it with the energies of mismatched pairs under the same model.

        Raises:
            ValueError: If the two differ in B.
        """
        if len(video) != len(audio):
            raise ValueError(f"a pair is a video and an audio, got {len(video)} videos and {len(audio)} audios.")
        cosine = F.cosine_similarity(self.embed_video(video).float(), self.embed_audio(audio).float(), dim=1)
        return 1 - cosine.clamp(-1, 1)

    def video_map(self, video: Tensor) -> Tensor:
        """(B, D, T', H', W'): the video head on every cell."""
        return _project_cells(self.video_head, self.video_encoder.forward_features(video))

    def audio_map(self, audio: Tensor) -> Tensor:
        """(B, D, T'): the audio head on the maximum over frequency at every time cell."""
        return _project_cells(self.audio_head, _pool_frequency(self.audio_encoder.forward_features(audio)))

    def visual_cells(self, video: Tensor) -> Tensor:
        """(B, D, T', H', W'): what a sound is compared with, cell by cell, in each of ``num_heads`` heads."""
        return self.video_map(video)

    def sound_queries(self, audio: Tensor) -> Tensor:
        """(B, D, S): what is looked for, S = 1 sound as a whole, or each of its S time cells."""
        return self.audio_map(audio) if self.sound_over_time else self.embed_audio(audio)[..., None]

    def use_channels_last(self) -> Self:
        """Lay the convolution weights out channels last, in place; inputs may keep either layout.

        ``model.to(memory_format=...)`` fails on the pair: 4-D and 5-D weights need different formats.
        """
        self.video_encoder.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        self.audio_encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self


def _project(encoder: Encoder, head: ProjectionHead, x: Tensor, needs_maps: bool) -> tuple[Tensor, Tensor | None]:
    """(B, D) and, if needed, the head on every cell: one trunk pass and one pass of the head."""
    features = encoder.forward_features(x)
    if not needs_maps:
        return head(encoder.pool(features)), None
    if encoder.modality == "audio":
        cells = _pool_frequency(features)
    else:
        cells = features
    embedding, projected = head.with_cells(encoder.pool(features), cells.movedim(1, -1))
    return embedding, projected.movedim(-1, 1)


def _split(rows: Tensor | None, num_clips: int) -> tuple[Tensor | None, Tensor | None]:
    """The rows of clips and those of negatives behind them; None where there are none."""
    if rows is None or len(rows) == num_clips:
        return rows, None
    return rows[:num_clips], rows[num_clips:]


def _project_cells(head: ProjectionHead, features: Tensor) -> Tensor:
    """(B, C, ...) to (B, D, ...): the head on every cell; no copy of channels-last features."""
    return head(features.movedim(1, -1)).movedim(-1, 1)


def _pool_frequency(features: Tensor) -> Tensor:
    """(B, C, T', F') to (B, C, T')."""
    return features.amax(dim=3)


def _check_pair(modality: str, encoder: Encoder, head: ProjectionHead) -> None:
    if encoder.modality != modality:
        raise ValueError(
            f"the {modality} encoder reads {encoder.modality} ({type(encoder).__name__}). "
            "The arguments are video_encoder, audio_encoder, video_head, audio_head, in this order."
        )
    if head.in_features != encoder.num_features:
        raise ValueError(
            f"the {modality} head takes {head.in_features} features but its encoder "
            f"({type(encoder).__name__}) gives {encoder.num_features}."
        )
