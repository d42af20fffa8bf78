"""Settings of a pretraining run, as plain dataclasses.

The defaults suit a folder of short videos and a machine with a few CPU cores. A group that is a choice (an encoder, a
head, a spectrogram, an objective) has one dataclass per name in :data:`CHOICES`; its field ``name`` selects it. Options
of a class of avssl are declared at that class, and the dataclass is derived from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

from avssl.config.choice import Choice, Choices, check
from avssl.config.derived import AudioTransformConfig, LocalViewsConfig, SamplingConfig, VideoTransformConfig
from avssl.core.ranges import (
    Count,
    CountOrZero,
    Positive,
    PositiveOrZero,
    Seconds,
    Seed,
    SegmentSeconds,
    Share,
    ShareBelowOne,
    Threads,
    Workers,
    checked,
)
from avssl.media.backends import BackendName
from avssl.media.limits import MediaLimits
from avssl.models import AUDIO_ENCODERS, CLASSIFIER_LOSSES, HEADS, VIDEO_ENCODERS
from avssl.objectives import OBJECTIVES
from avssl.transforms import SPECTROGRAMS


@checked
@dataclass
class ReadingConfig:
    """Input rows and how they are read."""

    source: str = ""
    """Manifest (CSV) of the rows to train and test on, or a folder of class folders."""
    where: str = ""
    """Conditions on the manifest's columns that rows must meet to be used, such as "match>=0.3 duplicate_of=''", with
    the columns of `avssl explore`."""
    max_bad_fraction: Share = 0.1
    """Stop the run if more than this share of the rows cannot be read, in [0, 1]."""
    num_workers: Workers | None = None
    """Decoding processes; None divides seven of eight cores among the ranks. 0 decodes in the main process."""
    clips_per_read: Count = 1
    """Clips read from a file each time it is opened; they go to consecutive batches. More clips cost little extra
    decoding and make an epoch that many times longer."""
    backend: BackendName = "auto"
    """Decoder of media files; "auto" uses the fastest that loads on the CPU, "torchcodec_cuda" decodes frames on the
    GPU. See `avssl doctor`."""


@checked
@dataclass
class DataConfig(ReadingConfig):
    """Training rows and how they are read.

    Example:
        >>> data = DataConfig("videos", where="match>=0.3", segment_seconds=5.0)
        >>> data.split, data.segment_seconds, data.max_bad_fraction
        ('train', 5.0, 0.1)
    """

    source: str = ""
    """Folder of videos; a manifest (CSV); WebDataset tars, as "shards/{000..010}.tar"; or a Hugging Face dataset: a
    folder of save_to_disk, or "hf:OWNER/NAME"."""
    split: str = "train"
    """Value of the manifest's split column that selects rows; "all", or no such column, selects every row."""
    segment_seconds: SegmentSeconds = 10.0
    """Length of the consecutive rows that a long file is cut into, in seconds."""
    segment_over_seconds: Seconds = 30.0
    """Files longer than this are cut into rows, in seconds."""
    segment_manifest: bool = False
    """Cut the rows of whole files of a manifest into segments too, by the lengths in their headers."""


@checked
@dataclass
class OptimConfig:
    """Optimizer, batch size and length of training.

    Example:
        >>> optim = OptimConfig(lr=0.0005, epochs=100)
        >>> optim.name, optim.batch_size
        ('adamw', 64)
        >>> OptimConfig(warmup_fraction=1.0)
        Traceback (most recent call last):
            ...
        avssl.core.errors.InputError: warmup_fraction (1.0) must be in [0, 1).
    """

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """Optimizer."""
    lr: Positive = 1e-3
    """Peak learning rate, after the warm-up."""
    final_lr: PositiveOrZero = 0.0
    """Learning rate at the end of the half cosine; set it to lr for a constant rate."""
    weight_decay: PositiveOrZero = 0.05
    """Weight decay of parameters with two dimensions or more."""
    decay_tokens: bool = False
    """Decay position embeddings, class tokens and the like too; otherwise they are left out, as in timm. Runs from
    before this setting decay them when they are continued."""
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square; for sgd the first is the momentum."""
    warmup_fraction: ShareBelowOne = 0.05
    """Share of the steps during which the learning rate rises from 0, in [0, 1)."""
    batch_size: Count = 64
    """Clips per step over all processes; the other clips of the batch are a clip's negatives."""
    epochs: Count = 20
    """Number of epochs."""
    grad_clip: Positive | None = None
    """Maximum gradient norm, above which gradients are scaled down; None for no limit."""


@checked
@dataclass
class TrainConfig:
    """Seed, initial weights, device, logging and checkpoints.

    Example:
        >>> TrainConfig(seed=1, deterministic=True).is_contiguous
        True
        >>> TrainConfig(init_from="runs/avid", init_video_from="resnet18.pth")
        Traceback (most recent call last):
            ...
        avssl.core.errors.InputError: init_from provides all weights, including those of init_video_from:
        set only one of them.
    """

    seed: Seed = 0
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
    memory_format: Literal["auto", "contiguous", "channels_last", "channels_last_2d"] = "auto"
    """Memory layout of the model and of its input frames; with "channels_last_2d", (2+1)D networks also compute on 2-D
    views of it. "auto" measures and uses the fastest."""
    deterministic: bool = False
    """Compute the same numbers in every run on the same GPUs, or stop at an operation that cannot; slower. A CPU with
    the same number of threads does so anyway."""
    compile: Literal["none", "model", "transforms", "all"] = "none"
    """Parts of a step to run as programs of torch.compile: the networks and the loss, the transforms, or all. The first
    steps take a minute or more longer; later ones are faster, on a GPU above all. Losses differ by rounding."""
    threads: Threads | None = None
    """CPU threads of the model; None uses PyTorch's default."""
    batch_norm: Literal["train", "eval", "sync"] = "train"
    """Mode of BatchNorm; "eval" fixes its statistics, and "sync" takes those of the whole batch over all processes, so
    that results do not depend on their number; "train" takes those of each process."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Division of the model among processes: with "ddp" each has the whole model, its gradient and optimizer state,
    with "fsdp" a part of them, for encoders that do not fit. Losses are equal up to rounding."""
    activation_checkpointing: Literal["none", "block"] = "none"
    """"block" keeps only the input of each block of the encoders, and computes the rest again in the backward pass:
    less memory for one more forward pass, with equal numbers."""
    embed_chunk_size: Count | None = None
    """Clips that one process encodes at a time, for batches that do not fit into memory; the loss still uses the whole
    batch. Costs one more forward pass; BatchNorm then normalizes within a chunk."""
    log_every: Count = 10
    """Steps between logged metrics."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ("tensorboard",)
    """Trackers that show the metrics, beside metrics.jsonl, which is always written. wandb, mlflow and trackio need the
    extra of that name, and take project and server from their own environment variables."""
    checkpoint_every_seconds: Seconds = 300.0
    """Approximate time between checkpoints; converted to steps when the run starts."""
    checkpoint_every_steps: Count | None = None
    """Steps between checkpoints, in place of the time: the same steps on every machine."""
    keep_checkpoints: Count = 2
    """Number of newest checkpoints to keep; two, so that a damaged one has a predecessor."""
    ema_decay: ShareBelowOne | None = None
    """Decay of a moving average of the weights to release, such as 0.999, in [0, 1); None releases the weights."""

    def __post_init__(self) -> None:
        check(
            not self.is_contiguous or self.memory_format in ("auto", "contiguous"),
            "parallel fsdp shards contiguous weights, and deterministic gradients of pooling need contiguous maps: "
            "memory_format must be auto or contiguous.",
        )
        check(
            not (self.init_from and self.init_video_from),
            "init_from provides all weights, including those of init_video_from: set only one of them.",
        )

    @property
    def is_contiguous(self) -> bool:
        """True if another setting needs tensors in the contiguous layout."""
        return self.parallel == "fsdp" or self.deterministic


@checked
@dataclass
class MonitorConfig:
    """Measurements during training: retrieval in a gallery, spread of the embeddings, a linear probe.

    Example:
        >>> MonitorConfig(every_steps=500, probe_clips=0)  # no linear probe
        MonitorConfig(every_steps=500, num_clips=128, split='val', held_out_fraction=0.05, probe_clips=0)
    """

    every_steps: CountOrZero = 200
    """Steps between measurements; 0 for none."""
    num_clips: CountOrZero = 128
    """Maximum number of gallery rows."""
    split: str = "val"
    """Value of the manifest's split column that selects the gallery, if there are such rows."""
    held_out_fraction: ShareBelowOne = 0.05
    """Maximum share of the rows to hold out of training as the gallery, in [0, 1), if there are no rows of
    monitor.split. With 0, or a corpus too small for 32 such rows, the gallery consists of training rows."""
    probe_clips: CountOrZero = 256
    """Labeled training rows to fit a linear probe on at each measurement; 0 for no probe."""


@checked
@dataclass
class Steps(Choice):
    """A constant learning rate that is multiplied by a factor at given epochs.

    Example:
        >>> tree = {"schedule": {"name": "steps", "at_epochs": [10, 20], "factor": 0.1}}
        >>> config_from_dict(tree, root=FinetuneConfig).schedule
        Steps(name='steps', at_epochs=(10, 20), factor=0.1)
    """

    at_epochs: tuple[CountOrZero, ...] = (6, 10, 14)
    """Epochs at which the rate changes, counted from the first in which the encoders are trained."""
    factor: Positive = 0.3
    """Factor by which the rate is multiplied at each of at_epochs, > 0."""

    def __post_init__(self) -> None:
        check(list(self.at_epochs) == sorted(self.at_epochs), f"at_epochs {self.at_epochs} must be ascending.")


@checked
@dataclass
class Cosine(Choice):
    """Half a cosine down to a final learning rate.

    Example:
        >>> config_from_dict({"schedule": {"name": "cosine"}}, root=FinetuneConfig).schedule
        Cosine(name='cosine', final_lr=0.0)
    """

    final_lr: PositiveOrZero = 0.0
    """Learning rate at the end; set it to the peak for a constant rate."""


def choose(path: str, name: str, **options: Any) -> Choice:
    """Return the settings of a choice, with its defaults for the options that are left out.

    Args:
        path: The group of settings, a key of :data:`CHOICES`.
        name: One of its classes or functions, such as "info_nce".
        **options: Its options.

    Raises:
        KeyError: If there is no such group or name.
        TypeError: If an option is unknown.
        InputError: If a number is out of range.

    Example:
        >>> head = choose("model.head", "mlp_bn", hidden=512)
        >>> head.name, head.hidden
        ('mlp_bn', 512)
        >>> sorted(CHOICES["model.head"])
        ['linear', 'mlp', 'mlp_bn', 'norm_linear']
    """
    group: Any = CHOICES[path][name]
    chosen: Choice = group(name, **options)
    return chosen


@dataclass
class TransformConfig:
    """Preprocessing and augmentation of decoded clips.

    Example:
        >>> tree = {"transform": {"video": {"size": 64}, "spectrogram": {"num_mels": 40}}}
        >>> transform = config_from_dict(tree).transform
        >>> transform.video.size, transform.spectrogram.name, transform.spectrogram.num_mels
        (64, 'log_mel', 40)
    """

    video: VideoTransformConfig = field(default_factory=VideoTransformConfig)
    """Frames."""
    spectrogram: Choice = field(default_factory=partial(choose, "transform.spectrogram", "log_mel"))
    """Spectrogram of the audio."""
    audio: AudioTransformConfig = field(default_factory=AudioTransformConfig)
    """Audio."""


@checked
@dataclass
class SpaceConfig:
    """Space that video and audio are compared in."""

    of: Literal["heads", "video", "audio"] = "heads"
    """"heads" gives both encoders a projection head; "video" and "audio" take the features of that encoder as they are,
    and the other one alone has a head: so audio is aligned to a frozen CLIP, whose texts are then comparable too."""


@checked
@dataclass
class DropoutConfig:
    """Dropout between encoders and heads, in training."""

    video: ShareBelowOne = 0.0
    """Share of the video features to drop before the heads, in [0, 1); 0.9 in SLAVC and FNAC."""


@dataclass
class ModelConfig:
    """Encoders and projection heads.

    Example:
        >>> model = ModelConfig(video=choose("model.video", "resnet18_image"))
        >>> model.video.name, model.audio.name, model.head.name
        ('resnet18_image', 'small_audio', 'mlp_bn')
    """

    video: Choice = field(default_factory=partial(choose, "model.video", "small_video"))
    """Video encoder."""
    audio: Choice = field(default_factory=partial(choose, "model.audio", "small_audio"))
    """Audio encoder."""
    head: Choice = field(default_factory=partial(choose, "model.head", "mlp_bn"))
    """Projection head of each modality."""
    space: SpaceConfig = field(default_factory=SpaceConfig)
    """Space that video and audio are compared in."""
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    """Dropout between encoders and heads."""


@dataclass
class Config:
    """All settings of a pretraining run.

    Example:
        >>> config = Config(optim=OptimConfig(epochs=5), objective=choose("objective", "vicreg"))
        >>> config.optim.epochs, config.objective.name, config.train.seed
        (5, 'vicreg', 0)
    """

    data: DataConfig = field(default_factory=DataConfig)
    """Training rows and how they are read."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits on media files; where they are the defaults, those that `avssl index` stores in the manifest count."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Length and rate of clips."""
    transform: TransformConfig = field(default_factory=TransformConfig)
    """Preprocessing and augmentation."""
    local_views: LocalViewsConfig = field(default_factory=LocalViewsConfig)
    """Local views, of objectives whose local_views is above 0."""
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
    "loss": Choices(CLASSIFIER_LOSSES),
    "objective": Choices(OBJECTIVES, without=("seed",)),
}
"""The dataclass of each name that a group can have."""
