"""Config → objects. The lowest part that reads a config; everything it makes takes plain arguments."""

from __future__ import annotations

import os
from typing import Literal

import numpy as np
import torch

from avssl.config import Config, ConfigError
from avssl.config.objectives import Memory
from avssl.core import distributed
from avssl.core.affine import RandomAffine
from avssl.core.manifest import Manifest
from avssl.data.dataset import ClipDataset
from avssl.data.loader import TrainLoader
from avssl.data.one_stream import OneStreamDataset
from avssl.data.sampling import ClipSampling
from avssl.engine import WarmupCosine, create_optimizer
from avssl.models import AVModel, Encoder, HeadPair, LogitScale, create_encoder, create_head
from avssl.models.classifier import Inputs
from avssl.objectives import (
    MemoryRows,
    Objective,
    create_objective,
    extra_heads,
    holds_embeddings,
    initial_logits,
    model_options,
)
from avssl.training.tasks import PretrainTask
from avssl.transforms import (
    ClipTransform,
    RandomGain,
    SpectrogramMask,
    Standardize,
    VideoAugment,
    VideoEval,
    create_spectrogram,
)

Crop = Literal["center", "full", "three"]


def build_model(config: Config, seed: int | None = None) -> AVModel:
    """The untrained model on the CPU.

    The same seed gives the same weights whatever was drawn before, and no generator is left moved.

    Args:
        config: ``model`` is read, and of ``objective`` what it asks of the model: heads, learned scale of logits.
        seed: Of the initial weights; ``train.seed`` by default.
    """
    names = config.model
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.train.seed if seed is None else seed)
        video = create_encoder(names.video.name, **names.video.options())
        audio = create_encoder(names.audio.name, **names.audio.options())
        objective = config.objective.name, config.objective.options()
        heads = _build_heads(config, video, audio)
        where_heads = _build_heads(config, video, audio) if "where" in extra_heads(config.objective.name) else None
        first = initial_logits(*objective)
        return AVModel(
            video,
            audio,
            heads.video,
            heads.audio,
            LogitScale(**first) if first else None,
            where_heads=where_heads,
            video_dropout=names.dropout.video,
            **model_options(*objective),
        )


def _build_heads(config: Config, video: Encoder, audio: Encoder) -> HeadPair:
    name, options = config.model.head.name, config.model.head.options()
    return HeadPair(*(create_head(name, encoder.num_features, **options) for encoder in (video, audio)))


def build_transform(
    config: Config,
    num_views: int = 1,
    crop: Crop | None = None,
    negative_sounds: int = 0,
    view_warp: RandomAffine | None = None,
    eval_size: int | None = None,
) -> ClipTransform:
    """Raw batch → model input, without statistics until they are estimated or loaded.

    Args:
        config: ``transform`` and ``sampling`` are read.
        num_views: Views of each clip in training.
        crop: In evaluation, in place of ``transform.video.eval_crop``; localization takes ``"full"``.
        negative_sounds: Sounds of silence and noise beside each batch in training.
        view_warp: How the second view's picture is made of the first's in training; None augments it by itself.
        eval_size: Of the picture in evaluation, in place of ``transform.video.size``, in pixels.
    """
    video, audio = config.transform.video, config.transform.audio
    augment = {name: value for name, value in vars(video).items() if name not in ("size", "eval_crop")}
    spectrogram = create_spectrogram(
        config.transform.spectrogram.name,
        sample_rate_hz=config.sampling.sample_rate_hz,
        **config.transform.spectrogram.options(),
    )
    masks = {name: value for name, value in vars(audio).items() if name != "gain"}
    return ClipTransform(
        VideoAugment(video.size, **augment),
        VideoEval(eval_size or video.size, crop=crop or video.eval_crop),
        spectrogram,
        standardize=Standardize(spectrogram.num_bins),
        gain=RandomGain(*audio.gain),
        mask=SpectrogramMask(**masks) if audio.max_time_width or audio.max_freq_width else None,
        num_views=num_views,
        view_warp=view_warp,
        negative_sounds=negative_sounds,
    )


def build_objective(config: Config, rows: MemoryRows | None = None) -> Objective:
    """The loss.

    Args:
        config: ``objective`` is read; where embeddings are kept, their size and the seed too.
        rows: What the rows of a memory stand for, from :func:`memory_rows`; not needed without one.

    Raises:
        ConfigError: If the objective keeps a memory and there are no rows.
    """
    chosen, options = config.objective, config.objective.options()
    num_features = config.model.head.options()["out_features"]
    if isinstance(chosen, Memory):
        if rows is None:
            raise ConfigError(f"objective.name {chosen.name} keeps a memory of every row: build it with the rows.")
        options |= {"rows": rows, "num_features": num_features, "seed": config.train.seed}
    if holds_embeddings(chosen.name):
        options["embedding_size"] = num_features
    return create_objective(chosen.name, **options)


def memory_rows(dataset: ClipDataset) -> MemoryRows:
    """The rows of a memory: the ids, files and labels of a dataset, in its order."""
    manifest, labels = dataset.manifest, None
    if "label" in manifest:
        codes = manifest.table["label"].combine_chunks().dictionary_encode().indices.fill_null(-1)
        labels = torch.from_numpy(codes.to_numpy().astype(np.int64))
    return MemoryRows(dataset.id_keys, dataset.groups, labels)


def build_task(config: Config, rows: MemoryRows | None = None) -> PretrainTask:
    """Transform, untrained model and objective, on the CPU; ``rows`` as in :func:`build_objective`.

    Raises:
        ConfigError: As there, or if the windows of picture and sound are not those the objective needs.
    """
    objective = build_objective(config, rows)
    transform = build_transform(
        config, objective.num_views, negative_sounds=objective.negative_sounds, view_warp=objective.view_warp
    )
    model, train = build_model(config), config.train
    if model.sound_over_time:
        _check_same_time(config)
    return PretrainTask(transform, model, objective, train.batch_norm, train.embed_chunk_size)


def _check_same_time(config: Config) -> None:
    """A sound that is compared with a moving picture moment by moment must be of the same stretch of time."""
    sampling = config.sampling
    seen = sampling.num_frames / sampling.frames_per_second
    differ = abs(seen - sampling.audio_seconds) > 0.5 / sampling.frames_per_second
    if sampling.num_frames > 1 and (differ or sampling.max_offset_seconds > 0):
        raise ConfigError(
            f"objective.name {config.objective.name} compares a sound with the picture of the same moment: "
            f"sampling.audio_seconds ({sampling.audio_seconds:g}) must be sampling.num_frames / "
            f"sampling.frames_per_second ({seen:g}), and sampling.max_offset_seconds "
            f"({sampling.max_offset_seconds:g}) 0. Or see one picture alone: sampling.num_frames 1."
        )


def build_dataset(config: Config, manifest: Manifest, inputs: Inputs = "both") -> ClipDataset:
    """The reader of rows; of one stream alone where ``inputs`` says so."""
    sampling, seed, backend = build_sampling(config), config.train.seed, config.data.backend
    if inputs == "both":
        return ClipDataset(manifest, sampling, seed, backend=backend)
    return OneStreamDataset(manifest, sampling, seed, stream=inputs, backend=backend)


def build_loader(
    config: Config, manifest: Manifest, device: torch.device, max_bad_fraction: float, inputs: Inputs = "both"
) -> TrainLoader:
    """The endless stream of this rank's batches; ``optim.batch_size`` counts all ranks."""
    data = config.data
    return TrainLoader(
        build_dataset(config, manifest, inputs),
        config.optim.batch_size // distributed.world_size(),
        clips_per_read=data.clips_per_read,
        num_workers=default_workers() if data.num_workers is None else data.num_workers,
        max_bad_fraction=max_bad_fraction,
        pin_memory=device.type == "cuda",
    )


def default_workers() -> int:
    """One decoding process for each core of this process, at most 8, shared by the ranks of a machine."""
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(8, len(os.sched_getaffinity(0)) // local_ranks))


def build_optimizer(config: Config, task: PretrainTask) -> torch.optim.Optimizer:
    """Over the model's parameters."""
    optim = config.optim
    return create_optimizer(
        task.model, optim.name, lr=optim.lr, weight_decay=optim.weight_decay, betas=(optim.betas[0], optim.betas[1])
    )


def build_schedule(config: Config, total_steps: int) -> WarmupCosine:
    """The learning rate by step."""
    optim = config.optim
    return WarmupCosine(optim.lr, total_steps, round(optim.warmup_fraction * total_steps), optim.final_lr)


def build_sampling(config: Config) -> ClipSampling:
    """The shape of a clip."""
    settings = dict(vars(config.sampling))
    settings["short_side"] = settings["short_side"] or round(config.transform.video.size / 0.875)
    return ClipSampling(**settings)
