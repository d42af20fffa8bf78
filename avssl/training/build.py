"""Builds objects from a config. This is the lowest module that reads it; the objects take plain arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import nn

from avssl.config import Choice, Config, ConfigError
from avssl.config.foreign import check_contract
from avssl.core import distributed
from avssl.core.cpus import decoding_workers
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.needs import ObjectiveNeeds, TemporalWindows
from avssl.core.registry import parameters_of
from avssl.data.dataset import ClipDataset
from avssl.data.loader import TrainLoader
from avssl.data.one_stream import OneStreamDataset
from avssl.data.sampling import ClipSampling
from avssl.engine import RateGroup, WarmupCosine, create_optimizer
from avssl.engine.trackers import check_trackers
from avssl.models import (
    AVModel,
    Encoder,
    HeadPair,
    LogitScale,
    ProjectionHead,
    create_encoder,
    create_head,
    encoder_builder,
)
from avssl.models.classifier import Inputs
from avssl.models.equivariance import EquivariantBranch
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.joint_head import JointHead
from avssl.models.masked import PatchPrediction
from avssl.models.objective_heads import objective_heads
from avssl.models.recompute import recompute_blocks
from avssl.models.shared_vit import SharedVit
from avssl.models.undecayed import undecayed
from avssl.objectives import MemoryRows, Objective, create_objective, objective_needs
from avssl.training.checks import check_same_time, check_unshifted, refuse_larger_than_memory
from avssl.training.tasks import PretrainTask
from avssl.transforms import (
    ClipTransform,
    LocalViews,
    RandomGain,
    SpectrogramMask,
    Standardize,
    VideoAugment,
    VideoEval,
    WaveformAugment,
    create_spectrogram,
)
from avssl.transforms.clip_transform import AUDIO_DRAWS
from avssl.transforms.video import NUM_DRAWS as VIDEO_DRAWS

Crop = Literal["center", "full", "three"]
_MASK_OPTIONS = ("max_time_width", "max_freq_width", "num_time_masks", "num_freq_masks")


def check_options(config: Config) -> None:
    """Raise :class:`ConfigError` for an option that its class rejects, before any file is read."""
    check_trackers(config.train.trackers)
    build_sampling(config)
    build_transform(config)
    build_objective(config, stand_in_rows(config))
    with torch.device("meta"):
        model = build_model(config)
    _check_masks(config, model)
    refuse_larger_than_memory(sum(p.numel() for p in model.parameters()))


def stand_in_rows(config: Config) -> MemoryRows:
    """Return rows of a memory that stand in for those of files, as few as the options of the objective allow."""
    needed = max(1, config.objective.options().get("num_positives", 0), needs_of(config).prototypes)
    return MemoryRows.from_ids([f"row {i}" for i in range(3 + needed)])


def _check_masks(config: Config, model: AVModel) -> None:
    """Raise ConfigError unless the masks of an objective fit the patches of the encoders."""
    if model.patch_prediction is None:
        return
    sampling, spectrogram, size = (
        build_sampling(config),
        build_transform(config).spectrogram,
        config.transform.video.size,
    )
    sides = (
        (model.video_encoder, (1, 3, sampling.num_frames, size, size)),
        (model.audio_encoder, (1, 1, spectrogram.num_frames(sampling.num_samples), spectrogram.num_bins)),
    )
    with _naming("objective", config.objective.options()):
        for encoder, shape in sides:
            model.patch_prediction.check_input(encoder, torch.empty(shape, device="meta"))


@contextmanager
def _naming(group: str, options: Iterable[str]) -> Iterator[None]:
    """Turn an error whose message begins with an option into a ConfigError that names the option's group."""
    try:
        yield
    except InputError as error:
        option = re.split(r"\W", str(error), maxsplit=1)[0]
        if isinstance(error, ConfigError) or option not in options:
            raise
        raise ConfigError(f"{group}.{error}") from error


def needs_of(config: Config) -> ObjectiveNeeds:
    """Return what ``config.objective`` needs of the model, the transform and the task."""
    with _naming("objective", config.objective.options()):
        return objective_needs(config.objective.name, config.objective.options())


def build_model(config: Config, seed: int | None = None) -> AVModel:
    """Build the untrained model on the CPU.

    The same seed gives the same weights in any state of the random generator, and leaves that state unchanged.

    Args:
        config: ``model`` is read, and what ``objective`` needs of the model: heads, learned scale of logits.
        seed: Random seed of the initial weights; ``train.seed`` by default.
    """
    settings, needs = config.model, needs_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.train.seed if seed is None else seed)
        video = _build_encoder("model.video", settings.video)
        audio = _build_encoder("model.audio", settings.audio, video)
        for group, encoder in (("model.video", video), ("model.audio", audio)):
            if isinstance(encoder, ForeignEncoder):
                check_contract(config, group, encoder.contract)
                encoder.set_window(config.sampling.audio_seconds)
        heads = _build_heads(config, video, audio)
        where_heads = _build_heads(config, video, audio) if needs.where_heads else None
        with _naming("objective", config.objective.options()):
            return AVModel(
                video,
                audio,
                heads.video,
                heads.audio,
                None if needs.logit_scale is None else LogitScale(needs.logit_scale, needs.logit_bias),
                num_heads=needs.num_heads,
                audio_over_time=needs.audio_over_time,
                framewise=needs.framewise,
                where_heads=where_heads,
                objective_heads=objective_heads(needs, heads.video.out_features),
                equivariant_branches=_build_branches(video, audio, heads) if needs.originals else None,
                joint_head=None
                if needs.joint_dropout is None
                else JointHead(video.num_features, audio.num_features, heads.video.out_features, needs.joint_dropout),
                patch_prediction=None
                if needs.masked is None
                else PatchPrediction(video, audio, heads.video.out_features, needs.masked),
                video_dropout=settings.dropout.video,
            )


def _build_encoder(group: str, chosen: Choice, video: Encoder | None = None) -> Encoder:
    """Build an encoder; one that shares the blocks of the video encoder gets it."""
    modality = group.rpartition(".")[2]
    shared = {"trunk": video} if "trunk" in parameters_of(encoder_builder(chosen.name, modality)) else {}
    with _naming(group, chosen.options()):
        return create_encoder(chosen.name, modality=modality, **shared, **chosen.options())


def load_public_weights(*encoders: nn.Module) -> None:
    """Load the public weights that encoders name, in place; raise WeightsError if they are missing or do not fit."""
    for encoder in encoders:
        if isinstance(encoder, ForeignEncoder | SharedVit):
            encoder.load_pretrained()


def _build_branches(video: Encoder, audio: Encoder, heads: HeadPair) -> tuple[EquivariantBranch, EquivariantBranch]:
    size = heads.video.out_features
    return (
        EquivariantBranch(video.num_features, size, VIDEO_DRAWS),
        EquivariantBranch(audio.num_features, size, AUDIO_DRAWS),
    )


def _build_heads(config: Config, video: Encoder, audio: Encoder) -> HeadPair:
    chosen, space = config.model.head, config.model.space.of
    heads, size = [], chosen.options()["out_features"]
    for encoder in (video, audio):
        count = encoder.num_features
        if space != encoder.modality:
            heads.append(create_head(chosen.name, count, **chosen.options()))
        elif count == size:
            heads.append(ProjectionHead(count, count))
        else:
            raise ConfigError(
                f"model.space.of ({space}) takes the {count} features of the {space} encoder as they are, so "
                f"model.head.out_features ({size}) must be {count}."
            )
    return HeadPair(*heads)


def build_transform(
    config: Config, needs: ObjectiveNeeds | None = None, crop: Crop | None = None, eval_size: int | None = None
) -> ClipTransform:
    """Build the transform from raw batch to model input; its statistics are estimated or loaded later.

    Args:
        config: ``transform`` and ``sampling`` are read.
        needs: Requirements of the objective on training batches; None for one view without negative sounds.
        crop: Evaluation crop in place of ``transform.video.eval_crop``; localization uses ``"full"``.
        eval_size: Size of the frames in evaluation in place of ``transform.video.size``, in pixels.
    """
    needs = needs or ObjectiveNeeds()
    video, audio = dict(vars(config.transform.video)), dict(vars(config.transform.audio))
    own_crop, resize_short = video.pop("eval_crop"), video.pop("eval_resize_short")
    eval_crop = crop or own_crop
    if resize_short is not None and resize_short < video["size"]:
        raise ConfigError(
            f"transform.video.eval_resize_short ({resize_short}) must be at least transform.video.size "
            f"({video['size']})."
        )
    how = {name: video.pop(f"eval_{name}") for name in ("interpolation", "keep_aspect", "antialias")}
    if eval_crop != "center":
        how["keep_aspect"] = True  # a setting of the central square alone
    del video["preset"], audio["preset"]  # its values are in the other options
    with _naming("transform.video", video):
        augment = VideoAugment(**video)
        size = eval_size or video["size"]
        evaluation = VideoEval(
            size,
            crop=eval_crop,
            resize_short=resize_short if eval_crop == "center" and size == video["size"] else None,
            **how,
            mean=video["mean"],
            std=video["std"],
        )
    with _naming("transform.audio", audio):
        gain = RandomGain(audio.pop("gain"))
        mask = SpectrogramMask(**{name: audio.pop(name) for name in _MASK_OPTIONS})
        waveform_augment = WaveformAugment(config.sampling.sample_rate_hz, **audio)
    chosen = config.transform.spectrogram
    with _naming("transform.spectrogram", chosen.options()):
        spectrogram = create_spectrogram(chosen.name, sample_rate_hz=config.sampling.sample_rate_hz, **chosen.options())
    standardize = Standardize(spectrogram.num_bins)
    if spectrogram.fixed_statistics is not None:
        standardize.set_fixed(*spectrogram.fixed_statistics)
    local_views = None
    if needs.local_views:
        options = dict(vars(config.local_views))
        with _naming("local_views", options):
            local_views = LocalViews(augment, **options)
    return ClipTransform(
        augment,
        evaluation,
        spectrogram,
        standardize=standardize,
        waveform_augment=waveform_augment if waveform_augment.is_used else None,
        gain=gain,
        mask=mask if mask.max_time_width or mask.max_freq_width else None,
        num_views=needs.num_views,
        view_warp=needs.view_warp,
        negative_sounds=needs.negative_sounds,
        windows=needs.windows,
        originals=needs.originals,
        local_views=local_views,
        num_local_views=needs.local_views,
    )


def build_objective(config: Config, rows: MemoryRows | None = None) -> Objective:
    """Build the loss.

    Args:
        config: ``objective`` is read; if embeddings are stored, also their size and the random seed.
        rows: The rows of a memory, from :func:`memory_rows`; not needed without one.

    Raises:
        ConfigError: If the objective keeps a memory and there are no rows, or an option is out of range.
    """
    chosen, needs = config.objective, needs_of(config)
    options = chosen.options()
    if needs.embedding_size:
        options["embedding_size"] = config.model.head.options()["out_features"]
    if needs.memory:
        if rows is None:
            raise ConfigError(f"objective.name {chosen.name} keeps a memory of every row: build it with the rows.")
        options |= {"rows": rows, "seed": config.train.seed}
    with _naming("objective", options):
        return create_objective(chosen.name, **options)


def memory_rows(dataset: ClipDataset) -> MemoryRows:
    """Return the rows of a memory: the ids, files and labels of a dataset, in its order."""
    manifest, labels = dataset.manifest, None
    if "label" in manifest:
        codes = manifest.table["label"].combine_chunks().dictionary_encode().indices.fill_null(-1)
        labels = torch.from_numpy(codes.to_numpy().astype(np.int64))
    return MemoryRows(dataset.id_keys, dataset.groups, labels)


def build_task(config: Config, rows: MemoryRows | None = None, *, pretrained: bool = False) -> PretrainTask:
    """Build transform, model and objective on the CPU; ``rows`` as in :func:`build_objective`.

    Args:
        config: Every setting.
        rows: The rows of a memory.
        pretrained: Load the public weights that the settings name; not where a checkpoint follows.

    Raises:
        WeightsError: If public weights are missing, or do not fit.
        ConfigError: As there, or if the windows of video and audio are not those the objective needs.
    """
    objective = build_objective(config, rows)
    transform, model, train = build_transform(config, objective.needs), build_model(config), config.train
    if pretrained:
        load_public_weights(model.video_encoder, model.audio_encoder)
    if model.audio_over_time:
        check_same_time(config)
    windows = objective.needs.windows
    if model.audio_over_time or (windows is not None and windows.num_negatives):
        check_unshifted(config)
    if train.activation_checkpointing == "block":
        recompute_blocks(model)
    return PretrainTask(transform, model, objective, train.batch_norm, train.embed_chunk_size)


def build_dataset(
    config: Config, manifest: Manifest, inputs: Inputs = "both", windows: TemporalWindows | None = None
) -> ClipDataset:
    """Build the dataset of the rows, of one stream only if ``inputs`` names one, whose training clips have windows."""
    sampling, seed = build_sampling(config), config.train.seed
    backend, limits = config.data.backend, config.limits
    if inputs == "both":
        return ClipDataset(manifest, sampling, seed, backend=backend, limits=limits, windows=windows)
    return OneStreamDataset(manifest, sampling, seed, stream=inputs, backend=backend, limits=limits)


def build_loader(
    config: Config,
    manifest: Manifest,
    device: torch.device,
    max_bad_fraction: float,
    inputs: Inputs = "both",
    windows: TemporalWindows | None = None,
) -> TrainLoader:
    """Build the loader of this rank's batches; ``optim.batch_size`` counts all ranks.

    Args:
        windows: Windows of each clip at several times, as the objective needs them.
    """
    data = config.data
    return TrainLoader(
        build_dataset(config, manifest, inputs, windows),
        config.optim.batch_size // distributed.world_size(),
        clips_per_read=data.clips_per_read,
        num_workers=decoding_workers(data.num_workers),
        max_bad_fraction=max_bad_fraction,
        device=device,
    )


def build_optimizer(config: Config, task: PretrainTask) -> torch.optim.Optimizer:
    """Build the optimizer of the model's parameters; backbones of other libraries may have rates by layer."""
    optim = config.optim
    return create_optimizer(
        _rate_groups(task.model),
        optim.name,
        lr=optim.lr,
        weight_decay=optim.weight_decay,
        betas=optim.betas,
        undecayed=() if optim.decay_tokens else undecayed(task.model),
    )


def _rate_groups(model: nn.Module) -> nn.Module | list[RateGroup]:
    """Return the model, or groups of its parameters where an encoder has rates by layer."""
    towers = [each for each in model.modules() if isinstance(each, ForeignEncoder) and each.layer_decay < 1]
    if not towers:
        return model
    groups = [
        RateGroup(parameters, tower.layer_decay**depth)
        for tower in towers
        for depth, parameters in tower.parameters_by_depth()
    ]
    grouped = {id(parameter) for group in groups for parameter in group.params}
    return [RateGroup([p for p in model.parameters() if id(p) not in grouped]), *groups]


def build_schedule(config: Config, total_steps: int) -> WarmupCosine:
    """Build the learning rate schedule."""
    optim = config.optim
    return WarmupCosine(optim.lr, total_steps, round(optim.warmup_fraction * total_steps), optim.final_lr)


def build_sampling(config: Config) -> ClipSampling:
    """Build the sampling of clips from files."""
    settings = dict(vars(config.sampling))
    settings["short_side"] = settings["short_side"] or round(config.transform.video.size / 0.875)
    with _naming("sampling", settings):
        return ClipSampling(**settings)
