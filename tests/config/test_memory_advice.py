"""Every verb that runs out of memory says what needs less of it."""

import errno

import numpy as np
import pytest
import torch

from avssl.cli import VERBS, main
from avssl.config.command import Verb
from avssl.config.memory_advice import out_of_memory
from avssl.core.errors import RunError
from avssl.core.memory import is_memory_shortage, is_on_gpu
from avssl.training.tasks import PretrainTask

CUDA = torch.OutOfMemoryError(
    "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.68 GiB of which 1.2 GiB is free. "
    "Of the allocated memory 1.00 GiB is allocated by PyTorch. If reserved memory is large try setting X."
)


def numpy_error():
    with pytest.raises(MemoryError) as caught:
        np.empty(2**60, np.float32)
    return caught.value


def torch_error():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**58)
    return caught.value


@pytest.mark.parametrize(
    ("error", "on_gpu"),
    [
        (CUDA, True),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might ..."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (MemoryError(), False),
        (numpy_error(), False),
        (torch_error(), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_shortages_are_known(error, on_gpu):
    assert is_memory_shortage(error)
    assert is_on_gpu(error) == on_gpu


@pytest.mark.parametrize("error", [RuntimeError("a bug"), OSError(errno.ENOSPC, "full"), RunError("out of memory")])
def test_others_are_not(error):
    assert not is_memory_shortage(error)


@pytest.mark.parametrize("verb", VERBS)
def test_the_options_of_the_advice_are_those_of_the_verb(verb):
    command = Verb(verb, VERBS[verb])
    for error in (CUDA, MemoryError()):
        text = str(out_of_memory(command, error))
        named = {word[2:].replace("-", "_") for word in text.replace(",", " ").split() if word.startswith("--")}
        assert named <= command.option_names()
        assert text.endswith("other programs that use its memory.")


def test_what_a_training_is_told():
    text = str(out_of_memory(Verb("pretrain", VERBS["pretrain"]), CUDA))
    assert text.startswith("the GPU ran out of memory (CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")
    assert "allocated by PyTorch" not in text
    for name in ("--train.embed-chunk-size (", "--optim.batch-size (", "--train.precision (bf16"):
        assert name in text
    error = MemoryError()
    error.add_note("while reading a.mp4 (/x/a.mp4)")
    text = str(out_of_memory(Verb("pretrain", VERBS["pretrain"]), error))
    assert text.startswith("this machine ran out of memory while reading a.mp4 (/x/a.mp4). Change one of --data.num")


def test_a_step_without_memory_ends_in_one_line(tmp_path, monkeypatch, capsys):
    from avssl.synthetic import SceneSettings, Split, synthesize_corpus

    synthesize_corpus(tmp_path, {"train": Split(8, SceneSettings(duration_seconds=1.0))}, num_workers=0, progress=False)

    def fails(*_):
        raise CUDA

    monkeypatch.setattr(PretrainTask, "forward", fails)
    words = "--sampling.num-frames 2 --sampling.audio-seconds 0.5 --transform.video.size 32 --model.video.width 4"
    words += " --model.audio.width 4 --optim.batch-size 8 --monitor.every-steps 0 --train.device cpu"
    source, out = str(tmp_path / "manifest.csv"), str(tmp_path / "run")
    assert main(["pretrain", source, "--out", out, *words.split(), "--data.num-workers", "0"]) == 1
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert "avssl: error: the GPU ran out of memory (CUDA out of memory. Tried" in told.splitlines()[-1]
