"""Read and write still images. The type of a file follows from its first bytes, not from its name."""

from __future__ import annotations

import os
import warnings

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.user_files import open_regular
from avssl.core.whole_file import whole_file
from avssl.media.errors import MediaError
from avssl.media.limits import MediaLimits
from avssl.media.opening import local_file
from avssl.media.reader import resized

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # formats that never refer to other files
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")


def is_image(path: str | os.PathLike[str]) -> bool:
    """Return True if a file begins like a JPEG, PNG, WebP or BMP image.

    Raises:
        MediaError: If it cannot be opened.

    Example:
        >>> is_image("video.mp4")
        False
    """
    with open_regular(local_file(path)) as stream:
        first = stream.read(12)
    # WAV files begin with RIFF as well.
    return first.startswith(_SIGNATURES) or (first.startswith(b"RIFF") and first[8:] == b"WEBP")


def read_image(
    path: str | os.PathLike[str],
    short_side: int | None = None,
    *,
    limits: MediaLimits | None = None,
    has_alpha: bool = False,
) -> Tensor:
    """Read an image, turned upright by its EXIF data.

    Args:
        path: A JPEG, PNG, WebP or BMP file; the first image of an animated one.
        short_side: Resize so that the shorter side has this many pixels, > 0 (bilinear, antialiased);
            None keeps the size.
        limits: Limits on the image; default: those of :class:`~avssl.media.MediaLimits`.
        has_alpha: Return a fourth channel, the opacity: 255 everywhere in an image without transparency.

    Returns:
        (3, H, W) uint8 RGB without transparency, or (4, H, W) RGBA.

    Raises:
        MediaError: If the file is missing, not such an image, damaged, or over the limit.
        ValueError: If ``short_side`` is not positive.

    Example:
        >>> write_image("gray.png", torch.full((3, 48, 64), 128, dtype=torch.uint8))
        >>> read_image("gray.png", short_side=24).shape
        torch.Size([3, 24, 32])
    """
    file, limits = local_file(path), limits or MediaLimits()
    try:
        with warnings.catch_warnings():  # about sizes, which are checked here, and odd metadata
            warnings.simplefilter("ignore")
            with open_regular(file) as stream, Image.open(stream, formats=_FORMATS) as image:
                limits.check_size(str(file), *image.size)
                upright = _converted(ImageOps.exif_transpose(image), "RGBA" if has_alpha else "RGB")
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        found = f"a size beyond any camera's: over the limit of {limits.max_pixels} pixels."
        raise MediaError(str(file), "video", "too_large", found, "Scale it down.") from error
    # Damaged files raise nearly anything: OSError, SyntaxError, struct.error, zlib.error, IndexError ...
    except Exception as error:
        found = f"no image can be read ({error})."
        raise MediaError(str(file), "video", "unreadable", found, "Convert it to JPEG or PNG.") from error
    size = resized(*upright.size, short_side)[::-1]
    if size != upright.size:
        upright = upright.resize(size, Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(upright).copy()).movedim(-1, 0).contiguous()


def write_image(path: str | os.PathLike[str], image: Tensor) -> None:
    """Write a PNG, whole or not at all.

    Args:
        path: The file to write; its folder is made. An existing file is replaced.
        image: (3, H, W) uint8 RGB, H and W > 0.

    Raises:
        InputError: If the shape or type is not as above.

    Example:
        >>> image = torch.zeros(3, 48, 64, dtype=torch.uint8)
        >>> write_image("black.png", image)
        >>> torch.equal(read_image("black.png"), image)
        True
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or not image.numel():
        raise InputError(f"image must be (3, H, W) uint8 with H and W > 0, got {tuple(image.shape)} {image.dtype}.")
    with whole_file(path) as temporary:
        Image.fromarray(image.movedim(0, -1).contiguous().cpu().numpy()).save(temporary, format="PNG")


def _converted(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: convert would clip them at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert(mode)
    return image.convert(mode)
