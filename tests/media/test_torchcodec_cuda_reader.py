"""The reader that decodes on a GPU: what can be known without one."""

import importlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.media import available_backends, open_media
from avssl.media.limits import MediaLimits

NAME = "avssl.media.torchcodec_cuda_reader"


@pytest.fixture
def on_gpu(require: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, as if there were two GPUs; what decodes on them decodes on the CPU, and ``opened`` says how."""
    require("torchcodec")
    import torchcodec
    from torchcodec.decoders._decoder_utils import _get_cuda_backend

    monkeypatch.setattr(torchcodec, "__version__", "0.11.1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "1")
    sys.modules.pop(NAME, None)
    module = importlib.import_module(NAME)
    module.opened = []

    def decoder(path: Path, *, device: str, **options: Any) -> Any:
        module.opened.append((device, _get_cuda_backend(), options["seek_mode"]))
        with module.set_cuda_backend("ffmpeg"):
            return module.whole(path, **options)

    module.whole = module.VideoDecoder
    monkeypatch.setattr(module, "VideoDecoder", decoder)
    yield module
    sys.modules.pop(NAME, None)


def test_frames_are_decoded_on_the_gpu_of_the_rank_and_come_back(clip: Path, on_gpu: Any) -> None:
    times = [0.1, 0.5, 2.2]
    with on_gpu.TorchCodecCudaReader(clip, MediaLimits()) as reader, open_media(clip, "torchcodec") as expected:
        assert torch.equal(reader.read_frames(times, short_side=32), expected.read_frames(times, short_side=32))
        assert torch.equal(reader.read_audio(0.5, 1.0), expected.read_audio(0.5, 1.0))
    assert on_gpu.opened == [("cuda:1", "beta", "exact")]


def test_decoding_on_the_cpu_after_all_is_logged(
    clip: Path, on_gpu: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(on_gpu.whole, "cpu_fallback", "Beta CUDA backend: video not supported")
    with caplog.at_level(logging.INFO), on_gpu.TorchCodecCudaReader(clip, MediaLimits()) as reader:
        assert reader.read_frames([0.5]).device.type == "cpu"
    assert "torchcodec decodes its video on the CPU: Beta CUDA backend: video not supported" in caplog.text


def test_without_a_gpu_or_a_build_for_it_an_error_says_what_to_do(
    require: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    require("torchcodec")
    import torchcodec

    for version, reason in (("0.11.1+cpu", "built without CUDA. Install"), ("0.11.1", "torch sees none. Use")):
        monkeypatch.setattr(torchcodec, "__version__", version)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        with pytest.raises(ImportError, match=reason):
            importlib.import_module(NAME)


def test_it_is_listed_but_never_chosen_by_itself() -> None:
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeError, match=r"'torchcodec_cuda' cannot be used: torchcodec_cuda does not load: Imp"):
            open_media("x.mp4", "torchcodec_cuda")
    assert "torchcodec_cuda" in available_backends()
