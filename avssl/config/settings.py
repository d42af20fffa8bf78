"""Settings of a pretraining run, as plain dataclasses.

The defaults suit a folder of short videos and a machine with a few CPU cores. A group that is a choice (an encoder, a
head, a spectrogram, an objective) has one dataclass per name in :data:`CHOICES`; its field ``name`` selects it. Options
of a class of avssl are declared at that class, and the dataclass is derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from avssl.config.choice import Choice, Choices, check, make_group, options_with_default
from avssl.config.declared import Option, read_declaration
from avssl.media.backends import BackendName
from avssl.models import AUDIO_ENCODERS, HEADS, VIDEO_ENCODERS
from avssl.objectives import OBJECTIVES
from avssl.transforms import SPECTROGRAMS


@dataclass
class ReadingConfig:
    """Input rows and how they are read."""

    source: str = ""
    """Manifest (CSV) of the rows to train and test on."""
    max_bad_fraction: float = 0.1
    """Stop the run if more than this share of the rows cannot be read, in [0, 1]."""
    num_workers: int | None = None
    """Decoding processes; None uses one per core, at most 8. 0 decodes in the main process."""
    clips_per_read: int = 1
    """Clips read from a file each time it is opened; they go to consecutive batches. More clips cost little extra
    decoding and make an epoch that many times longer."""
    backend: BackendName = "auto"
    """Decoder of media files; "auto" uses the fastest that loads. See `avssl doctor`."""

    def __post_init__(self) -> None:
        check(self.clips_per_read >= 1, f"clips_per_read ({self.clips_per_read}) must be >= 1.")
        check(0 <= self.max_bad_fraction <= 1, f"max_bad_fraction ({self.max_bad_fraction}) must be in [0, 1].")
        check(self.num_workers is None or self.num_workers >= 0, f"num_workers ({self.num_workers}) must be >= 0.")


@dataclass
class DataConfig(ReadingConfig):
    """Training rows and how they are read."""

    source: str = ""
    """Folder of videos, or a manifest (CSV)."""
    split: str = "train"
    """Value of the manifest's split column that selects rows; "all", or no such column, selects every row."""
    segment_seconds: float = 10.0
    """Length of the consecutive rows that a long file is cut into, in seconds."""
    segment_over_seconds: float = 30.0
    """Files longer than this are cut into rows, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.segment_seconds > 0, f"segment_seconds ({self.segment_seconds}) must be > 0.")


if TYPE_CHECKING:
    from avssl.data.sampling import ClipSampling as SamplingConfig

    class VideoTransformConfig:
        """Stands for the class below, whose options are those of several modules."""

        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, **options: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

    AudioTransformConfig = VideoTransformConfig
else:
    SamplingConfig = make_group(
        "SamplingConfig", "Length and rate of the clips.", options_with_default("avssl.data.sampling:ClipSampling")
    )
    _CROP = read_declaration("avssl.transforms.video:VideoEval")["crop"]
    VideoTransformConfig = make_group(
        "VideoTransformConfig",
        "Augmentation of the frames of a clip, on the device; one random draw for the whole clip.",
        [
            *options_with_default("avssl.transforms.video:VideoAugment", without=("mean", "std")),
            Option(
                "eval_crop",
                Literal["center", "full"],
                _CROP.default,
                "Evaluation crop: the central square, or the full frame resized to a square.",
            ),
        ],
    )
    AudioTransformConfig = make_group(
        "AudioTransformConfig",
        "Augmentation of the audio of a training clip.",
        [
            *options_with_default("avssl.transforms.audio_augment:RandomGain"),
            *options_with_default("avssl.transforms.audio_augment:SpectrogramMask"),
        ],
    )


@dataclass
class OptimConfig:
    """Optimizer, batch size and length of training."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimizer."""
    lr: float = 1e-3
    """Peak learning rate, after the warm-up."""
    final_lr: float = 0.0
    """Learning rate at the end of the half cosine; set it to lr for a constant rate."""
    weight_decay: float = 0.05
    """Weight decay of parameters with two dimensions or more."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square; for sgd the first is the momentum."""
    warmup_fraction: float = 0.05
    """Share of the steps during which the learning rate rises from 0, in [0, 1)."""
    batch_size: int = 64
    """Clips per step over all processes; the other clips of the batch are a clip's negatives."""
    epochs: int = 20
    """Number of epochs."""
    grad_clip: float | None = None
    """Maximum gradient norm, above which gradients are scaled down; None for no limit."""

    def __post_init__(self) -> None:
        for name in ("lr", "batch_size", "epochs"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")
        check(0 <= self.warmup_fraction < 1, f"warmup_fraction ({self.warmup_fraction}) must be in [0, 1).")


@dataclass
class TrainConfig:
    """Seed, initial weights, device, logging and checkpoints."""

    seed: int = 0
    """Random seed for initial weights, data order and augmentation."""
    init_from: str = ""
    """Run directory whose newest checkpoint provides initial weights, statistics and memory; CMA starts from AVID."""
    init_video_from: str = ""
    """File of torchvision weights for the video encoder, such as ImageNet's resnet18 for resnet18_image."""
    device: str = "auto"
    """Device: "cpu", "cuda", "cuda:1" ...; "auto" uses a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the model and of its input frames; "auto" measures and uses the fastest, which config.yaml then
    records."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Memory layout of the model and of its input frames; "auto" measures and uses the fastest."""
    threads: int | None = None
    """CPU threads of the model; None uses PyTorch's default."""
    batch_norm: Literal["train", "eval"] = "train"
    """Mode of BatchNorm; "eval" fixes its statistics, so that results do not depend on the number of processes."""
    embed_chunk_size: int | None = None
    """Clips that one process encodes at a time, for batches that do not fit into memory; the loss still uses the whole
    batch. Costs one more forward pass; BatchNorm then normalizes within a chunk."""
    log_every: int = 10
    """Steps between logged metrics."""
    checkpoint_every_seconds: float = 300.0
    """Approximate time between checkpoints; converted to steps when the run starts."""
    checkpoint_every_steps: int | None = None
    """Steps between checkpoints, in place of the time: the same steps on every machine."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints to keep; two, so that a damaged one has a predecessor."""
    ema_decay: float | None = None
    """Decay of a moving average of the weights to release, such as 0.999, in [0, 1); None releases the weights."""

    def __post_init__(self) -> None:
        check(
            not (self.init_from and self.init_video_from),
            "init_from provides all weights, including those of init_video_from: set only one of them.",
        )
        chunk = self.embed_chunk_size
        check(chunk is None or chunk > 0, f"embed_chunk_size ({chunk}) must be > 0.")
        check(self.log_every > 0, f"log_every ({self.log_every}) must be > 0.")
        check(self.keep_checkpoints > 0, f"keep_checkpoints ({self.keep_checkpoints}) must be > 0.")
        check(self.ema_decay is None or 0 <= self.ema_decay < 1, f"ema_decay ({self.ema_decay}) must be in [0, 1).")
        check(self.threads is None or self.threads > 0, f"threads ({self.threads}) must be > 0.")


@dataclass
class MonitorConfig:
    """Measurements during training: retrieval in a gallery, spread of the embeddings, a linear probe."""

    every_steps: int = 200
    """Steps between measurements; 0 for none."""
    num_clips: int = 128
    """Maximum number of gallery rows."""
    split: str = "val"
    """Value of the manifest's split column that selects the gallery, if there are such rows."""
    held_out_fraction: float = 0.05
    """Maximum share of the rows to hold out of training as the gallery, in [0, 1), if there are no rows of
    monitor.split. With 0, or a corpus too small for 32 such rows, the gallery consists of training rows."""
    probe_clips: int = 256
    """Labeled training rows to fit a linear probe on at each measurement; 0 for no probe."""

    def __post_init__(self) -> None:
        for name in ("every_steps", "num_clips", "probe_clips"):
            check(getattr(self, name) >= 0, f"{name} ({getattr(self, name)}) must be >= 0.")
        check(0 <= self.held_out_fraction < 1, f"held_out_fraction ({self.held_out_fraction}) must be in [0, 1).")


@dataclass
class Steps(Choice):
    """A constant learning rate that is multiplied by a factor at given epochs."""

    at_epochs: tuple[int, ...] = (6, 10, 14)
    """Epochs at which the rate changes, counted from the first in which the encoders are trained."""
    factor: float = 0.3
    """Factor by which the rate is multiplied at each of at_epochs, > 0."""

    def __post_init__(self) -> None:
        check(self.factor > 0, f"factor ({self.factor}) must be > 0.")
        check(list(self.at_epochs) == sorted(self.at_epochs), f"at_epochs {self.at_epochs} must be ascending.")


@dataclass
class Cosine(Choice):
    """Half a cosine down to a final learning rate."""

    final_lr: float = 0.0
    """Learning rate at the end; set it to the peak for a constant rate."""


def choose(path: str, name: str, **options: Any) -> Choice:
    """Return the settings of a choice, such as ``choose("objective", "info_nce", temperature=0.1)``."""
    group: Any = CHOICES[path][name]
    chosen: Choice = group(name, **options)
    return chosen


@dataclass
class TransformConfig:
    """Preprocessing and augmentation of decoded clips."""

    video: VideoTransformConfig = field(default_factory=VideoTransformConfig)
    """Frames."""
    spectrogram: Choice = field(default_factory=partial(choose, "transform.spectrogram", "log_mel"))
    """Spectrogram of the audio."""
    audio: AudioTransformConfig = field(default_factory=AudioTransformConfig)
    """Audio."""


@dataclass
class DropoutConfig:
    """Dropout between encoders and heads, in training."""

    video: float = 0.0
    """Share of the video features to drop before the heads, in [0, 1); 0.9 in SLAVC and FNAC."""

    def __post_init__(self) -> None:
        check(0 <= self.video < 1, f"video ({self.video}) must be in [0, 1).")


@dataclass
class ModelConfig:
    """Encoders and projection heads."""

    video: Choice = field(default_factory=partial(choose, "model.video", "small_video"))
    """Video encoder."""
    audio: Choice = field(default_factory=partial(choose, "model.audio", "small_audio"))
    """Audio encoder."""
    head: Choice = field(default_factory=partial(choose, "model.head", "mlp_bn"))
    """Projection head of each modality."""
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    """Dropout between encoders and heads."""


@dataclass
class Config:
    """All settings of a pretraining run."""

    data: DataConfig = field(default_factory=DataConfig)
    """Training rows and how they are read."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Length and rate of clips."""
    transform: TransformConfig = field(default_factory=TransformConfig)
    """Preprocessing and augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Encoders and projection heads."""
    objective: Choice = field(default_factory=partial(choose, "objective", "info_nce"))
    """Loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """Optimizer, batch size and length of training."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Seed, initial weights, device, logging and checkpoints."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    """Measurements during training."""


CHOICES: dict[str, Mapping[str, type[Choice]]] = {
    "transform.spectrogram": Choices(SPECTROGRAMS, without=("sample_rate_hz",)),
    "model.video": Choices(VIDEO_ENCODERS),
    "model.audio": Choices(AUDIO_ENCODERS),
    "schedule": {"cosine": Cosine, "steps": Steps},
    "model.head": Choices(HEADS),
    "objective": Choices(OBJECTIVES, without=("seed",)),
}
"""The dataclass of each name that a group can have."""
