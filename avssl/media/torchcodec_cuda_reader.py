"""The torchcodec reader with NVIDIA's video decoder: frames are decoded and resized on the GPU of this rank."""

from __future__ import annotations

import os
from typing import Any

import torch
import torchcodec
from torch import Tensor
from torchcodec.decoders import VideoDecoder, set_cuda_backend

from avssl.media.torchcodec_reader import TorchCodecReader

if torchcodec.__version__.endswith("+cpu"):
    raise ImportError(
        f"torchcodec {torchcodec.__version__} was built without CUDA. Install the build for CUDA of the same version "
        "(https://download.pytorch.org/whl/), or use the backend torchcodec or pyav."
    )
if not torch.cuda.is_available():
    raise ImportError("it decodes on a GPU, and torch sees none. Use the backend torchcodec or pyav.")


class TorchCodecCudaReader(TorchCodecReader):
    """Reads the video of a file on the GPU and its audio on the CPU; see :class:`TorchCodecReader`.

    Frames come back to the CPU at the size of the clip, as those of every reader. They differ from the CPU's by the
    rounding of the color conversion. What the GPU cannot decode (its codec, size or chroma format), torchcodec decodes
    on the CPU; the log says so. A process that decodes holds a CUDA context of several hundred MB.

    Args:
        path: A local regular file.
        limits: Limits on the file.

    Raises:
        MediaError: See :class:`avssl.media.pyav.reader.PyAVReader`.
    """

    def _open_video(self, stream_index: int) -> Any:
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % torch.cuda.device_count()}"
        with set_cuda_backend("beta"):  # it says before the first frame where it decodes, and is the faster one
            decoder = VideoDecoder(self._path, stream_index=stream_index, seek_mode="exact", device=device)
        if decoder.cpu_fallback:
            reason = str(decoder.cpu_fallback)
            self._tell("video on the CPU", reason, f"torchcodec decodes its video on the CPU: {reason}")
        return decoder

    def _resized(self, frames: Tensor, size: tuple[int, int]) -> Tensor:
        return super()._resized(frames, size).cpu()
