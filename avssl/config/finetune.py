"""Every number of a fine-tuning run.

The groups ``sampling``, ``transform`` and ``model`` are those of pretraining. Of a checkpoint they are what
it was pretrained with, where neither a file nor the command line says otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from avssl.config.choice import Choice, check
from avssl.config.files import to_dict
from avssl.config.settings import (
    Config,
    Cosine,
    DataConfig,
    ModelConfig,
    OptimConfig,
    ReadingConfig,
    SamplingConfig,
    Steps,
    TrainConfig,
    TransformConfig,
)


@dataclass
class LabelConfig:
    """Which rows are learned from and tested on, and what their labels are."""

    column: str = "label"
    """Column of the labels; several of a row are joined by `|`. Rows without a label are left out."""
    multi_label: bool = False
    """Whether a row may have several, and is judged by mAP; otherwise rows with several are left out."""
    split_columns: tuple[str, ...] = ("split",)
    """Columns that each say which rows are learned from and tested on; UCF101's three splits are three columns."""
    train_split: str = "train"
    """Rows that are learned from, in those columns."""
    test_split: str = "test"
    """Rows that are tested on, in those columns."""
    fold_column: str = ""
    """Cross-validation instead: each value of this column is tested on once, and the other rows are learned from."""
    per_class: int | None = None
    """Labels of each class that are learned from; by default all. The other training rows are not read."""
    fraction: float | None = None
    """The same as a share of the labels of each class, in (0, 1]."""
    subset_seed: int = 0
    """Of the choice of those labels, whose subsets are nested."""

    def __post_init__(self) -> None:
        both = self.per_class is not None and self.fraction is not None
        check(not both, f"per_class ({self.per_class}) and fraction ({self.fraction}) are two ways to say one thing.")
        check(self.per_class is None or self.per_class > 0, f"per_class ({self.per_class}) must be > 0.")
        check(self.fraction is None or 0 < self.fraction <= 1, f"fraction ({self.fraction}) must be in (0, 1].")
        check(bool(self.fold_column or self.split_columns), "split_columns () must name a column, or fold_column.")
        wrong = self.multi_label and self.per_class is not None
        check(not wrong, "per_class needs one label a row; with multi_label use fraction.")


@dataclass
class ClassifierConfig:
    """What classifies, and what it is asked to be sure of."""

    inputs: Literal["video", "audio", "both"] = "video"
    """What it sees."""
    fusion: Literal["late", "fused"] = "late"
    """Of both: the mean of two classifiers, or one on the features of both."""
    dropout: float = 0.5
    """Share of the pooled features that is dropped in training, in [0, 1)."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes, in [0, 1)."""
    mixup: float = 0.0
    """Clips of a batch are mixed, by shares of Beta(mixup, mixup); 0 for none."""
    class_weights: Literal["none", "balanced"] = "none"
    """Of the loss: "balanced" gives every class the same weight in all."""
    frozen_batch_norm: bool = False
    """Hold the statistics of BatchNorm; otherwise they move, also while only the classifier learns."""

    def __post_init__(self) -> None:
        check(0 <= self.dropout < 1, f"dropout ({self.dropout}) must be in [0, 1).")
        check(0 <= self.label_smoothing < 1, f"label_smoothing ({self.label_smoothing}) must be in [0, 1).")
        check(self.mixup >= 0, f"mixup ({self.mixup}) must be >= 0.")


@dataclass
class FinetuneOptimConfig:
    """How the loss is minimized."""

    name: Literal["adamw", "adam", "sgd"] = "adam"
    """The optimizer."""
    lr: float = 1e-4
    """Highest learning rate of the encoders' last stages."""
    head_lr: float | None = None
    """Highest learning rate of the classifier; by default the same."""
    layer_decay: float = 1.0
    """Each stage of an encoder learns at this times the rate of the one above it, in (0, 1]."""
    head_epochs: int = 0
    """First epochs in which the classifier alone learns, at its highest rate."""
    epochs: int = 16
    """Epochs after these, in which everything learns."""
    warmup_epochs: int = 0
    """First epochs in which rates rise from 0."""
    min_steps: int = 0
    """Few rows make short epochs: all numbers of epochs are multiplied until there are this many steps."""
    weight_decay: float = 0.0
    """On weights of two dimensions or more."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the running means of the gradient and of its square; of sgd, the first is the momentum."""
    batch_size: int = 32
    """Clips of a step over all processes; fewer where there are fewer rows."""
    grad_clip: float | None = None
    """Gradients are scaled down to this norm; never by default."""

    def __post_init__(self) -> None:
        for name in ("lr", "batch_size", "epochs"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")
        for name in ("head_epochs", "warmup_epochs", "min_steps"):
            check(getattr(self, name) >= 0, f"{name} ({getattr(self, name)}) must be >= 0.")
        check(self.head_lr is None or self.head_lr > 0, f"head_lr ({self.head_lr}) must be > 0.")
        check(0 < self.layer_decay <= 1, f"layer_decay ({self.layer_decay}) must be in (0, 1].")


@dataclass
class FinetuneTrainConfig:
    """How the run goes."""

    checkpoint: str = ""
    """Run directory, weights folder or release whose encoders are fine-tuned; "none" starts from random weights."""
    seed: int = 0
    """Of the classifier's weights, the order and every draw."""
    device: str = "auto"
    """"cpu", "cuda", "cuda:1" ...; "auto" takes a GPU when there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the model and of the pictures it trains on; "auto" takes the fastest; the run's config.yaml
    says which."""
    memory_format: Literal["auto", "contiguous", "channels_last"] = "auto"
    """Memory layout of both; "auto" likewise."""
    threads: int | None = None
    """CPU threads of the model; PyTorch's own number by default."""
    log_every: int = 10
    """Steps between lines of metrics."""
    checkpoint_every_steps: int = 500
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        for name in ("log_every", "checkpoint_every_steps"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")
        check(self.threads is None or self.threads > 0, f"threads ({self.threads}) must be > 0.")


@dataclass
class EvaluationConfig:
    """How a test video is judged."""

    clips: int = 10
    """Clips of it, evenly spaced."""
    crop: Literal["center", "full", "three"] | None = None
    """What is seen of a frame: the central square, all of it squeezed into one, or three squares along its longer
    side, each of which counts as a clip. By default transform.video.eval_crop."""
    average: Literal["probability", "logit"] = "probability"
    """What is averaged over the clips."""
    batch_size: int = 32
    """Clips at a time."""
    report: bool = True
    """Write a page with confusions, classes and the worst videos."""

    def __post_init__(self) -> None:
        for name in ("clips", "batch_size"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")


@dataclass
class FinetuneConfig:
    """Everything that defines a fine-tuning run."""

    data: ReadingConfig = field(default_factory=ReadingConfig)
    """What is read, and how."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    """Which rows, and what their labels are."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """The window of a clip that is seen and heard."""
    transform: TransformConfig = field(default_factory=TransformConfig)
    """What becomes of a decoded clip before the model sees it."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The encoders. Fixed by a checkpoint."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """What classifies."""
    optim: FinetuneOptimConfig = field(default_factory=FinetuneOptimConfig)
    """How the loss is minimized."""
    schedule: Choice = field(default_factory=lambda: Steps("steps"))
    """How the learning rate falls."""
    train: FinetuneTrainConfig = field(default_factory=FinetuneTrainConfig)
    """How the run goes."""
    test: EvaluationConfig = field(default_factory=EvaluationConfig)
    """How a test video is judged."""

    def __post_init__(self) -> None:
        wrong = self.labels.multi_label and self.classifier.class_weights != "none"
        check(not wrong, "classifier.class_weights balanced needs one label a row, not labels.multi_label.")

    def network(self) -> Config:
        """The settings of pretraining that say what the encoders are, see and hear, and how they are run."""
        train = {f.name: getattr(self.train, f.name) for f in fields(TrainConfig) if hasattr(self.train, f.name)}
        return Config(
            data=DataConfig(**vars(self.data)),
            sampling=self.sampling,
            transform=self.transform,
            model=self.model,
            optim=OptimConfig(self.optim.name, self.optim.lr, batch_size=self.optim.batch_size),
            train=TrainConfig(**train),
        )


@dataclass
class TeacherConfig:
    """Who teaches, and how."""

    run: str = ""
    """Run directory of avssl finetune; each fold has its own teacher."""
    temperature: float = 1.0
    """Of both softmaxes, > 0."""
    alpha: float = 1.0
    """Weight of what the teacher says, in [0, 1]; the rest is for the labels of the rows that have them."""
    rows: Literal["all", "rest"] = "all"
    """Training rows that are learned from: all, or those whose labels the teacher was not given."""

    def __post_init__(self) -> None:
        check(self.temperature > 0, f"temperature ({self.temperature}) must be > 0.")
        check(0 <= self.alpha <= 1, f"alpha ({self.alpha}) must be in [0, 1].")


@dataclass
class DistillConfig(FinetuneConfig):
    """Everything that defines a distillation; labels, sampling, transform and model are the teacher's by default."""

    optim: FinetuneOptimConfig = field(
        default_factory=lambda: FinetuneOptimConfig("adamw", 2e-3, epochs=30, warmup_epochs=1, weight_decay=0.05)
    )
    """How the loss is minimized."""
    schedule: Choice = field(default_factory=lambda: Cosine("cosine"))
    """How the learning rate falls."""
    distill: TeacherConfig = field(default_factory=TeacherConfig)
    """Who teaches, and how."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = self.labels.multi_label and self.distill.alpha < 1
        check(not wrong, "distill.alpha below 1 needs one label a row, not labels.multi_label.")
        chosen = self.classifier
        plain = ClassifierConfig(chosen.inputs, chosen.fusion, chosen.dropout)
        check(chosen == plain, "classifier: only inputs, fusion and dropout are a student's; leave out the rest.")


def base_of_student(teacher: FinetuneConfig) -> dict[str, Any]:
    """The tree of a student's settings that follow from the teacher's."""
    tree = to_dict(teacher)
    kept = {name: tree[name] for name in ("labels", "sampling", "transform", "model", "test")}
    kept["classifier"] = {name: tree["classifier"][name] for name in ("inputs", "fusion")}
    return kept | {"train": {name: tree["train"][name] for name in ("precision", "memory_format")}}


def base_of(config: Config) -> dict[str, Any]:
    """The tree of a fine-tuning run's settings that follow from those of pretraining."""
    tree = to_dict(config)
    kept = {name: tree[name] for name in ("sampling", "transform", "model")}
    return kept | {"train": {name: tree["train"][name] for name in ("precision", "memory_format")}}
