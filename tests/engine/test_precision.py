import copy

import pytest
import torch
from torch import nn

from avssl.core.batch import Embeddings
from avssl.engine import Precision, Task, computes_bf16
from avssl.engine import precision as module
from avssl.engine.precision import LAYOUTS
from avssl.transforms import VideoAugment


class TwoStreams(nn.Module):
    def __init__(self):
        super().__init__()
        self.video = nn.Conv3d(3, 4, 3)
        self.audio = nn.Conv2d(1, 4, 3)
        self.seen = {}

    def forward(self, video, audio, needs_maps=False):
        hidden = self.video(video)
        self.seen = {"dtype": hidden.dtype, "video": video, "audio": audio}
        return Embeddings(hidden.mean((2, 3, 4)), self.audio(audio).mean((2, 3)), logit_scale=self.audio.bias.sum())


def inputs():
    return torch.randn(2, 3, 4, 6, 6), torch.randn(2, 1, 7, 5)


def test_bf16_computes_in_bf16_and_returns_float32():
    model = TwoStreams()
    handle = Precision("bf16").apply(model, "cpu")
    video, audio = inputs()
    output = model(video, audio=audio)
    assert model.seen["dtype"] == torch.bfloat16
    assert output.video.dtype == output.audio.dtype == torch.float32
    output.video.sum().backward()
    assert model.video.weight.grad.dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")
    handle.remove()
    model(video, audio)
    assert model.seen["dtype"] == torch.float32


@pytest.mark.parametrize(("num_frames", "kernel"), [(1, 3), (2, 3), (3, 3), (2, 5), (3, 5), (4, 5)])
@pytest.mark.parametrize("memory_format", LAYOUTS)
def test_gradients_of_clips_shorter_than_the_kernel_are_right(num_frames, kernel, memory_format):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv3d(3, 16, (1, 3, 3)), nn.Conv3d(16, 16, (kernel, 1, 1), padding=(kernel // 2, 0, 0)))
    exact = copy.deepcopy(model)
    video = torch.randn(4, 3, num_frames, 10, 10)
    exact(video).square().sum().backward()
    handle = Precision("bf16", memory_format).apply(model, "cpu")
    for _ in range(3):
        model.zero_grad()
        junk = [torch.full((size,), torch.inf) for size in (256, 1024, 4096, 16384)]
        del junk  # what unwritten memory then holds
        model(video).square().sum().backward()
        for ours, theirs in zip(model.parameters(), exact.parameters(), strict=True):
            assert ((ours.grad - theirs.grad).norm() / theirs.grad.norm()).item() < 0.02
    handle.remove()
    torch.testing.assert_close(model(video), exact(video), rtol=0.02, atol=0.02)
    assert "forward" not in vars(model[1])


def test_bf16_ends_with_the_call_even_when_it_fails():
    model = TwoStreams()
    Precision("bf16").apply(model, "cpu")
    with pytest.raises(RuntimeError):
        model(torch.zeros(1, 2), torch.zeros(1, 2))
    assert not torch.is_autocast_enabled("cpu")


def test_a_module_of_torch_compile_has_a_precision_too():
    model = torch.compile(TwoStreams(), backend="eager")
    handle = Precision("bf16").apply(model, "cpu")
    output = model(*inputs())
    assert model.seen["dtype"] == torch.bfloat16
    assert output.video.dtype == torch.float32
    handle.remove()
    model(*inputs())
    assert model.seen["dtype"] == torch.float32


def test_channels_last_rearranges_weights_and_inputs_and_keeps_values():
    video, audio = inputs()
    plain = TwoStreams()
    model = TwoStreams()
    model.load_state_dict(plain.state_dict())
    Precision("fp32", "channels_last").apply(model, "cpu")
    output, expected = model(video, audio), plain(video, audio)
    assert model.video.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert model.audio.weight.is_contiguous(memory_format=torch.channels_last)
    assert model.seen["video"].is_contiguous(memory_format=torch.channels_last_3d)
    assert model.seen["audio"].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(output.video, expected.video)
    torch.testing.assert_close(output.audio, expected.audio)
    Precision().apply(model, "cpu")
    assert model.video.weight.is_contiguous()


def test_fp32_contiguous_changes_no_bit():
    video, audio = inputs()
    model = TwoStreams()
    before = model(video, audio)
    Precision().apply(model, "cpu")
    after = model(video, audio)
    assert torch.equal(before.video, after.video)
    assert torch.equal(before.audio, after.audio)


class Pair(Task):
    """A model, its momentum copy, and frames in the format that was set."""

    def __init__(self):
        super().__init__()
        self.model, self.target = TwoStreams(), TwoStreams()
        self.augment = VideoAugment(6)

    def networks(self):
        return [self.model, self.target]

    def set_output(self, dtype, memory_format):
        self.augment.set_output(dtype, memory_format)

    def forward(self, video, audio):
        size, keys = torch.full((len(video), 2), 8), torch.arange(len(video))
        frames = self.augment(video, size, keys)
        return [network(frames, audio).video for network in self.networks()], frames


def test_a_task_trains_in_the_precision_while_it_is_applied():
    task, audio = Pair(), torch.randn(2, 1, 7, 5)
    video = torch.randint(0, 256, (2, 4, 3, 8, 8), dtype=torch.uint8)
    plain, frames = task(video, audio)
    with Precision("bf16", "channels_last").applied_to(task, "cpu"):
        outputs, given = task(video, audio)
        assert task.model.seen["dtype"] == task.target.seen["dtype"] == torch.bfloat16
    assert given.dtype == torch.bfloat16
    assert given.is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(given.float(), frames, atol=0.05, rtol=0)
    for output, expected in zip(outputs, plain, strict=True):
        assert output.dtype == torch.float32
        torch.testing.assert_close(output, expected, atol=0.05, rtol=0)
    with pytest.raises(ZeroDivisionError), Precision("bf16").applied_to(task, "cpu"):
        raise ZeroDivisionError
    after, given = task(video, audio)
    assert torch.equal(given, frames)
    assert task.model.seen["dtype"] == torch.float32
    torch.testing.assert_close(after, plain)


def test_a_task_needs_no_second_network_or_frames():
    task = Task()
    task.model = TwoStreams()
    with Precision("bf16").applied_to(task, "cpu"):
        task.model(*inputs())
        assert task.model.seen["dtype"] == torch.bfloat16


def test_precision_rejects_unknown_names():
    with pytest.raises(ValueError, match="'fp16'"):
        Precision("fp16")
    with pytest.raises(ValueError, match="'nhwc'"):
        Precision("fp32", "nhwc")


@pytest.fixture(params=["x86", "arm"])
def old_processor(request, tmp_path, monkeypatch):
    """A processor without bf16 arithmetic."""
    flags = {"x86": "flags\t\t: fpu sse2 avx avx2 fma avx512f", "arm": "Features\t: fp asimd fphp asimddp"}[
        request.param
    ]
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{flags}\n")
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "cpuinfo")
    for function in (module._cpu_computes_bf16, module._warn_of_emulation):
        function.cache_clear()
    yield tmp_path / "cpuinfo"
    for function in (module._cpu_computes_bf16, module._warn_of_emulation):
        function.cache_clear()


def test_emulated_bf16_is_said_once_and_what_to_do(old_processor, caplog):
    for _ in range(2):
        Precision("bf16").apply(nn.Linear(2, 2), "cpu").remove()
        Precision("fp32").apply(nn.Linear(2, 2), "cpu").remove()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "up to 50 times slower than fp32. Use train.precision fp32 or auto" in record.getMessage()


def test_inference_leaves_bf16_where_it_is_emulated(old_processor):
    trained = Precision("bf16", "channels_last")
    assert not computes_bf16("cpu")
    assert trained.native("cpu") == Precision("fp32", "channels_last")
    assert trained.native("cuda") == trained


@pytest.mark.parametrize(
    "flags",
    [
        "flags\t: avx2 avx512_bf16 x",
        "flags\t: amx_bf16 amx_tile",
        "Features\t: asimd bf16 i8mm",
        "Features : svebf16",
        "",
    ],
)
def test_processors_with_bf16_or_not_known_keep_it(old_processor, flags, caplog):
    old_processor.write_text(f"processor : 0\n{flags}\n")
    module._cpu_computes_bf16.cache_clear()
    assert computes_bf16("cpu")
    Precision("bf16").apply(nn.Linear(2, 2), "cpu").remove()
    assert not caplog.records
