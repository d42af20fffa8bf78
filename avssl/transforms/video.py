"""Transform a canvas of clips to model input: crop, flip, resize, colors, blur, normalize, erase, on the device.

Dimensions: B clips, T frames, H and W pixels of the canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from avssl.core.draws import uniform
from avssl.core.errors import InputError
from avssl.core.ranges import BlurSigma, HalfShare, Pixels, Positive, PositiveOrZero, PositiveShare, Share, checked
from avssl.transforms.appearance import Appearance, AppearanceOptions
from avssl.transforms.color import NEUTRAL, ColorJitter
from avssl.transforms.crop_resize import AxisResize, Crops, crop_weights, random_crops, resample, resampling_weights

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Mean of the R, G and B values of ImageNet, in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Standard deviation of the R, G and B values of ImageNet, in [0, 1]."""

# A batch is processed in chunks of this many bytes of converted canvas, whatever the clips' size. On a CPU a
# chunk stays in the cache (64 clips of 16 x 128 x 128: 2 times faster than at once); a GPU takes the whole batch.
_CHUNK_BYTES = {"cpu": 8 << 20}
_CHUNK_BYTES_ACCELERATOR = 512 << 20


class _VideoTransform(nn.Module):
    """Base class of the transforms for training and evaluation: size, normalization and chunks."""

    mean: Tensor
    std: Tensor
    gain: Tensor
    bias: Tensor

    def __init__(self, size: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if size < 1:
            raise InputError(f"size ({size}) must be at least 1 pixel.")
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise InputError(f"mean ({mean}) and std ({std}) must be three numbers each, std above 0.")
        self.size = size
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32), persistent=False)
        # For pixel values in [0, 1].
        self.register_buffer("gain", 1 / self.std, persistent=False)
        self.register_buffer("bias", -self.mean / self.std, persistent=False)
        self.dtype, self.memory_format = torch.float32, torch.contiguous_format

    def _render(
        self,
        video: Tensor,
        rows: Tensor,
        columns: Tensor,
        appearance: Appearance | None = None,
        options: AppearanceOptions | None = None,
    ) -> Tensor:
        """Resample with ``rows`` and ``columns``, change the appearance and normalize into (B, 3, T, size, size)."""
        batch, frames, channels, height, width = video.shape
        gain, bias = self.gain, self.bias

        def render(part: slice, out: Tensor | None = None) -> Tensor:
            matrices = video[part], rows[part], columns[part]
            if appearance is None or options is None:
                return resample(*matrices, gain / 255, bias, self.dtype)
            pixels = resample(*matrices, torch.ones_like(gain) / 255, torch.zeros_like(bias), torch.float32)
            changed = appearance(pixels.contiguous(), options[part])
            return torch.addcmul(bias.view(3, 1, 1, 1), changed, gain.view(3, 1, 1, 1), out=out)

        dtype = self.dtype if appearance is None else torch.float32  # which that works in
        limit = _CHUNK_BYTES.get(video.device.type, _CHUNK_BYTES_ACCELERATOR)
        with torch.autocast(video.device.type, enabled=False):  # the dtype is set explicitly
            # A compiled program takes canvases of any size, so it does not compare them with the limit.
            if torch.compiler.is_compiling() or dtype.itemsize * video.numel() <= limit:
                return render(slice(None)).to(self.dtype).contiguous(memory_format=self.memory_format)
            shape = (batch, channels, frames, self.size, self.size)
            output = torch.empty(shape, dtype=self.dtype, device=video.device, memory_format=self.memory_format)
            step = max(1, limit // (dtype.itemsize * frames * channels * height * width))
            for start in range(0, batch, step):
                part = slice(start, start + step)
                rendered = render(part, None if appearance is None else output[part])
                if appearance is None:
                    output[part] = rendered
        return output

    def extra_repr(self) -> str:
        return f"size={self.size}"


NUM_DRAWS = 15
"""Numbers that describe the augmentation of frames, see :meth:`VideoAugment.draws`."""


@checked
class VideoAugment(_VideoTransform):
    """Random resized crop, flip, color jitter, grayscale, blur and erasing, the same for all frames of a clip.

    AVID crops 0.08 to 1 of the area and has hue 0.2; the other defaults are AVID's.

    Args:
        size: Height and width of the model's input, in pixels.
        scale: Smallest and largest share of the frame's area that a random crop covers, in (0, 1].
        ratio: Smallest and largest width / height of a random crop before it is resized.
        flip_probability: Probability of a horizontal flip, in [0, 1].
        brightness: Brightness is multiplied by a random factor between 1 - x and 1 + x.
        contrast: Contrast is multiplied by a random factor between 1 - x and 1 + x.
        saturation: Saturation is multiplied by a random factor between 1 - x and 1 + x.
        hue: Hue is shifted by up to this share of the color circle either way, <= 0.5; the most expensive operation
            on colors.
        jitter_probability: Probability that brightness, contrast, saturation and hue change, in [0, 1].
        grayscale_probability: Probability that a clip becomes gray, in [0, 1].
        blur_probability: Probability of a Gaussian blur, in [0, 1].
        blur_sigma: Smallest and largest standard deviation of the blur, in pixels of the model's input.
        erase_probability: Probability that a rectangle is covered with the mean color, in [0, 1].
        erase_scale: Smallest and largest share of the area that the rectangle covers, in (0, 1].
        erase_ratio: Smallest and largest width / height of the rectangle.
        mean: Mean of each RGB channel, for pixel values in [0, 1].
        std: Standard deviation of each RGB channel.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> augment, frames = VideoAugment(32), torch.zeros(2, 4, 3, 48, 64, dtype=torch.uint8)
        >>> augment(frames, torch.tensor([[48, 64], [48, 64]]), torch.tensor([0, 1])).shape
        torch.Size([2, 3, 4, 32, 32])
    """

    def __init__(
        self,
        size: Pixels = 112,
        *,
        scale: tuple[PositiveShare, PositiveShare] = (0.3, 1.0),
        ratio: tuple[Positive, Positive] = (0.75, 1.3333333),
        flip_probability: Share = 0.5,
        brightness: PositiveOrZero = 0.4,
        contrast: PositiveOrZero = 0.4,
        saturation: PositiveOrZero = 0.4,
        hue: HalfShare = 0.0,
        jitter_probability: Share = 1.0,
        grayscale_probability: Share = 0.0,
        blur_probability: Share = 0.0,
        blur_sigma: tuple[PositiveOrZero, BlurSigma] = (0.1, 2.0),
        erase_probability: Share = 0.0,
        erase_scale: tuple[PositiveShare, PositiveShare] = (0.02, 0.33),
        erase_ratio: tuple[Positive, Positive] = (0.3, 3.3),
        mean: tuple[Share, Share, Share] = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
    ) -> None:
        super().__init__(size, mean, std)
        for name, (low, high) in {"scale": scale, "erase_scale": erase_scale}.items():
            if not 0 < low <= high <= 1:
                raise InputError(f"{name} ({low}, {high}) must be (low, high) with 0 < low <= high <= 1.")
        for name, (low, high) in {"ratio": ratio, "erase_ratio": erase_ratio}.items():
            if not 0 < low <= high:
                raise InputError(f"{name} ({low}, {high}) must be (low, high) with 0 < low <= high.")
        if blur_sigma[0] > blur_sigma[1]:
            raise InputError(f"blur_sigma {tuple(blur_sigma)} must be (low, high) with low <= high.")
        if not 0 <= flip_probability <= 1:
            raise InputError(f"flip_probability ({flip_probability}) must be in [0, 1].")
        self.scale, self.ratio = (scale[0], scale[1]), (ratio[0], ratio[1])
        self.flip_probability = flip_probability
        self.jitter = ColorJitter(brightness, contrast, saturation, hue, jitter_probability)
        self.appearance = Appearance(self.jitter, grayscale_probability, blur_probability, blur_sigma)
        self.erase_probability = erase_probability
        self.erase_scale, self.erase_ratio = (erase_scale[0], erase_scale[1]), (erase_ratio[0], erase_ratio[1])

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Set the format of the output and, unless colors change or blur is used, of the computation.

        Colors and blur are computed in float32.

        Args:
            dtype: ``torch.float32``, or ``torch.bfloat16`` for a network that computes in it: see
                :func:`~avssl.transforms.crop_resize.resample` for the rounding error.
            memory_format: ``torch.contiguous_format`` or ``torch.channels_last_3d``.

        Raises:
            ValueError: If it is another dtype.
        """
        if dtype not in (torch.float32, torch.bfloat16):
            raise InputError(f"dtype ({dtype}) must be torch.float32 or torch.bfloat16.")
        self.dtype, self.memory_format = dtype, memory_format

    @torch.no_grad()
    def forward(self, video: Tensor, valid_hw: Tensor, key: Tensor, view: int = 0) -> Tensor:
        """Augment each clip.

        Args:
            video: (B, T, 3, H, W) uint8 canvas.
            valid_hw: (B, 2) int64 height and width of each clip, at the top left of the canvas.
            key: (B,) int64 random key of each clip.
            view: Number of the view, >= 0.

        Returns:
            (B, 3, T, size, size) normalized, in the format of :meth:`set_output`. The result depends only on the
            key and the view, not on the position in the batch.

        Raises:
            ValueError: If ``video`` is not a uint8 canvas or ``valid_hw`` does not match it.
        """
        _check_canvas(video, valid_hw)
        crops = random_crops(valid_hw, key, view, self.scale, self.ratio)
        flip = self._flips(key, view)
        height, width = video.shape[-2:]
        is_changed = self.appearance.is_used
        output = self._render(
            video,
            *crop_weights(crops, self.size, (height, width), flip),
            self.appearance if is_changed else None,
            self.appearance.draw(key, view, self.size) if is_changed else None,
        )
        return output if not self.erase_probability else output.masked_fill_(self._erased(key, view), 0.0)

    def draws(self, valid_hw: Tensor, key: Tensor, view: int = 0) -> Tensor:
        """Return (B, :data:`NUM_DRAWS`) float32 that describe what :meth:`forward` does to each clip.

        Top, left, height and width of the crop as shares of the frame; flip; changes of brightness, contrast,
        saturation and hue, whose order is left out; gray; blur as a share of the strongest; top, left, height and width
        of the erased rectangle as shares of the view. All are 0 where nothing is done, except for the crop.
        """
        crops, options = (
            random_crops(valid_hw, key, view, self.scale, self.ratio),
            self.appearance.draw(key, view, self.size),
        )
        height, width = valid_hw.unbind(1)
        none = torch.zeros(len(key), device=key.device)
        factors = [none] * 4
        if options.jitter is not None:
            factors = [
                factor - neutral for factor, neutral in zip(options.jitter.factors.unbind(1), NEUTRAL, strict=True)
            ]
        erased = [none] * 4
        if self.erase_probability:
            place, is_erased = self._erasing(key, view)
            erased = [x * is_erased / self.size for x in (place.top, place.left, place.height, place.width)]
        numbers = [
            *(crops.top / height, crops.left / width, crops.height / height, crops.width / width),
            self._flips(key, view),
            *factors,
            none if options.gray is None else options.gray,
            none if options.blur_sigma is None else options.blur_sigma / max(self.appearance.blur_sigma[1], 1e-6),
            *erased,
        ]
        return torch.stack([number.float() for number in numbers], dim=1)

    def _flips(self, key: Tensor, view: int) -> Tensor:
        """Return (B,) bool, True for mirrored clips."""
        return uniform(key, f"flip/{view}", 1)[:, 0] < self.flip_probability

    def _erasing(self, key: Tensor, view: int) -> tuple[Crops, Tensor]:
        """Return the rectangle of each clip, and (B,) bool: which clips are erased."""
        frame = torch.full((len(key), 2), self.size, device=key.device)
        place = random_crops(frame, key, view, self.erase_scale, self.erase_ratio, purpose="erase")
        return place, uniform(key, f"erase chance/{view}", 1)[:, 0] < self.erase_probability

    def _erased(self, key: Tensor, view: int) -> Tensor:
        """Return (B, 1, 1, size, size) bool: the rectangle to cover in each clip, by the rule of RandomErasing."""
        place, is_erased = self._erasing(key, view)
        rows, columns = (
            _inside(start, length, self.size)
            for start, length in ((place.top, place.height), (place.left, place.width))
        )
        return (rows[:, :, None] & columns[:, None, :] & is_erased[:, None, None])[:, None, None]


@checked
class VideoEval(_VideoTransform):
    """Deterministic resize and crop, for evaluation.

    Args:
        size: Height and width of the output in pixels.
        crop: ``"center"`` resizes the short side to ``resize_short`` and takes the central square, as in
            AVID's evaluation; ``"full"`` squeezes the whole frame into the square, so that a map over the
            output covers the whole frame (localization); ``"three"`` takes three squares along the
            longer side, at its two ends and in its middle, as in GDT's and SeLaVi's evaluation.
        resize_short: Short side in pixels, >= size; default: ``round(size / 0.875)`` for ``"center"`` and ``size``
            for ``"three"``, so that the squares cover the short side. Not for ``"full"``.
        interpolation: Filter of the resize.
        keep_aspect: Keep the aspect ratio of the frame in that resize. Otherwise the whole frame is squeezed into a
            square of ``resize_short`` pixels, whose center is cut out. Only for ``"center"``.
        antialias: Widen the filter where frames become smaller, as Pillow does. torchvision's video networks were
            evaluated without. Only for ``"bilinear"``.
        mean: Mean of each RGB channel, for pixel values in [0, 1].
        std: Standard deviation of each RGB channel.

    Raises:
        ValueError: If a setting is out of range.

    Example:
        >>> frames = torch.zeros(2, 4, 3, 48, 64, dtype=torch.uint8)
        >>> VideoEval(32, crop="three")(frames, torch.tensor([[48, 64], [48, 64]])).shape
        torch.Size([6, 3, 4, 32, 32])
    """

    def __init__(
        self,
        size: Pixels = 112,
        *,
        crop: Literal["center", "full", "three"] = "center",
        resize_short: Pixels | None = None,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        keep_aspect: bool = True,
        antialias: bool = True,
        mean: tuple[Share, Share, Share] = IMAGENET_MEAN,
        std: tuple[Positive, Positive, Positive] = IMAGENET_STD,
    ) -> None:
        super().__init__(size, mean, std)
        self.interpolation: Literal["bilinear", "bicubic"] = interpolation
        if crop not in ("center", "full", "three"):
            raise InputError(f'crop ({crop!r}) must be "center", "full" or "three".')
        if crop == "full" and resize_short is not None:
            raise InputError(f'resize_short ({resize_short}) has no meaning with crop="full": leave it out.')
        if not keep_aspect and crop != "center":
            raise InputError(f'keep_aspect (False) is for crop="center", got crop={crop!r}.')
        if not antialias and interpolation != "bilinear":
            raise InputError(f'antialias (False) is for interpolation="bilinear", got {interpolation!r}.')
        self.crop, self.keep_aspect, self.antialias = crop, keep_aspect, antialias
        default_short = size if crop == "three" else round(size / 0.875)
        self.resize_short = default_short if resize_short is None else resize_short
        if self.resize_short < size:
            raise InputError(f"resize_short ({resize_short}) must be at least size ({size}).")

    @property
    def num_crops(self) -> int:
        """Number of squares per clip."""
        return 3 if self.crop == "three" else 1

    @torch.no_grad()
    def forward(self, video: Tensor, valid_hw: Tensor) -> Tensor:
        """Crop and resize each clip.

        Args:
            video: (B, T, 3, H, W) uint8 canvas.
            valid_hw: (B, 2) int64 height and width of each clip, at the top left of the canvas.

        Returns:
            (num_crops * B, 3, T, size, size) float32, normalized, crop-major: row ``c * B + b`` is
            crop c of clip b, from the left or the top.

        Raises:
            ValueError: If ``video`` is not a uint8 canvas or ``valid_hw`` does not match it.
        """
        _check_canvas(video, valid_hw)
        positions = (0.0, 0.5, 1.0) if self.crop == "three" else (0.5,)
        crops = [self._render(video, *self._weights(video, valid_hw, position)) for position in positions]
        return crops[0] if len(crops) == 1 else torch.cat(crops)

    def _weights(self, video: Tensor, valid_hw: Tensor, position: float) -> tuple[Tensor, Tensor]:
        """Return row and column weights of the square at a position on the longer side, in [0, 1]."""
        short = valid_hw.amin(dim=1)
        rows, columns = (
            resampling_weights(
                self._axis(valid_hw[:, axis], short, position),
                self.size,
                video.shape[3 + axis],
                interpolation=self.interpolation,
                antialias=self.antialias,
            )
            for axis in (0, 1)
        )
        return rows, columns

    def _axis(self, length: Tensor, short: Tensor, position: float) -> AxisResize:
        """Return the resize along one axis; rounds as torchvision's Resize and CenterCrop do."""
        start = torch.zeros_like(length)
        if self.crop == "full":
            return AxisResize(start, length, torch.full_like(length, self.size), start)
        resized = self.resize_short * length // (short if self.keep_aspect else length)
        positions = torch.where(length > short, position, 0.5)
        offset = ((resized - self.size).double() * positions).round().long()
        return AxisResize(start, length, resized, offset)

    def extra_repr(self) -> str:
        return f"size={self.size}, crop={self.crop!r}"


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Return (B, size) bool: the positions in [start, start + length) of each clip."""
    position = torch.arange(size, device=start.device)
    return (position >= start[:, None]) & (position < (start + length)[:, None])


def _check_canvas(video: Tensor, valid_hw: Tensor) -> None:
    if video.ndim != 5 or video.shape[2] != 3 or video.dtype != torch.uint8:
        raise InputError(f"video must be (B, T, 3, H, W) uint8, got {tuple(video.shape)} {video.dtype}.")
    if tuple(valid_hw.shape) != (len(video), 2):
        raise InputError(
            f"valid_hw must be ({len(video)}, 2): height and width of each clip, got {tuple(valid_hw.shape)}."
        )
