"""The verb ``doctor``: the machine, and what avssl can use of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from avssl.core.cpus import num_cores
from avssl.core.errors import RunError
from avssl.core.version import __version__
from avssl.media import available_backends

PACKAGES = (
    "torchvision",
    "torchaudio",
    "av",
    "torchcodec",
    "decord",
    "numpy",
    "pyarrow",
    "huggingface_hub",
    "onnxruntime",
    "gradio",
)


def doctor() -> None:
    """Report which torch, GPU and media backends load, and why others do not.

    Raises:
        RunError: If no media backend loads.
    """
    sections: list[tuple[str, Callable[[], list[str]]]] = [
        ("system", system),
        ("torch", torch_build),
        ("packages", packages),
        ("media backends", media_backends),
    ]
    for title, report in sections:
        print(title)
        for line in report():
            print(f"  {line}")
    if all(reason is not None for reason in available_backends().values()):
        raise RunError("not ready: no media backend loads. Install one with: pip install av")
    print("ready.")


def system() -> list[str]:
    """Return versions, cores, memory and free disk."""
    disk = shutil.disk_usage(Path.cwd())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [
        f"avssl {__version__}, Python {platform.python_version()} ({sys.executable}), {platform.platform()}",
        f"{num_cores()} CPU cores for this process, {memory / 1e9:.0f} GB of memory",
        f"{disk.free / 1e9:.0f} GB free in {Path.cwd()}",
    ]


def torch_build() -> list[str]:
    """Return the version of torch, its threads and GPUs."""
    lines = [f"torch {torch.__version__}, {torch.get_num_threads()} threads"]
    for number in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(number)
        lines.append(f"GPU {number}: {properties.name}, {properties.total_memory / 1e9:.0f} GB")
    if not torch.cuda.is_available():
        build = torch.version.cuda
        why = f"built for CUDA {build}, but no GPU or driver is found" if build else "this torch is built for CPUs only"
        lines.append(f"no GPU: {why}; the CPU is used")
    return lines


def packages() -> list[str]:
    """Return the versions of the packages that avssl uses."""
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} is not installed")
    return versions


def media_backends() -> list[str]:
    """Return which readers load, why the others do not, and where FFmpeg is."""
    backends = available_backends()
    lines = [f"{name}: {'loads' if why is None else ' '.join(why.split())}" for name, why in backends.items()]
    return [*lines, f"FFmpeg on the path: {shutil.which('ffmpeg') or 'none (not needed)'}"]
