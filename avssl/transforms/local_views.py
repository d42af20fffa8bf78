"""Local views of a clip: a small part of the frames at a small size, and a short part of the audio.

Source: multi-crop of SwAV, https://arxiv.org/abs/2006.09882, section 3.3, whose low-resolution crops cost little, and
the local views of DINO, https://arxiv.org/abs/2104.14294, section 3.1. A short window of audio is the counterpart of
a small crop.

Dimensions: B clips, T frames, S samples.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from avssl.core.draws import uniform
from avssl.core.errors import InputError
from avssl.core.ranges import Pixels, PositiveShare, checked
from avssl.transforms.video import VideoAugment


@checked
class LocalViews(nn.Module):
    """Cuts local views, whose number is the objective's option ``local_views``.

    Every other augmentation is that of the full views.

    Args:
        video_augment: Augmentation of frames in the full views; copied.
        size: Height and width of the frames, in pixels; 96 beside 224 in SwAV and DINO.
        scale: Smallest and largest share of the frame's area that a local view covers, in (0, 1].
        audio_share: Length of the audio as a share of the clip's, in (0, 1]; its time is random.

    Raises:
        ValueError: If ``scale`` is not ascending in (0, 1].

    Example:
        >>> local = LocalViews(VideoAugment(112), size=32, audio_share=0.5)
        >>> local.window(torch.randn(2, 16000), torch.tensor([0, 1]), view=2).shape
        torch.Size([2, 8000])
    """

    def __init__(
        self,
        video_augment: VideoAugment,
        *,
        size: Pixels = 64,
        scale: tuple[PositiveShare, PositiveShare] = (0.05, 0.3),
        audio_share: PositiveShare = 0.5,
    ) -> None:
        super().__init__()
        low, high = scale
        if not 0 < low <= high <= 1:
            raise InputError(f"scale ({low}, {high}) must be (low, high) with 0 < low <= high <= 1.")
        self.video_augment = copy.deepcopy(video_augment)
        self.video_augment.size, self.video_augment.scale = size, (low, high)
        self.audio_share = audio_share

    def frames(self, video: Tensor, valid_hw: Tensor, key: Tensor, view: int) -> Tensor:
        """Return the (B, 3, T, size, size) frames of a (B, T, 3, H, W) canvas, as :class:`VideoAugment` does."""
        frames: Tensor = self.video_augment(video, valid_hw, key, view)
        return frames

    def window(self, waveform: Tensor, key: Tensor, view: int) -> Tensor:
        """Return the (B, round(audio_share * S)) samples at a random time of each (B, S) waveform."""
        length = max(1, round(self.audio_share * waveform.shape[1]))
        place = uniform(key, f"local audio/{view}", 1)
        start = (place * (waveform.shape[1] - length + 1)).long()  # (B, 1)
        return waveform.gather(1, start + torch.arange(length, device=waveform.device))

    def extra_repr(self) -> str:
        return f"audio_share={self.audio_share:g}"
