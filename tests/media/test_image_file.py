"""Still pictures, read as they were written, whatever they are called."""

from __future__ import annotations

import struct
import wave
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from avssl.core.errors import InputError
from avssl.media import MediaError, MediaLimits, is_image, read_image, write_image


@pytest.fixture
def pixels() -> np.ndarray:
    """(37, 53, 3) uint8: the row, the column and their sum are in the colors."""
    y, x = np.mgrid[:37, :53]
    return np.stack([4 * x, 6 * y, 2 * (x + y)], axis=-1).astype(np.uint8)


def channels_first(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.copy()).movedim(-1, 0)


@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.bmp", "BMP"), ("a.webp", "WEBP"), ("a.txt", "PNG")])
def test_lossless_pictures_are_read_as_they_were_written(pixels: np.ndarray, tmp_path: Path, name: str, kind: str):
    Image.fromarray(pixels).save(tmp_path / name, format=kind, lossless=True)
    assert is_image(tmp_path / name)
    assert torch.equal(read_image(tmp_path / name), channels_first(pixels))


def test_jpeg_is_near(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.jpg", quality=95)
    difference = read_image(tmp_path / "a.jpg").int() - channels_first(pixels).int()
    assert difference.abs().max() <= 8


def test_gray_transparent_palette_and_deep_pictures_become_rgb(pixels: np.ndarray, tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / "gray.png")
    Image.fromarray(ramp.astype(np.uint16) << 8).save(tmp_path / "deep.png")
    Image.fromarray(ramp > 100).save(tmp_path / "bits.png")
    for name in ("gray.png", "deep.png"):
        assert torch.equal(read_image(tmp_path / name), torch.from_numpy(ramp).expand(3, -1, -1))
    assert torch.equal(read_image(tmp_path / "bits.png")[0], torch.from_numpy(255 * (ramp > 100).astype(np.uint8)))
    clear = np.dstack([pixels, np.zeros_like(pixels[..., 0])])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert torch.equal(read_image(tmp_path / "clear.png"), channels_first(pixels))
    few = Image.fromarray(pixels).convert("P")
    few.save(tmp_path / "palette.png")
    assert torch.equal(read_image(tmp_path / "palette.png"), channels_first(np.asarray(few.convert("RGB"))))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (6, lambda a: np.rot90(a, -1)), (8, np.rot90)],
)
def test_pictures_are_turned_upright(pixels: np.ndarray, tmp_path: Path, orientation: int, upright) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png"), channels_first(upright(pixels)))


def test_the_short_side_is_resized(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    small = read_image(tmp_path / "a.png", short_side=10)
    assert small.shape == (3, 10, 14)  # 53 * 10 / 37 = 14.3
    assert small.float().mean(dim=(1, 2)).sub(channels_first(pixels).float().mean(dim=(1, 2))).abs().max() < 1
    with pytest.raises(ValueError, match="short_side must be positive, got 0"):
        read_image(tmp_path / "a.png", short_side=0)


def test_what_is_no_picture_is_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "a.jpg"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(800))
    assert not is_image(tmp_path / "a.jpg")  # WAV begins with RIFF, as WebP does
    Image.fromarray(pixels).save(tmp_path / "a.gif")
    for name in ("a.jpg", "a.gif"):
        with pytest.raises(MediaError, match=rf"{name}: video: no image can be read .* Convert it to JPEG or PNG"):
            read_image(tmp_path / name)
    with pytest.raises(MediaError, match=r"none\.png: container: the file cannot be opened"):
        read_image(tmp_path / "none.png")


def test_a_cut_picture_is_refused(pixels: np.ndarray, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.webp"):
        Image.fromarray(pixels).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-100])
        with pytest.raises(MediaError, match="no image can be read") as error:
            read_image(tmp_path / name)
        assert error.value.reason == "unreadable"


def test_the_limit_is_asked_before_decoding(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match="53 x 37 are over the limit of 1960 pixels") as error:
        read_image(tmp_path / "a.png", limits=MediaLimits(max_pixels=37 * 53 - 1))
    assert error.value.reason == "too_large"
    assert read_image(tmp_path / "a.png", limits=MediaLimits(max_pixels=37 * 53)).shape == (3, 37, 53)
    for side in (10_000, 100_000):  # a header alone, which says that the picture is huge
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunks = b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in ((b"IHDR", header), (b"IDAT", b""))
        )
        (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
        with pytest.raises(MediaError, match="over the limit of 33554432 pixels"):
            read_image(tmp_path / "huge.png")


def test_a_picture_comes_back_as_it_was_written(pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    picture = channels_first(pixels)
    write_image(tmp_path / "a.png", picture)
    assert torch.equal(read_image(tmp_path / "a.png"), picture)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_image(tmp_path / "a.png", picture.flip(0))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert torch.equal(read_image(tmp_path / "a.png"), picture)


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(3, 8, 8),
        torch.zeros(3, 8, 8, dtype=torch.int64),
        torch.zeros(3, 8, 8, dtype=torch.bool),
        *(torch.zeros(shape, dtype=torch.uint8) for shape in [(8, 8), (8, 8, 3), (1, 8, 8), (4, 8, 8), (1, 3, 8, 8)]),
        *(torch.zeros(shape, dtype=torch.uint8) for shape in [(3, 0, 8), (3, 8, 0), ()]),
    ],
    ids=lambda image: f"{tuple(image.shape)}-{image.dtype}",
)
def test_tensors_that_are_no_image_are_not_written(tmp_path: Path, image: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"image must be \(3, H, W\) uint8 with H and W > 0, got \(.*\) torch\."):
        write_image(tmp_path / "a.png", image)
    assert list(tmp_path.iterdir()) == []


def test_an_image_of_other_strides_comes_back(pixels: np.ndarray, tmp_path: Path) -> None:
    image = channels_first(pixels)[:, ::2, 1::3].transpose(1, 2)
    write_image(tmp_path / "a.png", image)
    assert torch.equal(read_image(tmp_path / "a.png"), image)
