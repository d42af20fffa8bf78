"""Video networks of transformers: VideoMAE and V-JEPA 2.

Sources: https://arxiv.org/abs/2203.12602 (VideoMAE) and https://arxiv.org/abs/2506.09985 (V-JEPA 2).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from avssl.core.batch import Modality
from avssl.models.foreign.backbone import Tokens
from avssl.models.foreign.contract import VideoContract
from avssl.models.foreign.hf import HFBackbone
from avssl.models.foreign.hf_image import frame_contract
from avssl.models.foreign.spec import Spec


class _Tubelets(HFBackbone):
    """Tokens of patches that reach over several frames, time first."""

    modality: Modality = "video"

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        config: Any = self.network.config
        patch = int(config.patch_size)
        grid = x.shape[2] // int(config.tubelet_size), x.shape[3] // patch, x.shape[4] // patch
        return output.unflatten(1, grid).permute(0, 4, 1, 2, 3)  # (B, C, T', H', W')


class VideoMae(_Tubelets):
    """VideoMAE's encoder; 16 frames unless its configuration says otherwise."""

    config_class, model_class, processor_class = "VideoMAEConfig", "VideoMAEModel", "VideoMAEImageProcessor"

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        config = cls.configuration(spec)
        options = {"num_frames": int(config.num_frames), "is_fixed_length": True}
        return frame_contract(cls.processor(spec), spec, frame_multiple=int(config.tubelet_size), **options)

    def tokens(self, x: Tensor) -> Tokens:
        output = self.network(pixel_values=x.transpose(1, 2)).last_hidden_state
        return Tokens(self.cells_of(output, x))


class VJepa2(_Tubelets):
    """V-JEPA 2's encoder, without its predictor."""

    config_class, model_class, processor_class = "VJEPA2Config", "VJEPA2Model", "VJEPA2VideoProcessor"

    @classmethod
    def contract_of(cls, spec: Spec) -> VideoContract:
        config = cls.configuration(spec)
        tubelet, frames = int(config.tubelet_size), int(config.frames_per_clip)
        return frame_contract(cls.processor(spec), spec, num_frames=frames, frame_multiple=tubelet)

    def tokens(self, x: Tensor) -> Tokens:
        network: Any = self.network
        output = network.encoder(pixel_values_videos=x.transpose(1, 2)).last_hidden_state
        return Tokens(self.cells_of(output, x))
