"""Settings of clips and of their augmentation, derived from the classes that take them.

The options are declared at :class:`~avssl.data.ClipSampling` and at the classes of :mod:`avssl.transforms`, with their
defaults, ranges and documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from avssl.config.choice import make_group, options_with_default
from avssl.config.declared import Option, read_declaration
from avssl.transforms.presets import AUDIO_PRESETS, VIDEO_PRESETS

if TYPE_CHECKING:
    from avssl.data.sampling import ClipSampling as SamplingConfig

    class _Group:
        """Options of several modules, known at run time."""

        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, **options: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    class VideoTransformConfig(_Group):
        """Augmentation of frames."""

    class AudioTransformConfig(_Group):
        """Augmentation of audio."""

    class LocalViewsConfig(_Group):
        """Local views of a clip."""

else:
    SamplingConfig = make_group(
        "SamplingConfig",
        """Length and rate of the clips.

        Example:
            >>> sampling = config_from_dict({"sampling": {"num_frames": 16}}).sampling
            >>> sampling.num_frames, sampling.frames_per_second, sampling.audio_seconds
            (16, 4.0, 2.0)
        """,
        options_with_default("avssl.data.sampling:ClipSampling"),
    )

    def _preset(subject: str, table: Mapping[str, Mapping[str, Any]]) -> Option:
        text = (
            f"Named augmentation of {subject}: stands for values of the options of this group, and single options that "
            "are set override it. --print-config shows the values."
        )
        return Option("preset", Literal[tuple(table)], "default", text)

    _EVAL = read_declaration("avssl.transforms.video:VideoEval")
    VideoTransformConfig = make_group(
        "VideoTransformConfig",
        """Augmentation of the frames of a clip, on the device; one random draw for the whole clip.

        Example:
            >>> tree = {"transform": {"video": {"size": 64, "flip_probability": 0.0}}}
            >>> video = config_from_dict(tree).transform.video
            >>> video.size, video.flip_probability, video.eval_crop
            (64, 0.0, 'center')
        """,
        [
            *options_with_default("avssl.transforms.video:VideoAugment"),
            Option(
                "eval_crop",
                Literal["center", "full"],
                _EVAL["crop"].default,
                "Evaluation crop: the central square, or the full frame resized to a square.",
            ),
            replace(
                _EVAL["resize_short"],
                name="eval_resize_short",
                help="Short side of the frame that the central square is cut from in evaluation, in pixels; None for "
                "size / 0.875.",
            ),
            replace(_EVAL["interpolation"], name="eval_interpolation", help="Filter of that resize."),
            replace(
                _EVAL["keep_aspect"],
                name="eval_keep_aspect",
                help="Keep the aspect ratio of the frame in that resize; otherwise the whole frame is squeezed into a "
                "square, whose center is cut out.",
            ),
            replace(
                _EVAL["antialias"],
                name="eval_antialias",
                help="Widen the filter of the evaluation's resize where frames become smaller, as Pillow does.",
            ),
            _preset("frames", VIDEO_PRESETS),
        ],
    )
    AudioTransformConfig = make_group(
        "AudioTransformConfig",
        """Augmentation of the audio of a training clip.

        Example:
            >>> audio = config_from_dict({"transform": {"audio": {"gain": [0.5, 2.0]}}}).transform.audio
            >>> audio.gain, audio.preset
            ((0.5, 2.0), 'default')
        """,
        [
            *options_with_default("avssl.transforms.audio_augment:RandomGain"),
            *options_with_default("avssl.transforms.audio_augment:SpectrogramMask"),
            *options_with_default("avssl.transforms.waveform_augment:WaveformAugment"),
            _preset("audio", AUDIO_PRESETS),
        ],
    )

    LocalViewsConfig = make_group(
        "LocalViewsConfig",
        "Local views of a clip, for objectives whose local_views is above 0.",
        options_with_default("avssl.transforms.local_views:LocalViews"),
    )
