"""Joint head: one embedding of video and audio together, which also exists with one of them.

Source: the third tower of PE-AV (https://arxiv.org/abs/2512.19687), which embeds both modalities of a clip together;
here a small network on the pooled features of both encoders. A learned vector stands for a modality that is missing,
and training drops one modality of some clips (modality dropout, Neverova et al., 2014,
https://arxiv.org/abs/1501.00102).

Dimensions: B clips, D embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avssl.core.draws import uniform
from avssl.core.errors import InputError


class JointHead(nn.Module):
    """LayerNorm of each modality's features, and two linear layers with GELU between them.

    Args:
        video_features: Size of pooled video features.
        audio_features: Size of pooled audio features.
        embedding_size: D. The width between the layers is this or the sum of the features, whichever is larger.
        dropout: Share of the clips that lose one modality in training, each as often.
    """

    def __init__(self, video_features: int, audio_features: int, embedding_size: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        sizes = {"video": video_features, "audio": audio_features}
        self.norms = nn.ModuleDict({name: nn.LayerNorm(size) for name, size in sizes.items()})
        self.missing = nn.ParameterDict({name: nn.Parameter(torch.zeros(size)) for name, size in sizes.items()})
        width = max(embedding_size, video_features + audio_features)
        self.layers = nn.Sequential(
            nn.Linear(video_features + audio_features, width), nn.GELU(), nn.Linear(width, embedding_size)
        )

    def forward(self, video: Tensor | None, audio: Tensor | None, keys: Tensor | None = None) -> Tensor:
        """Return (B, D) joint embeddings, not normalized.

        Args:
            video: (B, features) pooled video features; None if the video is missing.
            audio: (B, features) pooled audio features; None if the audio is missing.
            keys: (B,) int64 random keys of the clips, which choose what is dropped in training; None drops nothing.

        Raises:
            ValueError: If both are missing.
        """
        given = next((x for x in (video, audio) if x is not None), None)
        if given is None:
            raise InputError("a joint embedding needs the video or the audio of a clip, got neither.")
        sides = {"video": video, "audio": audio}
        drawn = None if keys is None or not self.training else uniform(keys, "joint", 1)
        parts = []
        for number, (name, x) in enumerate(sides.items()):
            missing = self.missing[name].expand(len(given), -1)
            part = missing if x is None else self.norms[name](x)
            if drawn is not None:
                low = number * self.dropout / 2
                is_dropped = (drawn >= low) & (drawn < low + self.dropout / 2)  # (B, 1)
                part = torch.where(is_dropped, missing.to(part.dtype), part)
            parts.append(part.to(given.dtype))
        return self.layers(torch.cat(parts, dim=1))
