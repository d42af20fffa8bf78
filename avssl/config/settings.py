"""Every number of a run, as plain dataclasses with a line of doc under each field.

The defaults are for a folder of short videos and a machine with a few CPU cores. Where there is a
choice (an encoder, a head, a spectrogram, an objective, an optimizer) each name has a dataclass
with its own options in :data:`CHOICES`; the field ``name`` says which.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from avssl.config.choice import Choice, check
from avssl.config.objectives import OBJECTIVES, InfoNCE
from avssl.media.backends import BackendName


@dataclass
class ReadingConfig:
    """What is read, and how."""

    source: str = ""
    """Manifest (CSV) or, for pretraining, a folder of videos."""
    max_bad_fraction: float = 0.1
    """The run stops when a larger share of the rows cannot be read, in [0, 1]."""
    num_workers: int | None = None
    """Processes that decode; by default one for each core, at most 8. 0 decodes in the main process."""
    clips_per_read: int = 1
    """Clips made of a file each time it is opened; they come in consecutive batches. More of them cost little more
    decoding, and one epoch then has as many times more clips."""
    backend: BackendName = "auto"
    """Decoder of media files; "auto" is the fastest that loads. See `avssl doctor`."""

    def __post_init__(self) -> None:
        check(self.clips_per_read >= 1, f"clips_per_read ({self.clips_per_read}) must be >= 1.")
        check(0 <= self.max_bad_fraction <= 1, f"max_bad_fraction ({self.max_bad_fraction}) must be in [0, 1].")
        check(self.num_workers is None or self.num_workers >= 0, f"num_workers ({self.num_workers}) must be >= 0.")


@dataclass
class DataConfig(ReadingConfig):
    """Which rows are read, and how."""

    split: str = "train"
    """Rows of a manifest whose split column says this; every row where no split is given, or with "all"."""
    segment_seconds: float = 10.0
    """A long file becomes consecutive rows of this length, in seconds."""
    segment_over_seconds: float = 30.0
    """Files longer than this are cut into rows, in seconds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.segment_seconds > 0, f"segment_seconds ({self.segment_seconds}) must be > 0.")


@dataclass
class SamplingConfig:
    """The window of a clip that is seen and heard."""

    num_frames: int = 8
    """Frames of a clip, >= 1."""
    frames_per_second: float = 4.0
    """Rate they are taken at; with num_frames it sets the length of the picture window."""
    audio_seconds: float = 2.0
    """Length of the sound window, in seconds."""
    sample_rate_hz: int = 24000
    """Sound is resampled to this rate, in Hz, mono."""
    max_offset_seconds: float = 0.0
    """In training the picture window may reach this far beyond the sound window, either way."""
    short_side: int | None = None
    """Frames are decoded with this short side, in pixels; by default the model's size / 0.875."""
    short_clips: Literal["error", "repeat"] = "error"
    """Rows shorter than a window count as bad files ("error"), or hold their last frame in silence ("repeat")."""

    def __post_init__(self) -> None:
        for name in ("num_frames", "frames_per_second", "audio_seconds", "sample_rate_hz"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")
        check(self.max_offset_seconds >= 0, f"max_offset_seconds ({self.max_offset_seconds}) must be >= 0.")


@dataclass
class VideoTransformConfig:
    """What is done to the frames of a clip, on the device; one draw for the whole clip."""

    size: int = 112
    """Height and width of the model's input, in pixels."""
    scale: tuple[float, float] = (0.3, 1.0)
    """Lowest and highest share of the picture's area that a random crop covers."""
    ratio: tuple[float, float] = (0.75, 1.3333333)
    """Lowest and highest width / height of a random crop."""
    flip_probability: float = 0.5
    """Of mirroring left and right, in [0, 1]."""
    brightness: float = 0.4
    """Brightness is multiplied by a factor between 1 - x and 1 + x."""
    contrast: float = 0.4
    """Contrast, likewise."""
    saturation: float = 0.4
    """Saturation, likewise."""
    hue: float = 0.0
    """Hue is turned by up to this share of the color circle either way, <= 0.5. Costs the most time."""
    eval_crop: Literal["center", "full"] = "center"
    """In evaluation: the central square of the picture, or all of it squeezed into a square."""


@dataclass
class AudioTransformConfig:
    """What is done to the sound of a training clip."""

    gain: tuple[float, float] = (0.9, 1.1)
    """Lowest and highest factor of loudness."""
    max_time_width: int = 0
    """Widest time mask in columns of the spectrogram; 0 for none."""
    max_freq_width: int = 0
    """Widest frequency mask in bins; 0 for none."""
    num_time_masks: int = 1
    """Time masks a clip."""
    num_freq_masks: int = 1
    """Frequency masks a clip."""


@dataclass
class LogMel(Choice):
    """Log-mel spectrogram, in dB."""

    num_mels: int = 64
    """Number of mel filters."""
    window_length: int = 1024
    """Samples of the Hann window and of the transform."""
    hop_seconds: float = 0.01
    """Time from one column to the next, in seconds."""
    min_hz: float = 0.0
    """Where the lowest filter begins."""
    max_hz: float | None = None
    """Where the highest filter ends; half the sample rate by default."""
    padding: Literal["constant", "reflect"] = "constant"
    """What stands beyond the ends of the sound: zeros, or its mirror image."""


@dataclass
class AvidSpectrogram(Choice):
    """AVID's log spectrogram in dB, linear in frequency."""

    window_length: int = 1024
    """Samples of the Hann window and of the transform; 1024 gives 257 bins."""
    hop_seconds: float = 0.01
    """Time from one column to the next, in seconds."""
    padding: Literal["constant", "reflect"] = "constant"
    """What stands beyond the ends of the sound: zeros, or its mirror image."""


@dataclass
class SmallVideo(Choice):
    """A (2+1)D network for CPUs, with one cell for 8 x 8 pixels."""

    width: int = 32
    """Channels of the stem; the last stage has four times as many."""
    num_blocks: tuple[int, int] = (1, 1)
    """Blocks in each of the two stages."""
    temporal_stride: int = 1
    """Stride over time of the first convolution."""
    pool: Literal["max", "mean"] = "max"
    """How all cells of the map become one vector."""
    stride: int = 8
    """Pixels from one cell of the map to the next: 16, 8 or 4."""


@dataclass
class AvidVideo(Choice):
    """AVID's R(2+1)D variant."""

    stem_pool: bool = True
    """Keep the max-pool of the stem; without it the maps are twice as fine, as in AVID's ablations."""
    stride: int | None = None
    """Pixels from one cell of the map to the next: 32, 16 or 8, without stem_pool half of it; AVID's by default."""
    dilated: bool = False
    """Dilate what follows a stride that is taken away: every second cell is then that of the network's own map."""


@dataclass
class TorchvisionVideo(Choice):
    """A video network of torchvision, untrained."""

    pool: Literal["max", "mean"] = "mean"
    """How all cells of the map become one vector."""
    stride: int | None = None
    """Pixels from one cell of the map to the next: 16, 8 or 4; torchvision's 16 by default."""
    dilated: bool = False
    """Dilate what follows a stride that is taken away: every second cell is then that of the network's own map."""


@dataclass
class TorchvisionImage(Choice):
    """torchvision's ResNet-18 on every frame by itself, untrained; one frame is enough."""

    pool: Literal["max", "mean"] = "mean"
    """How all cells of the map become one vector."""
    stride: int | None = None
    """Pixels from one cell of the map to the next: 32, 16 or 8; torchvision's 32 by default."""
    dilated: bool = False
    """Dilate what follows a stride that is taken away: every second cell is then that of the network's own map."""


@dataclass
class SmallAudio(Choice):
    """Four convolutions for CPUs."""

    width: int = 16
    """Channels of the first stage; each later one doubles them."""
    strides: tuple[int, int, int, int] = (2, 2, 2, 1)
    """Stride of each stage over time and frequency."""
    pool: Literal["max", "mean"] = "max"
    """How all cells of the map become one vector."""


@dataclass
class AvidAudio(Choice):
    """AVID's nine convolutions."""

    first_block_stride: int = 2
    """Stride of conv2x; 1 in AVID's ablations."""


@dataclass
class TorchvisionAudio(Choice):
    """torchvision's ResNet-18 on spectrograms, untrained."""

    pool: Literal["max", "mean"] = "mean"
    """How all cells of the map become one vector."""


@dataclass
class MlpHead(Choice):
    """Two hidden layers with ReLU. Small batches and high learning rates want the BatchNorm of mlp_bn."""

    out_features: int = 128
    """Size of the embeddings that are compared."""
    hidden: int = 512
    """Width of the hidden layers."""


@dataclass
class LinearHead(Choice):
    """One linear layer."""

    out_features: int = 128
    """Size of the embeddings that are compared."""


@dataclass
class OptimConfig:
    """How the loss is minimized."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    """The optimizer."""
    lr: float = 1e-3
    """Highest learning rate, after the warm-up."""
    final_lr: float = 0.0
    """Learning rate at the end of the half cosine; equal to lr for a constant rate."""
    weight_decay: float = 0.05
    """On weights of two dimensions or more."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square."""
    warmup_fraction: float = 0.05
    """Share of the steps in which the learning rate rises from 0, in [0, 1)."""
    batch_size: int = 64
    """Clips of a step over all processes; every other clip of the batch is a negative."""
    epochs: int = 20
    """Epochs over the data."""
    grad_clip: float | None = None
    """Gradients are scaled down to this norm; never by default."""

    def __post_init__(self) -> None:
        for name in ("lr", "batch_size", "epochs"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")
        check(0 <= self.warmup_fraction < 1, f"warmup_fraction ({self.warmup_fraction}) must be in [0, 1).")


@dataclass
class TrainConfig:
    """How the run goes."""

    seed: int = 0
    """Of the weights, the order and every draw."""
    init_from: str = ""
    """Run folder whose newest checkpoint gives the first weights, statistics and memory: CMA begins from AVID."""
    init_video_from: str = ""
    """File of torchvision's weights that the video encoder begins with: ImageNet's of resnet18 for resnet18_image."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" ...; "auto" takes a GPU when there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the model and of the pictures it trains on; "auto" takes the fastest; the run's config.yaml
    says which."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Memory layout of both; "auto" likewise."""
    threads: int | None = None
    """CPU threads of the model; PyTorch's own number by default."""
    batch_norm: Literal["train", "eval"] = "train"
    """"eval" holds BatchNorm's statistics: results then do not depend on the number of processes."""
    embed_chunk_size: int | None = None
    """Clips of one process that pass the encoders at a time, where a batch does not fit into memory; the loss still
    sees all of it. Costs one more forward; BatchNorm then takes its statistics within a chunk."""
    log_every: int = 10
    """Steps between lines of metrics."""
    checkpoint_every_seconds: float = 300.0
    """Time between checkpoints, about: turned into steps by the time of a step when the run starts."""
    checkpoint_every_steps: int | None = None
    """Steps between checkpoints; set it to have them at the same steps on every machine."""
    keep_checkpoints: int = 2
    """Newest checkpoints that are kept; two, so that a damaged one has a predecessor."""
    ema_decay: float | None = None
    """Release a moving average of the weights with this decay, such as 0.999, in [0, 1); by default the weights."""

    def __post_init__(self) -> None:
        check(
            not (self.init_from and self.init_video_from),
            "init_from gives every weight, those of init_video_from too: name one of them.",
        )
        chunk = self.embed_chunk_size
        check(chunk is None or chunk > 0, f"embed_chunk_size ({chunk}) must be > 0.")
        check(self.log_every > 0, f"log_every ({self.log_every}) must be > 0.")
        check(self.keep_checkpoints > 0, f"keep_checkpoints ({self.keep_checkpoints}) must be > 0.")
        check(self.ema_decay is None or 0 <= self.ema_decay < 1, f"ema_decay ({self.ema_decay}) must be in [0, 1).")
        check(self.threads is None or self.threads > 0, f"threads ({self.threads}) must be > 0.")


@dataclass
class MonitorConfig:
    """What is measured during training: retrieval in a gallery, the shape of the embeddings, a probe."""

    every_steps: int = 200
    """Steps between measurements; 0 for none."""
    num_clips: int = 128
    """Rows of the gallery, at most."""
    split: str = "val"
    """Rows of a manifest whose split column says this are the gallery, where there are any."""
    held_out_fraction: float = 0.05
    """Else up to this share of the rows is kept out of training for it; a corpus too small for 32 such rows trains
    on everything, and the gallery is of training rows, as it is with 0."""
    probe_clips: int = 256
    """Labeled training rows that a linear probe is fitted on at each measurement; 0 for no probe."""

    def __post_init__(self) -> None:
        for name in ("every_steps", "num_clips", "probe_clips"):
            check(getattr(self, name) >= 0, f"{name} ({getattr(self, name)}) must be >= 0.")
        check(0 <= self.held_out_fraction < 1, f"held_out_fraction ({self.held_out_fraction}) must be in [0, 1).")


@dataclass
class Steps(Choice):
    """A constant rate that is multiplied at given epochs."""

    at_epochs: tuple[int, ...] = (6, 10, 14)
    """Epochs, counted from the first in which the encoders learn."""
    factor: float = 0.3
    """What the rate is multiplied by at each of them, > 0."""

    def __post_init__(self) -> None:
        check(self.factor > 0, f"factor ({self.factor}) must be > 0.")
        check(list(self.at_epochs) == sorted(self.at_epochs), f"at_epochs {self.at_epochs} must be ascending.")


@dataclass
class Cosine(Choice):
    """Half a cosine down to a last rate."""

    final_lr: float = 0.0
    """Learning rate at the end; equal to the first for a constant rate."""


@dataclass
class TransformConfig:
    """What becomes of a decoded clip before the model sees it."""

    video: VideoTransformConfig = field(default_factory=VideoTransformConfig)
    """Frames."""
    spectrogram: Choice = field(default_factory=lambda: LogMel("log_mel"))
    """From sound to a picture of it."""
    audio: AudioTransformConfig = field(default_factory=AudioTransformConfig)
    """Sound."""


@dataclass
class DropoutConfig:
    """What the heads do not see in training."""

    video: float = 0.0
    """Share of the visual features that is dropped before the heads, in [0, 1); 0.9 in SLAVC and FNAC."""

    def __post_init__(self) -> None:
        check(0 <= self.video < 1, f"video ({self.video}) must be in [0, 1).")


@dataclass
class ModelConfig:
    """Two encoders and the heads that put them in one space."""

    video: Choice = field(default_factory=lambda: SmallVideo("small_video"))
    """The encoder of frames."""
    audio: Choice = field(default_factory=lambda: SmallAudio("small_audio"))
    """The encoder of sound."""
    head: Choice = field(default_factory=lambda: MlpHead("mlp_bn"))
    """The projection head of either modality."""
    dropout: DropoutConfig = field(default_factory=DropoutConfig)
    """Between encoders and heads."""


@dataclass
class Config:
    """Everything that defines a run."""

    data: DataConfig = field(default_factory=DataConfig)
    """Which rows are read, and how."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """The window of a clip that is seen and heard."""
    transform: TransformConfig = field(default_factory=TransformConfig)
    """What becomes of a decoded clip before the model sees it."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Encoders and heads."""
    objective: Choice = field(default_factory=lambda: InfoNCE("info_nce"))
    """The loss."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """How it is minimized."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the run goes."""
    monitor: MonitorConfig = field(default_factory=MonitorConfig)
    """What is measured on the way."""


CHOICES: dict[str, dict[str, type[Choice]]] = {
    "transform.spectrogram": {"log_mel": LogMel, "avid": AvidSpectrogram},
    "model.video": {
        "small_video": SmallVideo,
        "avid_r2plus1d_10": AvidVideo,
        "avid_r2plus1d_18": AvidVideo,
        "avid_r2plus1d_34": AvidVideo,
        "r2plus1d_18": TorchvisionVideo,
        "r3d_18": TorchvisionVideo,
        "mc3_18": TorchvisionVideo,
        "resnet18_image": TorchvisionImage,
    },
    "model.audio": {
        "small_audio": SmallAudio,
        "avid_audio_cnn_10": AvidAudio,
        "resnet18_audio": TorchvisionAudio,
    },
    "schedule": {"cosine": Cosine, "steps": Steps},
    "model.head": {"mlp": MlpHead, "mlp_bn": MlpHead, "linear": LinearHead},
    "objective": OBJECTIVES,
}
"""The dataclass of each name that a group can have."""
