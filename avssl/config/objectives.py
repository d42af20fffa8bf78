"""The options of every objective, as dataclasses; :data:`OBJECTIVES` says which name has which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from avssl.config.choice import Choice, check


def _check_even(negative_sounds: int) -> None:
    right = negative_sounds >= 0 and negative_sounds % 2 == 0
    check(right, f"negative_sounds ({negative_sounds}) must be even and >= 0: half are silence, half noise.")


@dataclass
class InfoNCE(Choice):
    """Symmetric cross-modal InfoNCE over the global batch."""

    temperature: float = 0.07
    """Softmax temperature, > 0."""
    pooling: Literal["pooled", "max", "both"] = "both"
    """What a sound is compared with: the pooled video, its best cell ("max", for sharp heat maps), or both."""
    max_over: Literal["cells", "space"] = "space"
    """The best cell of the whole map ("cells", as EZ-VSL), or the best in every frame, averaged ("space")."""
    learn_temperature: bool = False
    """Learn the temperature, from the one above on; never below 0.01."""
    chunk_size: int | None = None
    """Rows of the scores of all pairs that exist at a time, for big batches with pooling "pooled"; by default all."""
    exclude_same_file: bool = False
    """Clips of the same source file are no negatives of each other."""
    exclude_near_duplicates: float | None = None
    """Negatives with a higher cosine than this with the clip's own positive, in the same modality, do not count."""
    exclude_hardest: float = 0.0
    """Share of the negatives of each clip, those that score highest, that does not count; in [0, 1)."""
    within_modal: float = 0.0
    """Weight of the loss between two views of a video and of a sound; above 0 each clip is augmented twice."""
    negative_sounds: int = 0
    """Silences and noises, half each, beside the clips of each process, which every picture learns to score low."""

    def __post_init__(self) -> None:
        _check_even(self.negative_sounds)
        whole = self.chunk_size is None or self.pooling == "pooled"
        check(whole, f"chunk_size ({self.chunk_size}) needs pooling pooled, not {self.pooling}.")


@dataclass
class MarginNCE(Choice):
    """InfoNCE with a margin on the positive."""

    temperature: float = 0.07
    """Softmax temperature, > 0."""
    margin: float = -0.2
    """Taken from the cosine of a clip's own pair; below 0 for pairs that may be wrong."""
    pooling: Literal["pooled", "max", "both"] = "both"
    """What a sound is compared with, as in info_nce."""
    max_over: Literal["cells", "space"] = "space"
    """The best cell of the whole map ("cells"), or the best in every frame, averaged ("space")."""
    negative_sounds: int = 0
    """Silences and noises that every picture learns to score low, as in info_nce."""

    def __post_init__(self) -> None:
        _check_even(self.negative_sounds)


@dataclass
class Lvs(Choice):
    """LVS: each picture is divided into what sounds and what does not, and the silent part is a hard negative."""

    temperature: float = 0.07
    """Softmax temperature, > 0."""
    positive_threshold: float = 0.65
    """Cells whose cosine with a sound is higher are part of what sounds."""
    negative_threshold: float = 0.4
    """Cells whose cosine with the own sound is lower are part of what does not; those between count as neither."""
    threshold_width: float = 0.03
    """How soft both steps are, > 0."""
    symmetric: bool = False
    """Ask which picture belongs to a sound too; LVS asks only which sound belongs to a picture."""


@dataclass
class SslTie(Choice):
    """SSL-TIE: a second view is the first one's picture, turned and shrunk, and its heat map must be too."""

    temperature: float = 0.07
    """Of the contrastive loss, > 0."""
    contrast: Literal["lvs", "pooled", "max", "both"] = "lvs"
    """The contrastive loss of both views: that of lvs, or of info_nce with this pooling."""
    equivariance_weight: float = 1.0
    """Weight of the mean squared difference between the map of the turned picture and the turned map, >= 0."""
    max_degrees: float = 30.0
    """Largest turn either way."""
    scale: tuple[float, float] = (0.5, 1.0)
    """Lowest and highest size of the turned picture, 0 < low <= high <= 1."""
    positive_threshold: float = 0.65
    """Of lvs, as are the next two; without meaning for the others."""
    negative_threshold: float = 0.4
    """Of lvs."""
    threshold_width: float = 0.03
    """Of lvs."""


@dataclass
class Fnac(Choice):
    """FNAC: the score of the best cells, held to what each modality says of which other clips may fit too."""

    temperature: float = 0.03
    """Of the loss and of all affinities, > 0."""
    audio_weight: float = 100.0
    """Weight of the distance between the affinities of sounds and the scores, >= 0."""
    image_weight: float = 100.0
    """Weight of the distance between the affinities of pictures and the scores, >= 0."""
    foreground_weight: float = 100.0
    """Weight of the distance between the affinities of sounds and of the foregrounds of pictures, >= 0."""
    foreground_threshold: float = 0.6
    """Cells above it, in a map scaled onto [0, 1], are foreground; in [0, 1)."""
    warmup_epochs: int = 5
    """Epochs without the distances."""
    max_over: Literal["cells", "space"] = "space"
    """The best cell of the whole map ("cells"), or the best in every frame, averaged ("space")."""

    def __post_init__(self) -> None:
        check(self.warmup_epochs >= 0, f"warmup_epochs ({self.warmup_epochs}) must be >= 0.")


@dataclass
class SigLIP(Choice):
    """A yes-or-no question for every pair of the batch, with learned scale and offset; pooled embeddings."""

    chunk_size: int | None = None
    """Rows of the scores of all pairs that exist at a time, for big batches; by default all."""
    initial_scale: float = 10.0
    """First value of the learned scale of the logits, in (0, 100]."""
    initial_bias: float = -10.0
    """First value of their learned offset."""


@dataclass
class MoCo(Choice):
    """Momentum encoders and a queue of past embeddings as negatives; pooled embeddings."""

    queue_size: int = 16384
    """Embeddings of each modality that are kept, at least the batch of a step."""
    temperature: float = 0.07
    """Softmax temperature, > 0."""
    momentum: float = 0.999
    """Share of itself that the momentum model keeps in a step, in [0, 1]; short runs want less."""
    exclude_same_file: bool = False
    """Queued clips of the same source file are no negatives."""


@dataclass
class SLAVC(Choice):
    """Which sound, and where: two pairs of heads whose probabilities are multiplied, against momentum targets."""

    temperature: float = 0.03
    """Of both softmaxes, > 0."""
    momentum: float = 0.999
    """Share of itself that the momentum model keeps in a step, in [0, 1]; short runs want less."""


@dataclass
class Memory(Choice):
    """A memory of every training clip, whose rows are what embeddings are contrasted with."""

    temperature: float = 0.07
    """Softmax temperature, > 0."""
    num_negatives: int = 1024
    """Rows of other files that a clip is contrasted with; drawn with replacement."""
    momentum: float = 0.5
    """Share of its old value that a row keeps when its clip is seen, in [0, 1)."""
    dtype: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Number format of the memory; at 128 features a row takes 1024 bytes in fp32."""
    remap: bool = False
    """Begin from the memory of another corpus: rows are found by id, new ids begin at random. Refused otherwise."""

    def __post_init__(self) -> None:
        check(self.temperature > 0, f"temperature ({self.temperature}) must be > 0.")
        check(self.num_negatives > 0, f"num_negatives ({self.num_negatives}) must be > 0.")
        check(0 <= self.momentum < 1, f"momentum ({self.momentum}) must be in [0, 1).")


@dataclass
class Avid(Memory):
    """AVID: instance discrimination against a memory of every training clip."""

    variant: Literal["cross", "self", "joint"] = "cross"
    """Memory of the other modality, of the own one, or both."""
    loss: Literal["softmax", "nce_frozen", "nce_running", "nce_batch"] = "softmax"
    """Cross-entropy, or noise-contrastive estimation with the normalizer of the first batch (the paper's; fragile on
    small data), a running mean of it, or each batch's own."""
    z_momentum: float = 0.99
    """Of the running normalizer, in [0, 1)."""


@dataclass
class Cma(Avid):
    """CMA: AVID, and further positives on which both modalities agree."""

    agreement: Literal["consensus", "union", "video", "audio"] = "consensus"
    """Of two clips: the lower of the cosines of their videos and of their sounds, the higher, or that one alone."""
    num_positives: int = 32
    """Positives of a clip; fewer than the rows."""
    positives: Literal["within", "across", "both"] = "within"
    """What is pulled to the positives: the same modality, the other, or both."""
    positive_negatives: int = 64
    """How many of the negatives the positives are contrasted with."""
    positive_weight: float = 1.0
    """Weight of the positives' term beside the instance term's 1."""
    warmup_epochs: int = 5
    """Epochs with AVID's loss alone; 0 when the run begins from an AVID run (train.init_from)."""
    refresh_epochs: int = 5
    """Epochs from one search of positives to the next; 50 in the paper."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_positives", "positive_weight", "refresh_epochs"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")
        check(self.warmup_epochs >= 0, f"warmup_epochs ({self.warmup_epochs}) must be >= 0.")
        check(
            1 <= self.positive_negatives <= self.num_negatives,
            f"positive_negatives ({self.positive_negatives}) must be in [1, num_negatives ({self.num_negatives})].",
        )


@dataclass
class RobustXid(Memory):
    """Robust-xID: instance discrimination with weighted instances and soft targets."""

    targets: Literal["none", "bootstrapping", "swapped", "neighbor", "cycle"] = "cycle"
    """What says how much another clip may stand for this one."""
    soft_weight: float = 0.5
    """Share of the soft targets, in [0, 1]; the rest is the clip's own row."""
    tau_s: float = 0.02
    """Temperature across clips in the soft targets."""
    tau_t: float = 0.07
    """Temperature within a clip in the soft targets."""
    weighted: bool = True
    """Whether clips whose picture and sound disagree count less."""
    delta: float = 0.0
    """Shift of the weights' threshold from the mean agreement, in standard deviations."""
    kappa: float = 0.5
    """Softness of that threshold, > 0."""
    w_min: float = 0.25
    """The lowest weight, in [0, 1]."""
    warmup_epochs: int = 5
    """Epochs of plain instance discrimination; at least 1, or 0 when the run begins from another (train.init_from)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("tau_s", "tau_t", "kappa"):
            check(getattr(self, name) > 0, f"{name} ({getattr(self, name)}) must be > 0.")
        for name in ("soft_weight", "w_min"):
            check(0 <= getattr(self, name) <= 1, f"{name} ({getattr(self, name)}) must be in [0, 1].")
        check(self.warmup_epochs >= 0, f"warmup_epochs ({self.warmup_epochs}) must be >= 0.")


@dataclass
class DenseAV(Choice):
    """Every step of a sound against every cell of the picture at its time, in heads; sharp in space and time."""

    num_heads: int = 2
    """Groups of channels that learn to answer to different kinds of sounds; divides model.head.out_features."""
    temperature: float = 0.07
    """Softmax temperature, > 0."""
    learn_temperature: bool = True
    """Learn the temperature, from the one above on; never below 0.01."""
    silence_dbfs: float | None = None
    """Steps of a sound that are quieter than this, in decibels of full scale (-60 is usual), are left out."""
    negative_sounds: int = 0
    """Sounds of silence and noise in which nothing should be found beside the batch of each process; even."""
    pooled_weight: float = 0.0
    """Weight of InfoNCE between pooled embeddings, which search and retrieval compare; the method has none."""
    overlap_weight: float = 0.05
    """Weight of keeping heads apart: the product of their cosines in one place."""
    nonnegative_weight: float = 0.01
    """Weight of the square of cosines below 0 with sounds of other clips."""
    smooth_weight: float = 0.01
    """Weight of the square of changes of the score from one moment to the next."""
    silence_weight: float = 0.01
    """Weight of cosines in steps that are left out as silent."""
    negative_weight: float = 0.01
    """Weight of cosines with sounds of silence and noise."""
    floor_weight: float = 0.1
    """Weight of keeping a learned temperature below 1."""

    def __post_init__(self) -> None:
        check(self.num_heads >= 1, f"num_heads ({self.num_heads}) must be >= 1.")


OBJECTIVES: dict[str, type[Choice]] = {
    "avid": Avid,
    "cma": Cma,
    "dense_av": DenseAV,
    "fnac": Fnac,
    "info_nce": InfoNCE,
    "lvs": Lvs,
    "margin_nce": MarginNCE,
    "moco": MoCo,
    "robust_xid": RobustXid,
    "siglip": SigLIP,
    "slavc": SLAVC,
    "ssl_tie": SslTie,
}
"""The dataclass of each objective."""
