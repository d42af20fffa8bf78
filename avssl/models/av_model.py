"""Two encoders and their heads as one module that is trained, wrapped and saved.

Dimensions: B clips (all views together), C encoder features, D embedding size; T', H', W' cells
of the video map, T' also time cells of the audio map.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import AugmentedPair, Embeddings, Modality, Originals
from avssl.core.errors import InputError
from avssl.models.chunking import Outputs, in_chunks
from avssl.models.encoder import Encoder
from avssl.models.equivariance import EquivariantBranch
from avssl.models.heads import HeadPair, LogitScale, ProjectionHead, check_heads
from avssl.models.joint_head import JointHead
from avssl.models.masked import PatchPrediction, Side
from avssl.models.objective_heads import ObjectiveHeads
from avssl.models.one_copy import keep_one_copy


class AVModel(nn.Module):
    """Embeds video and audio in one space.

    DDP, FSDP and ``torch.compile`` wrap this module: one :meth:`forward` per step uses every
    parameter. The other methods are for inference and extraction.

    Args:
        video_encoder: Encoder of (B, 3, T, H, W).
        audio_encoder: Encoder of (B, 1, time, freq).
        video_head: From the video encoder's ``num_features`` to D.
        audio_head: From the audio encoder's ``num_features`` to D.
        logits: Learned inverse temperature and offset, for objectives that need them.
        num_heads: K groups of D / K channels that are compared separately where audio meets the cells of a map.
        audio_over_time: Compare audio with the map step by step, not as a whole.
        framewise: Each frame is compared with the audio of its own moment, so that an offset is found moment by moment.
        where_heads: Second heads, for objectives that localize by separate embeddings. They are trained only with maps.
        objective_heads: Prototypes and predictors on the embeddings, for objectives that need them.
        equivariant_branches: Predict the features of augmented video and of augmented audio, for objectives that need
            them.
        joint_head: Embeds video and audio together, for objectives that need it.
        patch_prediction: Skips patches in training and predicts them, for objectives that need it.
        video_dropout: Share of the video encoder's features that :meth:`forward` drops before the heads in
            training, in [0, 1).

    Raises:
        ValueError: If the modalities are exchanged, the sizes do not fit or ``video_dropout`` is out of range.

    Example:
        >>> video, audio = avssl.create_encoder("small_video", width=8), avssl.create_encoder("small_audio", width=8)
        >>> heads = [avssl.create_head("mlp", encoder.num_features, out_features=32) for encoder in (video, audio)]
        >>> model = AVModel(video, audio, *heads)
        >>> model(torch.randn(2, 3, 4, 64, 64), torch.randn(2, 1, 100, 64)).video.shape
        torch.Size([2, 32])
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
        audio_over_time: bool = False,
        framewise: bool = False,
        where_heads: HeadPair | None = None,
        objective_heads: ObjectiveHeads | None = None,
        equivariant_branches: tuple[EquivariantBranch, EquivariantBranch] | None = None,
        joint_head: JointHead | None = None,
        patch_prediction: PatchPrediction | None = None,
        video_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        for heads in (HeadPair(video_head, audio_head), where_heads):
            if heads is not None:
                check_heads(video_encoder, audio_encoder, heads, video_head.out_features)
        if num_heads < 1 or video_head.out_features % num_heads:
            raise InputError(
                f"num_heads ({num_heads}) must be at least 1 and divide the embedding size "
                f"({video_head.out_features}, out_features of the heads) evenly."
            )
        if not 0 <= video_dropout < 1:
            raise InputError(f"video_dropout ({video_dropout}) must be in [0, 1): 1 would leave no feature.")
        if video_dropout and not video_encoder.pools_map:
            raise InputError(
                f"video_dropout ({video_dropout}) drops features of the map, but {type(video_encoder).__name__} pools "
                'a class token: set video_dropout to 0, or the encoder\'s pool to "mean".'
            )
        self.num_heads = num_heads
        self.audio_over_time = audio_over_time
        self.framewise = framewise
        self.video_encoder = video_encoder
        self.audio_encoder = audio_encoder
        self.video_head = video_head
        self.audio_head = audio_head
        self.logits = logits
        self.where_heads = where_heads
        self.objective_heads = objective_heads
        self.equivariant_branches = None if equivariant_branches is None else nn.ModuleList(equivariant_branches)
        if patch_prediction is not None and video_dropout:
            raise InputError(
                f"video_dropout ({video_dropout}) drops features of the whole map: set it to 0 with an objective that "
                "hides patches."
            )
        self.joint_head = joint_head
        self.patch_prediction = patch_prediction
        self.video_dropout = nn.Dropout3d(video_dropout)
        keep_one_copy(self)

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
        other_audio: Tensor | None = None,
        local_video: Tensor | None = None,
        local_audio: Tensor | None = None,
        originals: Originals | None = None,
        keys: Tensor | None = None,
        needs_patches: bool = False,
    ) -> Embeddings:
        """Return the embeddings of clips, from one trunk pass per modality.

        Visual dropout, in training: a feature is dropped from all cells of a clip at once, and those that are
        kept are scaled up. So a pooled embedding and its cells, and all cells of a clip, are compared in the
        same features. Its draws come from torch's generator, whose state checkpoints keep, so that a resumed run
        continues with them bit for bit; two ranks draw otherwise than one process does.

        Args:
            video: (B, 3, T, H, W) normalized float.
            audio: (B, 1, time, freq) spectrograms of the same clips in the same order.
            needs_maps: Also apply the heads to every cell; the pooled embeddings stay as they are.
            chunk_size: Clips that pass the encoders at a time, for batches whose activations do not
                fit; backward computes each chunk anew. Chunks are made here, inside the one call
                that DDP wraps. BatchNorm in training normalizes within a chunk.
            negative_audio: (M, 1, time, freq) spectrograms of silence and noise. They pass the encoder
                and the head behind the clips' audio, in one batch: BatchNorm in training normalizes
                all of them together, and its running statistics are of clips and negatives.
            other_audio: (B * K, 1, time, freq) spectrograms of each clip at other times, behind those in the same way.
            local_video: (L, 3, T, h, w) frames of local views, which pass the encoder by themselves.
            local_audio: (L, 1, time', freq) spectrograms of the same local views.
            originals: The clips of the first rows without augmentation, which pass the encoders by themselves.
            keys: (B,) int64 random keys of the clips. With ``patch_prediction``, they choose the patches that the
                encoders skip; with ``joint_head``, in training, the modality that a joint embedding lacks.
            needs_patches: Return ``patch_prediction`` with the head on every patch as its values, for a momentum model.

        Returns:
            ``video`` and ``audio`` (B, D); with ``needs_maps`` also ``video_map`` (B, D, T', H', W') and ``audio_map``
            (B, D, T'), and from second heads ``video_where_map`` (B, D, T', H', W') and ``audio_where`` (B, D). Not
            normalized. ``logit_scale`` and ``logit_bias`` where the model learns them; ``negative_audio`` (M, D) and
            ``other_audio`` (B, K, D) with their maps where they were given; scores and predictions of
            ``objective_heads``.

        Raises:
            ValueError: If an input has another layout, or the two differ in B.
        """
        if self.patch_prediction is not None and (keys is not None or needs_patches):
            return self._masked(self.patch_prediction, video, audio, keys, chunk_size)
        inputs = [x for x in (audio, negative_audio, other_audio) if x is not None]
        audios = audio if len(inputs) == 1 else torch.cat(inputs)  # (B + M + B * K, 1, time, freq)
        # One modality after the other, so that only a chunk of one modality is in memory.
        seen, video_embedding, video_map, *video_where = self._project("video", video, needs_maps, chunk_size)
        heard, audio_embedding, audio_map, *audio_where = self._project("audio", audios, needs_maps, chunk_size)
        logit_scale, logit_bias = (None, None) if self.logits is None else self.logits()
        sizes = [0 if x is None else len(x) for x in (audio, negative_audio, other_audio)]
        own, negative, other = _split(audio_embedding, sizes)  # (B, D), (M, D), (B, K, D)
        own_map, negative_map, other_map = _split(audio_map, sizes)  # (B, D, T'), (M, D, T'), (B, K, D, T')
        assert video_embedding is not None, "the first head always returns it"
        assert own is not None, "the first head always returns it"
        return Embeddings(
            video_embedding,
            own,
            video_map,
            own_map,
            video_where_map=video_where[1] if video_where else None,
            audio_where=_split(audio_where[0], sizes)[0] if audio_where else None,
            logit_scale=logit_scale,
            logit_bias=logit_bias,
            negative_audio=negative,
            negative_audio_map=negative_map,
            other_audio=other,
            other_audio_map=other_map,
            joint=self._joint(seen, heard, keys),
            video_augmented=self._augmented("video", seen, originals, chunk_size),
            audio_augmented=self._augmented("audio", heard, originals, chunk_size),
            local=self._local(local_video, local_audio, chunk_size),
            **({} if self.objective_heads is None else self.objective_heads(video_embedding, own)),
        )

    def _joint(self, video: Tensor | None, audio: Tensor | None, keys: Tensor | None) -> Tensor | None:
        """Return the (B, D) joint embeddings of pooled features; further audio behind the B clips' own is left out."""
        if self.joint_head is None or video is None or audio is None:
            return None
        joint: Tensor = self.joint_head(video, audio[: len(video)], keys)
        return joint

    def _augmented(
        self, modality: Modality, augmented: Tensor | None, originals: Originals | None, chunk_size: int | None
    ) -> AugmentedPair | None:
        """Return the embeddings of the first views, predicted from the clips without augmentation, and true."""
        if originals is None or augmented is None or self.equivariant_branches is None:
            return None
        is_video = modality == "video"
        x, draws = (originals.video, originals.video_draws) if is_video else (originals.audio, originals.audio_draws)
        encoder = self._side(modality)[0]
        features = in_chunks(encoder, lambda rows: (encoder(rows),), (x,), chunk_size or len(x))[0]
        pair: AugmentedPair = self.equivariant_branches[0 if is_video else 1](features, augmented[: len(x)], draws)
        return pair

    def _masked(
        self, masks: PatchPrediction, video: Tensor, audio: Tensor, keys: Tensor | None, chunk_size: int | None
    ) -> Embeddings:
        """Return the embeddings of visible patches with predictions of all; without keys, those of all patches."""
        sides: dict[Modality, Side] = {
            "video": Side(self.video_encoder, self.video_head, video),
            "audio": Side(self.audio_encoder, self.audio_head, audio),
        }
        found = masks.whole(sides, chunk_size) if keys is None else masks(sides, keys, chunk_size)
        scale, bias = (None, None) if self.logits is None else self.logits()
        return Embeddings(**found, logit_scale=scale, logit_bias=bias)

    def _local(self, video: Tensor | None, audio: Tensor | None, chunk_size: int | None) -> Embeddings | None:
        """Return the pooled embeddings of local views with their scores and predictions."""
        if video is None or audio is None:
            return None
        seen, heard = (self._project(*x, False, chunk_size)[1] for x in (("video", video), ("audio", audio)))
        assert seen is not None, "the first head always returns it"
        assert heard is not None, "the first head always returns it"
        return Embeddings(seen, heard, **({} if self.objective_heads is None else self.objective_heads(seen, heard)))

    def _project(self, modality: Modality, x: Tensor, needs_maps: bool, chunk_size: int | None) -> Outputs:
        """Return the pooled features of one modality and :func:`_project` of them, in chunks or at once."""
        encoder, heads = self._side(modality)

        def project(rows: Tensor) -> Outputs:
            if not needs_maps and not encoder.pools_map:
                pooled = encoder(rows)  # a network that pools by itself need not make its map
                return pooled, heads[0](pooled), None
            # (B, C) and (B, C, T', H', W') or (B, C, T', F')
            pooled, features = encoder.forward_pooled(rows)
            if modality == "video" and self.training and self.video_dropout.p:
                features = self.video_dropout(features)
                pooled = encoder.pool(features)
            return pooled, *_project(modality, heads, pooled, features, needs_maps)

        if chunk_size is None:
            return project(x)
        return in_chunks(nn.ModuleList([encoder, *heads]), project, (x,), chunk_size)

    def _side(self, modality: Modality) -> tuple[Encoder, list[ProjectionHead]]:
        """Return the encoder of a modality and its heads, second heads last."""
        where = self.where_heads
        if modality == "video":
            return self.video_encoder, [self.video_head] if where is None else [self.video_head, where.video]
        return self.audio_encoder, [self.audio_head] if where is None else [self.audio_head, where.audio]

    def encode_video(self, video: Tensor) -> Tensor:
        """Return (B, C) pooled video features before the head, as probes use them."""
        return self.video_encoder(video)

    def encode_audio(self, audio: Tensor) -> Tensor:
        """Return (B, C) pooled audio features before the head, as probes use them."""
        return self.audio_encoder(audio)

    def embed_video(self, video: Tensor) -> Tensor:
        """Return (B, D) video embeddings: the head applied to pooled features."""
        return self.video_head(self.video_encoder(video))

    def embed_audio(self, audio: Tensor) -> Tensor:
        """Return (B, D) audio embeddings: the head applied to pooled features."""
        return self.audio_head(self.audio_encoder(audio))

    def embed_joint(self, video: Tensor | None, audio: Tensor | None) -> Tensor:
        """Return (B, D) joint embeddings of :meth:`encode_video` and :meth:`encode_audio`, one of which may be None.

        Raises:
            ValueError: If the model has no joint head, or both are None.
        """
        if self.joint_head is None:
            raise InputError('the model has no joint head; train one with objective.name "joint".')
        joint: Tensor = self.joint_head(video, audio)
        return joint

    def energy(self, video: Tensor, audio: Tensor) -> Tensor:
        """Return the mismatch of each pair of video and audio: 1 minus the cosine of their embeddings.

        Args:
            video: (B, 3, T, H, W) normalized float.
            audio: (B, 1, time, freq) spectrograms; audio i is compared with video i.

        Returns:
            (B,) float32 in [0, 2]: 0 for equal directions, 1 for orthogonal embeddings, which unrelated pairs nearly
            have, 2 for opposite ones. It is not a probability: compare it with mismatched pairs of the same model.

        Raises:
            ValueError: If the two differ in B.
        """
        if len(video) != len(audio):
            raise InputError(f"a pair is a video and an audio, got {len(video)} videos and {len(audio)} audios.")
        cosine = F.cosine_similarity(self.embed_video(video).float(), self.embed_audio(audio).float(), dim=1)
        return 1 - cosine.clamp(-1, 1)

    def video_map(self, video: Tensor) -> Tensor:
        """Return (B, D, T', H', W'): the video head applied to every cell."""
        return _project_cells(self.video_head, self.video_encoder.forward_features(video))

    def audio_map(self, audio: Tensor) -> Tensor:
        """Return (B, D, T'): the audio head applied to the maximum over frequency of every time cell."""
        return _project_cells(self.audio_head, _pool_frequency(self.audio_encoder.forward_features(audio)))

    def visual_cells(self, video: Tensor) -> Tensor:
        """Return the (B, D, T', H', W') cells that audio is compared with, in each of ``num_heads`` heads.

        With second heads there are 2 D channels, the concatenated unit embeddings of both: their cosine with
        :meth:`sound_queries` is the mean of the two cosines.
        """
        return self.cells_of(self.video_encoder.forward_features(video))

    def cells_of(self, features: Tensor) -> Tensor:
        """Return :meth:`visual_cells` of the video encoder's (B, C, T', H', W') map."""
        if self.where_heads is None:
            return _project_cells(self.video_head, features)
        return _side_by_side(_project_cells(head, features) for head in (self.video_head, self.where_heads.video))

    def sound_queries(self, audio: Tensor) -> Tensor:
        """Return the (B, D, S) audio queries: S = 1 for the whole audio, or its S time cells.

        With second heads (B, 2 D, 1), as in :meth:`visual_cells`.
        """
        return self.queries_of(*self.audio_encoder.forward_pooled(audio))

    def queries_of(self, pooled: Tensor, features: Tensor) -> Tensor:
        """Return :meth:`sound_queries` of the audio encoder's (B, C) pooled features and (B, C, T', F') map."""
        if self.where_heads is None and self.audio_over_time:
            return _project_cells(self.audio_head, _pool_frequency(features))
        if self.where_heads is None:
            return self.audio_head(pooled)[..., None]
        return _side_by_side(head(pooled) for head in (self.audio_head, self.where_heads.audio))[..., None]


def _project(
    modality: Modality, heads: Sequence[ProjectionHead], pooled: Tensor, features: Tensor, needs_maps: bool
) -> Outputs:
    """Return the (B, D) embedding and the projected cells of each head; without maps, the embedding of the first."""
    if not needs_maps:
        return heads[0](pooled), None
    cells = (_pool_frequency(features) if modality == "audio" else features).movedim(1, -1)  # (B, ..., C)
    outputs: list[Tensor] = []
    for head in heads:
        embedding, projected = head.with_cells(pooled, cells)
        outputs += [embedding, projected.movedim(-1, 1)]
    return tuple(outputs)


def _split(rows: Tensor | None, sizes: Sequence[int]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the rows of B clips, of M negatives behind them, and (B, K, ...) of other times; None for none."""
    if rows is None:
        return None, None, None
    clips, negatives, others = rows.split(list(sizes))
    return (
        clips,
        negatives if sizes[1] else None,
        others.unflatten(0, (sizes[0], -1)) if sizes[2] else None,
    )


def _project_cells(head: ProjectionHead, features: Tensor) -> Tensor:
    """Map (B, C, ...) to (B, D, ...) by the head on every cell, without a copy of channels-last features."""
    return head(features.movedim(1, -1)).movedim(-1, 1)


def _side_by_side(embeddings: Iterable[Tensor]) -> Tensor:
    """Return the unit vectors (B, 2 D, ...) float32 of two (B, D, ...) embeddings."""
    halves = [F.normalize(x.float(), dim=1) for x in embeddings]
    return torch.cat(halves, dim=1) / len(halves) ** 0.5


def _pool_frequency(features: Tensor) -> Tensor:
    """Return the maximum over frequency: (B, C, T', F') to (B, C, T')."""
    return features.max(dim=3).values
