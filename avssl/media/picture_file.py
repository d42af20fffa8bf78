"""Still pictures: one file, one upright RGB picture. What a file is follows from its first bytes, not from its name."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from avssl.core.errors import InputError
from avssl.core.whole_file import whole_file
from avssl.media.reader import MAX_PIXELS, MediaError, local_file

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # each is one file that names no other
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM")


def is_picture(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as a JPEG, PNG, WebP or BMP picture does.

    Raises:
        MediaError: If it cannot be opened.
    """
    with local_file(path).open("rb") as stream:
        first = stream.read(12)
    # WAV files begin with RIFF as well.
    return first.startswith(_SIGNATURES) or (first.startswith(b"RIFF") and first[8:] == b"WEBP")


def read_picture(
    path: str | os.PathLike[str], short_side: int | None = None, *, max_pixels: int = MAX_PIXELS
) -> Tensor:
    """A picture, turned upright as its EXIF data say, without its transparency.

    Args:
        path: A JPEG, PNG, WebP or BMP file; of an animated one, the first picture.
        short_side: Resize so that the shorter side has this many pixels, > 0 (bilinear, antialiased);
            None keeps the size.
        max_pixels: Largest width * height that is decoded.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        MediaError: If the file is missing, no such picture, damaged, or over the limit.
        ValueError: If ``short_side`` is not positive.
    """
    if short_side is not None and short_side < 1:
        raise InputError(f"short_side must be positive, got {short_side}.")
    file = local_file(path)
    try:
        with warnings.catch_warnings():  # of sizes, which are asked about here, and of odd metadata
            warnings.simplefilter("ignore")
            with Image.open(file, formats=_FORMATS) as image:
                if image.width * image.height > max_pixels:
                    raise _too_large(file, f"{image.width} x {image.height}", max_pixels)
                picture = _rgb(ImageOps.exif_transpose(image))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large(file, "a size that no camera gives", max_pixels) from error
    # Damaged files raise nearly anything: OSError, SyntaxError, struct.error, zlib.error, IndexError ...
    except Exception as error:
        found = f"no picture can be read ({error})."
        raise MediaError(str(file), "video", "unreadable", found, "Convert it to JPEG or PNG.") from error
    if short_side is not None:
        scale = short_side / min(picture.size)
        width, height = (max(1, round(side * scale)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.asarray(picture).copy()).movedim(-1, 0).contiguous()


def write_picture(path: str | os.PathLike[str], picture: Tensor) -> None:
    """Writes a PNG, whole or not at all.

    Args:
        path: Its folder is made. An existing file is replaced.
        picture: (3, H, W) uint8 RGB.
    """
    with whole_file(path) as temporary:
        Image.fromarray(picture.movedim(0, -1).contiguous().numpy()).save(temporary, format="PNG")


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel: convert would clip them at 255
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _too_large(file: Path, size: str, max_pixels: int) -> MediaError:
    found = f"{size}: over the limit of {max_pixels} pixels."
    return MediaError(str(file), "video", "too_large", found, "Scale it down, or raise max_pixels.")
