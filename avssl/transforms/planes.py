"""Convert 4:2:0 planes to RGB on the device: half the bytes cross the bus, and the loader converts no colors.

Full-range BT.601, as JPEG (JFIF, ITU-T T.871, section 7)::

    R = Y                      + 1.402   (Cr - 128)
    G = Y - 0.344136 (Cb - 128) - 0.714136 (Cr - 128)
    B = Y + 1.772   (Cb - 128)
"""

from __future__ import annotations

import torch
from torch import Tensor

from avssl.core.errors import InputError

_RED_CR, _BLUE_CB = 1.402, 1.772
_GREEN_CB, _GREEN_CR = -0.344136, -0.714136

# On a CPU, chunks of this many bytes of float planes stay in the cache; a GPU converts the whole batch.
_CHUNK_BYTES = {"cpu": 4 << 20}
_CHUNK_BYTES_ACCELERATOR = 512 << 20


@torch.no_grad()
def planes_to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Convert planes to RGB; each chroma value applies to its 2 x 2 pixels, as in FFmpeg's default.

    Args:
        luma: (B, T, 1, H, W) uint8.
        chroma: (B, T, 2, ceil(H / 2), ceil(W / 2)) uint8, Cb and Cr.

    Returns:
        (B, T, 3, H, W) uint8, rounded to the nearest. The empty canvas (all zero) does not become black,
        as 0 is a color in Cb and Cr: ``valid_hw`` gives the part that holds the frame.

    Raises:
        ValueError: If the shapes of the planes do not match.
    """
    batch, frames, _, height, width = luma.shape
    expected = (batch, frames, 2, (height + 1) // 2, (width + 1) // 2)
    if luma.shape[2] != 1 or tuple(chroma.shape) != expected:
        raise InputError(f"chroma must be {expected} beside luma {tuple(luma.shape)}, got {tuple(chroma.shape)}.")
    if torch.compiler.is_compiling():
        return _convert(luma, chroma).to(torch.uint8)
    output = luma.new_empty(batch, frames, 3, height, width)
    limit = _CHUNK_BYTES.get(luma.device.type, _CHUNK_BYTES_ACCELERATOR)
    step = max(1, limit // (12 * frames * height * width))
    for start in range(0, batch, step):
        part = slice(start, start + step)
        output[part] = _convert(luma[part], chroma[part])
    return output


def _convert(luma: Tensor, chroma: Tensor) -> Tensor:
    height, width = luma.shape[-2:]
    cb, cr = (chroma.float() - 128).unbind(2)
    shift = torch.stack([_RED_CR * cr, _GREEN_CB * cb + _GREEN_CR * cr, _BLUE_CB * cb], dim=2)
    if torch.compiler.is_compiling():  # one program for even and odd sizes
        rows, columns = (torch.arange(length, device=luma.device) // 2 for length in (height, width))
        shift = shift.index_select(-2, rows).index_select(-1, columns)
    else:
        shift = shift.repeat_interleave(2, -1).repeat_interleave(2, -2)[..., :height, :width]
    return (shift + luma).round_().clamp_(0, 255)
