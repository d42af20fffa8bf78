"""The transform of a training or evaluation run: from a raw batch to model input, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from avssl.core.affine import RandomAffine
from avssl.core.batch import Batch, Originals
from avssl.core.draws import DrawnTogether
from avssl.core.errors import InputError
from avssl.core.needs import TemporalWindows
from avssl.transforms.audio_augment import MASK_PARTS, RandomGain, SpectrogramMask
from avssl.transforms.front_end import FrontEnd
from avssl.transforms.local_views import LocalViews
from avssl.transforms.negative_sounds import NegativeSounds
from avssl.transforms.planes import planes_to_rgb
from avssl.transforms.standardize import Standardize
from avssl.transforms.video import VideoAugment, VideoEval
from avssl.transforms.waveform_augment import NUM_DRAWS as WAVEFORM_DRAWS
from avssl.transforms.waveform_augment import WaveformAugment

AUDIO_DRAWS = WAVEFORM_DRAWS + 1 + 2 * MASK_PARTS
"""Numbers that describe the augmentation of audio: of the waveform, the gain and the masks."""


class ClipTransform(nn.Module):
    """Transforms a raw batch: augmented views in training mode, one plain view otherwise.

    ``train()`` and ``eval()`` switch between the two, as for any module. Every random number is a pure
    function of the clip's key, its purpose and the number of the view: the result for a clip does not depend
    on the rest of the batch, unless other clips' audio is mixed in, and no random generator is used.

    Args:
        video_augment: Transform of frames in training.
        video_eval: Transform of frames in evaluation.
        spectrogram: Spectrogram in both.
        standardize: Per-bin statistics; its buffers are in ``state_dict``. None keeps decibels.
        waveform_augment: Augmentation of waveforms in training; None for none.
        gain: Random loudness in training, after the other augmentation; None for none.
        mask: Random masks in training; None for none. Needs ``standardize``, whose mean they are filled with.
        num_views: Views of each clip in training, >= 1.
        view_warp: Makes the frames of the second of two views from those of the first, turned and shrunk, on the mean
            color, 0. None augments both views independently, as their audio always is.
        negative_sounds: Number of silent and noisy waveforms in ``negative_audio`` of each training batch, even; 0
            for none. They are not augmented, and all views share them.
        windows: Windows that each raw training clip has; None for one. Several views are views of the windows, and
            ``other_audio`` are the negatives in time, with the gain and masks of their view's audio: they differ from
            it in their time only.
        originals: Also return the clips without augmentation, with numbers that describe that of their first view.
        local_views: Cuts ``num_local_views`` further views of each training clip (the first window's); None for none.
        num_local_views: Number of local views, > 0 with ``local_views``.

    Raises:
        ValueError: If ``num_views`` is below 1, or not 2 with ``view_warp``, ``negative_sounds`` is odd or negative,
            ``mask`` comes without ``standardize``, or the number of bins of ``standardize`` is not the spectrogram's.

    Example:
        >>> from avssl.core.batch import BatchIndex
        >>> row, sizes = torch.arange(2), torch.tensor([[48, 64], [48, 64]])
        >>> frames = torch.zeros(2, 4, 3, 48, 64, dtype=torch.uint8)
        >>> raw = avssl.Batch(frames, torch.randn(2, 16000), BatchIndex(row, row, row), sizes)
        >>> views = ClipTransform(VideoAugment(32), VideoEval(32), LogMel(16000), num_views=2)(raw)
        >>> views.video.shape, views.audio.shape
        (torch.Size([4, 3, 4, 32, 32]), torch.Size([4, 1, 100, 64]))
    """

    def __init__(
        self,
        video_augment: VideoAugment,
        video_eval: VideoEval,
        spectrogram: FrontEnd,
        *,
        standardize: Standardize | None = None,
        waveform_augment: WaveformAugment | None = None,
        gain: RandomGain | None = None,
        mask: SpectrogramMask | None = None,
        num_views: int = 1,
        view_warp: RandomAffine | None = None,
        negative_sounds: int = 0,
        windows: TemporalWindows | None = None,
        originals: bool = False,
        local_views: LocalViews | None = None,
        num_local_views: int = 0,
    ) -> None:
        super().__init__()
        if num_views < 1:
            raise InputError(f"num_views ({num_views}) must be at least 1.")
        if mask is not None and standardize is None:
            raise InputError("mask fills with 0, the mean of a standardized spectrogram: give standardize too.")
        if standardize is not None and len(standardize.mean) != spectrogram.num_bins:
            raise InputError(
                f"standardize has {len(standardize.mean)} bins and the spectrogram {spectrogram.num_bins}: "
                "build it with Standardize(spectrogram.num_bins)."
            )
        self.video_augment, self.video_eval = video_augment, video_eval
        self.spectrogram, self.standardize = spectrogram, standardize
        self.waveform_augment, self.gain, self.mask = waveform_augment, gain, mask
        if view_warp is not None and num_views != 2:
            raise InputError(f"view_warp makes the second of two views of the first; num_views is {num_views}.")
        self.num_views, self.view_warp = num_views, view_warp
        self.windows = windows or TemporalWindows()
        if self.windows.num_views not in (1, num_views) or (view_warp is not None and self.windows.num_views > 1):
            raise InputError(f"{self.windows.num_views} windows are not the {num_views} views of a clip.")
        self.negative_sounds = NegativeSounds(negative_sounds) if negative_sounds else None
        self.originals = originals
        self._drawn_together = DrawnTogether()
        if num_local_views < 0 or (local_views is None) != (num_local_views == 0):
            raise InputError(f"num_local_views ({num_local_views}) must be above 0 with local_views, and 0 without.")
        self.local_views, self.num_local_views = local_views, num_local_views

    def set_output(self, dtype: torch.dtype, memory_format: torch.memory_format) -> None:
        """Set the format of the augmented frames of all views, as :meth:`VideoAugment.set_output` does."""
        self.video_augment.set_output(dtype, memory_format)
        if self.local_views is not None:
            self.local_views.video_augment.set_output(dtype, memory_format)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile as any module; one program serves canvases of every size.

        Raises:
            RuntimeError: If the statistics of ``standardize`` were never set.
        """
        if self.standardize is not None:
            self.standardize.check()
        super().compile(*args, **options)
        program: Any = self._compiled_call_impl

        def call(batch: Batch) -> Batch:
            for plane in (batch.video, batch.chroma):
                if plane is not None:
                    torch._dynamo.mark_dynamic(plane, [3, 4])
            return program(batch)

        self._compiled_call_impl = call

    @torch.no_grad()
    def forward(self, batch: Batch) -> Batch:
        """Transform B raw clips.

        Returns:
            A batch of V * B, view-major: row ``v * B + b`` is view v of clip b. V is ``num_views`` in
            training mode, and in evaluation mode the number of crops, which share their audio.

        Raises:
            ValueError: If ``batch`` is not raw.
            RuntimeError: If the statistics of ``standardize`` were never set.
        """
        if not batch.is_raw or batch.valid_hw is None:
            raise InputError("the batch is transformed already: its video is not a uint8 canvas.")
        if not self.training:
            audio = _join([self.audio_input(batch.audio)] * self.video_eval.num_crops)
            return Batch(self.video_input(batch.video, batch.valid_hw, batch.chroma), audio, batch.index)
        with self._drawn_together(batch.index.key):
            return self._augmented(batch)

    def _augmented(self, batch: Batch) -> Batch:
        is_read_again = self.originals or self.local_views is not None
        if is_read_again and batch.chroma is not None:  # convert the colors once
            batch = replace(batch, video=planes_to_rgb(batch.video, batch.chroma), chroma=None)
        video, audio = self.video_views(batch), self.audio_views(batch)
        negative_audio = other_audio = None
        if self.negative_sounds is not None:
            num_samples = batch.audio.shape[1] // self.windows.num_audio
            negative_audio = self.audio_input(self.negative_sounds(batch.index.key, num_samples))
        if self.windows.num_negatives:
            heard, key = self._heard(batch.audio), batch.index.key
            others = [
                torch.stack([self._augmented_audio(x, key, view) for x in heard[view % len(heard)][1:]], dim=1)
                for view in range(self.num_views)
            ]
            other_audio = _join(others).flatten(0, 1)  # (V * B * K, 1, time, freq)
        originals = self._originals(batch) if self.originals else None
        local_video, local_audio = self._local(batch) or (None, None)
        return Batch(
            video,
            audio,
            batch.index,
            negative_audio=negative_audio,
            other_audio=other_audio,
            originals=originals,
            local_video=local_video,
            local_audio=local_audio,
        )

    def _originals(self, batch: Batch) -> Originals:
        assert batch.valid_hw is not None, "the batch is raw"
        waveform, key = self._heard(batch.audio)[0][0], batch.index.key
        audio = self.audio_input(waveform)
        none = torch.zeros(len(key), AUDIO_DRAWS, device=key.device)
        parts = [
            none[:, :WAVEFORM_DRAWS]
            if self.waveform_augment is None
            else self.waveform_augment.draws(waveform.shape[1], key),
            none[:, :1] if self.gain is None else self.gain.draws(key),
            none[:, : 2 * MASK_PARTS] if self.mask is None else self.mask.draws(audio.shape[2], audio.shape[3], key),
        ]
        return Originals(
            self.video_input(self._seen(batch.video)[0], batch.valid_hw),
            audio,
            self.video_augment.draws(batch.valid_hw, key),
            torch.cat([part.float() for part in parts], dim=1),
        )

    def _local(self, batch: Batch) -> tuple[Tensor, Tensor] | None:
        """Return ``local_video`` and ``local_audio`` of a batch; None without local views."""
        local, key = self.local_views, batch.index.key
        if local is None or batch.valid_hw is None:
            return None
        numbers = range(self.num_views, self.num_views + self.num_local_views)  # draws of their own
        seen, heard = self._seen(batch.video)[0], self._heard(batch.audio)[0][0]
        return (
            _join([local.frames(seen, batch.valid_hw, key, view) for view in numbers]),
            _join([self._augmented_audio(local.window(heard, key, view), key, view) for view in numbers]),
        )

    @torch.no_grad()
    def video_views(self, batch: Batch) -> Tensor:
        """Return the (V * B, 3, T, size, size) augmented frames of B raw clips, view-major."""
        if batch.valid_hw is None:
            raise InputError("the batch is transformed already: its video is not a uint8 canvas.")
        video, key = batch.video, batch.index.key
        seen = self._seen(video if batch.chroma is None else planes_to_rgb(video, batch.chroma))
        own_views = 1 if self.view_warp else self.num_views
        views = [self.video_augment(seen[view % len(seen)], batch.valid_hw, key, view) for view in range(own_views)]
        if self.view_warp is not None:
            views.append(
                torch.empty_like(views[0]).copy_(self.view_warp.draw(key).warp(views[0]))
            )  # keeps the memory format
        return _join(views)

    @torch.no_grad()
    def audio_views(self, batch: Batch) -> Tensor:
        """Return the (V * B, 1, time, freq) augmented spectrograms of B raw clips, view-major."""
        heard, key = self._heard(batch.audio), batch.index.key
        return _join([self._augmented_audio(heard[view % len(heard)][0], key, view) for view in range(self.num_views)])

    def _seen(self, video: Tensor) -> Sequence[Tensor]:
        """Return the frames of each window of video."""
        count = self.windows.num_views
        if count == 1:
            return [video]
        self._check_windows("video", video.shape[1], count)
        return video.unflatten(1, (count, -1)).unbind(1)

    def _heard(self, audio: Tensor) -> Sequence[Sequence[Tensor]]:
        """Return the waveforms of each window of video: its own and those of its negatives."""
        windows = self.windows
        if windows.num_audio == 1:
            return [[audio]]
        self._check_windows("audio", audio.shape[1], windows.num_audio)
        waveforms = audio.unflatten(1, (windows.num_views, 1 + windows.num_negatives, -1))  # (B, V, 1 + K, S)
        return [view.unbind(1) for view in waveforms.unbind(1)]

    def _check_windows(self, stream: str, length: int, count: int) -> None:
        if length % count:
            raise InputError(
                f"the clips do not hold {self.windows.num_views} windows of video and {self.windows.num_audio} of "
                f"audio ({stream}: {length}): build the dataset with windows=objective.needs.windows."
            )

    def video_input(self, video: Tensor, valid_hw: Tensor | None = None, chroma: Tensor | None = None) -> Tensor:
        """Return the model input of raw frames as in evaluation, without augmentation.

        Args:
            video: (B, T, 3, H, W) uint8 canvas, or (B, T, 1, H, W) luma beside ``chroma``.
            valid_hw: (B, 2) size of each clip on the canvas; None if each fills it.
            chroma: As in :class:`~avssl.core.batch.Batch`.

        Returns:
            (num_crops * B, 3, T, size, size) float32.
        """
        if valid_hw is None:
            valid_hw = torch.tensor(video.shape[-2:], device=video.device).expand(len(video), 2)
        return self.video_eval(video if chroma is None else planes_to_rgb(video, chroma), valid_hw)

    def audio_input(self, waveform: Tensor) -> Tensor:
        """Return the (B, 1, time, freq) model input of (B, S) float waveforms, without augmentation."""
        spectrogram = self.spectrogram(waveform)
        return spectrogram if self.standardize is None else self.standardize(spectrogram)

    def _augmented_audio(self, waveform: Tensor, key: Tensor, view: int) -> Tensor:
        if self.waveform_augment is not None:
            waveform = self.waveform_augment(waveform, key, view)
        if self.gain is not None:
            waveform = self.gain(waveform, key, view)
        spectrogram = self.audio_input(waveform)
        return spectrogram if self.mask is None else self.mask(spectrogram, key, view)


def _join(views: list[Tensor]) -> Tensor:
    """Concatenate views, view-major; a single view is not copied."""
    return views[0] if len(views) == 1 else torch.cat(views)
