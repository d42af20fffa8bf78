"""Settings of fine-tuning and distillation runs.

The groups ``sampling``, ``transform`` and ``model`` are those of pretraining. Their defaults come from the checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal

from avssl.config.choice import Choice, check
from avssl.config.derived import SamplingConfig
from avssl.config.files import to_dict
from avssl.config.settings import (
    Config,
    Cosine,
    DataConfig,
    ModelConfig,
    OptimConfig,
    ReadingConfig,
    Steps,
    TrainConfig,
    TransformConfig,
    choose,
)
from avssl.core.ranges import (
    Count,
    CountOrZero,
    Positive,
    PositiveOrZero,
    PositiveShare,
    Seed,
    Share,
    ShareBelowOne,
    Temperature,
    Threads,
    checked,
)
from avssl.media.limits import MediaLimits


@checked
@dataclass
class LabelConfig:
    """Training and test rows and their labels."""

    label_column: str = "label"
    """Label column; several labels of a row are joined by `|`. Rows without a label are left out."""
    multi_label: bool = False
    """Allow several labels per row and evaluate by mAP; otherwise rows with several labels are left out."""
    split_column: tuple[str, ...] = ("split",)
    """Columns that each define one train/test split, such as the three splits of UCF101."""
    train_split: str = "train"
    """Value of the training rows in split_column."""
    test_split: str = "test"
    """Value of the test rows in split_column."""
    val_split: str = "val"
    """Value of the validation rows in split_column, which calibrate the probabilities; there may be none."""
    split_shares: tuple[Share, Share, Share] | None = None
    """Shares of train, val and test where the source is a folder of class folders; None for 0.8 0.1 0.1."""
    split_seed: Seed = 0
    """Random seed of the splits of a folder of class folders."""
    unknown_classes: tuple[str, ...] = ()
    """Classes to hold out of training and of the accuracy, whose rows measure how well unknown videos are told."""
    fold_column: str = ""
    """Column for cross-validation instead: each of its values is the test set once, the other rows are trained on."""
    per_class: Count | None = None
    """Labels of each class to train on; None for all. The other training rows are not read."""
    fraction: PositiveShare | None = None
    """Share of the labels of each class to train on, in (0, 1], in place of per_class; None for all."""
    subset_seed: Seed = 0
    """Random seed of the labels that per_class or fraction selects; subsets of one seed are nested."""

    def __post_init__(self) -> None:
        both = self.per_class is not None and self.fraction is not None
        check(
            not both, f"per_class ({self.per_class}) and fraction ({self.fraction}) exclude each other: set only one."
        )
        check(
            bool(self.fold_column or self.split_column),
            "split_column () must name at least one column, unless fold_column is set.",
        )
        wrong = self.multi_label and self.per_class is not None
        check(not wrong, "per_class needs one label per row; with multi_label use fraction.")
        wrong = self.multi_label and len(self.unknown_classes) > 0
        check(not wrong, "unknown_classes needs one label per row, not multi_label.")


@checked
@dataclass
class ClassifierConfig:
    """The classifier head and its regularization.

    Example:
        >>> config = config_from_dict({"classifier": {"inputs": "both", "dropout": 0.3}}, root=FinetuneConfig)
        >>> config.classifier.fusion, config.classifier.dropout
        ('late', 0.3)
    """

    inputs: Literal["video", "audio", "both"] = "video"
    """Modality that the classifier uses."""
    fusion: Literal["late", "fused"] = "late"
    """With inputs "both": the mean of two classifiers ("late"), or one classifier on the features of both."""
    dropout: ShareBelowOne = 0.5
    """Share of the pooled features to drop in training, in [0, 1)."""
    label_smoothing: ShareBelowOne = 0.0
    """Label smoothing: share of the target spread over all classes, in [0, 1)."""
    from_head_layer: CountOrZero = 0
    """Layers of the projection head that are fine-tuned with the encoders and stand before the classifier; 1 or 2 help
    with few labels (SimCLRv2), 0 leaves out the head."""
    mixup: PositiveOrZero = 0.0
    """Mixup of the clips of a batch, with shares drawn from Beta(mixup, mixup); 0 for none."""
    class_weights: Literal["none", "balanced"] = "none"
    """Class weights of the loss; "balanced" gives every class the same total weight."""
    frozen_batch_norm: bool = False
    """Keep the statistics of BatchNorm fixed; otherwise they move even while only the classifier is trained."""


@checked
@dataclass
class FinetuneOptimConfig:
    """Optimizer, learning rates, batch size and length of training.

    Example:
        >>> optim = FinetuneOptimConfig(lr=0.001, layer_decay=0.5)
        >>> [optim.lr * optim.layer_decay**depth for depth in range(3)]  # the last stage of an encoder, and those below
        [0.001, 0.0005, 0.00025]
    """

    name: Literal["adamw", "adam", "sgd"] = "adam"
    """Optimizer."""
    lr: Positive = 1e-4
    """Peak learning rate of the encoders' last stages."""
    head_lr: Positive | None = None
    """Peak learning rate of the classifier; None for the same."""
    layer_decay: PositiveShare = 1.0
    """Ratio of the learning rates of an encoder stage and the stage above it, in (0, 1]."""
    head_epochs: CountOrZero = 0
    """Initial epochs in which only the classifier is trained, at its peak rate."""
    epochs: Count = 16
    """Epochs in which encoders and classifier are trained, after head_epochs."""
    warmup_epochs: CountOrZero = 0
    """Initial epochs in which learning rates rise from 0."""
    min_steps: CountOrZero = 0
    """Minimum number of steps: with few rows, all numbers of epochs are multiplied to reach it."""
    weight_decay: PositiveOrZero = 0.0
    """Weight decay of parameters with two dimensions or more."""
    decay_tokens: bool = False
    """Decay position embeddings, class tokens and the like too; otherwise they are left out, as in timm. Runs from
    before this setting decay them when they are continued."""
    betas: tuple[ShareBelowOne, ShareBelowOne] = (0.9, 0.999)
    """Decay rates of the running means of the gradient and of its square; for sgd the first is the momentum."""
    batch_size: Count = 32
    """Clips per step over all processes; reduced if there are fewer rows."""
    grad_clip: Positive | None = None
    """Maximum gradient norm, above which gradients are scaled down; None for no limit."""


@checked
@dataclass
class FinetuneTrainConfig:
    """Checkpoint, seed, device and logging."""

    checkpoint: str = ""
    """Run directory, weights folder or hf-hub:OWNER/NAME whose encoders are fine-tuned; "none" starts from random
    weights."""
    seed: Seed = 0
    """Random seed for the classifier's initial weights, data order and augmentation."""
    device: str = "auto"
    """Device: "cpu", "cuda", "cuda:1" ...; "auto" uses a GPU if there is one."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Number format of the model and of its input frames; "auto" measures and uses the fastest, which config.yaml then
    records."""
    memory_format: Literal["auto", "contiguous", "channels_last", "channels_last_2d"] = "auto"
    """Memory layout of the model and of its input frames; with "channels_last_2d", (2+1)D networks also compute on 2-D
    views of it. "auto" measures and uses the fastest."""
    compile: Literal["none", "model", "transforms", "all"] = "none"
    """Parts of a step to run as programs of torch.compile: the networks, the transforms, or all. The first
    steps take a minute or more longer; later ones are faster, on a GPU above all. Losses differ by rounding."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Division of the classifier among processes: with "ddp" each has the whole one, its gradient and optimizer state,
    with "fsdp" a part of them, for encoders that do not fit; each still tests with the whole one. Losses are equal up
    to rounding."""
    activation_checkpointing: Literal["none", "block"] = "none"
    """"block" keeps only the input of each block of the encoders, and computes the rest again in the backward pass:
    less memory for one more forward pass, with equal numbers."""
    threads: Threads | None = None
    """CPU threads of the model; None uses PyTorch's default."""
    log_every: Count = 10
    """Steps between logged metrics."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ("tensorboard",)
    """Trackers that show the metrics, beside metrics.jsonl, which is always written. wandb, mlflow and trackio need the
    extra of that name, and take project and server from their own environment variables."""
    checkpoint_every_steps: Count = 500
    """Steps between checkpoints."""


@checked
@dataclass
class EvaluationConfig:
    """Evaluation of test videos."""

    windows_per_clip: Count = 10
    """Evenly spaced windows of each video."""
    crop: Literal["center", "full", "three"] | None = None
    """Crop of each frame: the central square, the full frame resized to a square, or three squares along the longer
    side, each of which counts as a clip; None uses transform.video.eval_crop."""
    average: Literal["probability", "logit"] = "probability"
    """Output to average over the clips."""
    calibrate: bool = True
    """Fit the temperature of the probabilities to the validation rows; accuracies do not depend on it."""
    unknown_score: Literal["energy", "probability"] = "energy"
    """Score below whose threshold a video is called unknown: free energy, or the highest probability."""
    known_share: PositiveShare = 0.95
    """Share of the validation rows that the threshold of unknown videos keeps, in (0, 1]."""
    batch_size: Count = 32
    """Clips that are read at once; each video is computed on its own, so results do not depend on it."""
    report: bool = True
    """Write an HTML page with confusions, classes and the worst videos."""


@dataclass
class FinetuneConfig:
    """All settings of a fine-tuning run.

    Example:
        >>> config = config_from_dict({"labels": {"per_class": 10}, "optim": {"epochs": 8}}, root=FinetuneConfig)
        >>> config.labels.per_class, config.optim.epochs, config.loss.name
        (10, 8, 'softmax')
        >>> config_from_dict({"labels": {"per_class": 10, "fraction": 0.1}}, root=FinetuneConfig)
        Traceback (most recent call last):
            ...
        avssl.core.errors.ConfigError: labels.per_class (10) and fraction (0.1) exclude each other: set only one.
    """

    data: ReadingConfig = field(default_factory=ReadingConfig)
    """Input rows and how they are read."""
    limits: MediaLimits = field(default_factory=MediaLimits)
    """Limits on media files; where they are the defaults, those that `avssl index` stores in the manifest count."""
    labels: LabelConfig = field(default_factory=LabelConfig)
    """Training and test rows and their labels."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    """Length and rate of clips."""
    transform: TransformConfig = field(default_factory=TransformConfig)
    """Preprocessing and augmentation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """Encoders; fixed by a checkpoint."""
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    """The classifier head and its regularization."""
    loss: Choice = field(default_factory=partial(choose, "loss", "softmax"))
    """Loss of clips with one label; clips with several labels have a sigmoid for each class."""
    optim: FinetuneOptimConfig = field(default_factory=FinetuneOptimConfig)
    """Optimizer, learning rates, batch size and length of training."""
    schedule: Choice = field(default_factory=lambda: Steps("steps"))
    """Learning rate schedule."""
    train: FinetuneTrainConfig = field(default_factory=FinetuneTrainConfig)
    """Checkpoint, seed, device and logging."""
    test: EvaluationConfig = field(default_factory=EvaluationConfig)
    """Evaluation of test videos."""

    def __post_init__(self) -> None:
        wrong = self.labels.multi_label and self.classifier.class_weights != "none"
        check(not wrong, "classifier.class_weights balanced needs one label per row, not labels.multi_label.")
        wrong = self.labels.multi_label and self.loss.name not in ("softmax", "sigmoid")
        check(
            not wrong,
            f"loss.name {self.loss.name} needs one label per row, not labels.multi_label.",
        )

    def network(self) -> Config:
        """Return pretraining settings with this run's encoders, input, device and precision."""
        train = {f.name: getattr(self.train, f.name) for f in fields(TrainConfig) if hasattr(self.train, f.name)}
        return Config(
            data=DataConfig(**vars(self.data)),
            limits=self.limits,
            sampling=self.sampling,
            transform=self.transform,
            model=self.model,
            optim=OptimConfig(self.optim.name, self.optim.lr, batch_size=self.optim.batch_size),
            train=TrainConfig(**train),
        )


@checked
@dataclass
class TeacherConfig:
    """Teacher and distillation loss.

    Example:
        >>> teacher = TeacherConfig("runs/first-finetune", temperature=4.0, teacher_weight=0.75)
        >>> 1 - teacher.teacher_weight  # weight of the labels
        0.25
    """

    run: str = ""
    """Run directory of avssl finetune; each fold has its own teacher."""
    temperature: Temperature = 1.0
    """Temperature of both softmaxes, > 0."""
    teacher_weight: Share = 1.0
    """Weight of the teacher's output, in [0, 1]; the rest is the weight of the labels."""
    rows: Literal["all", "rest"] = "all"
    """Training rows: all, or those whose labels the teacher was not trained on."""


@dataclass
class DistillConfig(FinetuneConfig):
    """All settings of a distillation run; labels, sampling, transform and model default to the teacher's.

    Example:
        >>> config = config_from_dict({"distill": {"temperature": 4.0}}, root=DistillConfig)
        >>> config.distill.temperature, config.optim.name, config.schedule.name
        (4.0, 'adamw', 'cosine')
    """

    optim: FinetuneOptimConfig = field(
        default_factory=lambda: FinetuneOptimConfig("adamw", 2e-3, epochs=30, warmup_epochs=1, weight_decay=0.05)
    )
    """Optimizer, learning rates, batch size and length of training."""
    schedule: Choice = field(default_factory=lambda: Cosine("cosine"))
    """Learning rate schedule."""
    distill: TeacherConfig = field(default_factory=TeacherConfig)
    """Teacher and distillation loss."""

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = self.labels.multi_label and self.distill.teacher_weight < 1
        check(not wrong, "distill.teacher_weight below 1 needs one label per row, not labels.multi_label.")
        chosen = self.classifier
        plain = ClassifierConfig(chosen.inputs, chosen.fusion, chosen.dropout)
        check(
            self.loss.name == "softmax", f"loss.name ({self.loss.name}): a student is trained on its teacher's softmax."
        )
        check(chosen == plain, "classifier: a student has only inputs, fusion and dropout; leave out the rest.")


def base_of_student(teacher: FinetuneConfig) -> dict[str, Any]:
    """Return the nested settings of a student that follow from its teacher's.

    Example:
        >>> teacher = config_from_dict({"labels": {"label_column": "species"}}, root=FinetuneConfig)
        >>> student = config_from_dict({}, root=DistillConfig, base=base_of_student(teacher))
        >>> student.labels.label_column
        'species'
    """
    tree = to_dict(teacher)
    kept = {name: tree[name] for name in ("labels", "sampling", "transform", "model", "test")}
    kept["classifier"] = {name: tree["classifier"][name] for name in ("inputs", "fusion")}
    return kept | {"train": {name: tree["train"][name] for name in ("precision", "memory_format")}}


def base_of(config: Config) -> dict[str, Any]:
    """Return the nested settings of a fine-tuning run that follow from those of pretraining.

    Example:
        >>> pretraining = config_from_dict({"sampling": {"num_frames": 16}})
        >>> config = config_from_dict({}, root=FinetuneConfig, base=base_of(pretraining))
        >>> config.sampling.num_frames
        16
    """
    tree = to_dict(config)
    kept = {name: tree[name] for name in ("sampling", "transform", "model")}
    return kept | {"train": {name: tree["train"][name] for name in ("precision", "memory_format")}}
