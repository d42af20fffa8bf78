"""Checks of settings that no single option can make: memory of the machine, and times of frames and audio."""

from __future__ import annotations

import os

from avssl.config import Config, ConfigError


def refuse_larger_than_memory(num_parameters: int) -> None:
    """Raise ConfigError if parameters, their gradients and Adam's two means do not fit into this machine's memory."""
    needed, present = 4 * 4 * num_parameters, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise ConfigError(
            f"model: {num_parameters} parameters with gradients and optimizer take {needed / 2**30:.0f} GiB, but this "
            f"machine has {present / 2**30:.0f} GiB. Lower the width of model.video, model.audio or model.head."
        )


def check_unshifted(config: Config) -> None:
    """Raise ConfigError if augmentation moves the audio against several frames that it is compared with over time."""
    shift_seconds = config.transform.audio.max_shift_seconds
    if config.sampling.num_frames > 1 and shift_seconds > 0:
        raise ConfigError(
            f"objective.name {config.objective.name} compares audio and frames of the same time: "
            f"transform.audio.max_shift_seconds ({shift_seconds:g}) must be 0."
        )


def check_same_time(config: Config) -> None:
    """Raise ConfigError unless audio and several frames that are compared over time cover the same time."""
    sampling = config.sampling
    video_seconds = sampling.num_frames / sampling.frames_per_second
    differ = abs(video_seconds - sampling.audio_seconds) > 0.5 / sampling.frames_per_second
    if sampling.num_frames > 1 and (differ or sampling.max_offset_seconds > 0):
        raise ConfigError(
            f"objective.name {config.objective.name} compares audio and frames of the same time: "
            f"sampling.audio_seconds ({sampling.audio_seconds:g}) must be sampling.num_frames / "
            f"sampling.frames_per_second ({video_seconds:g}), and sampling.max_offset_seconds "
            f"({sampling.max_offset_seconds:g}) 0. Or use a single frame: sampling.num_frames 1."
        )
