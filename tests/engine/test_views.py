"""(2+1)D networks on 2-D views: the same weights, names, values and gradients, and nothing is copied."""

import copy
from contextlib import ExitStack

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.video.resnet import BasicBlock, Conv2Plus1D

from avssl.engine import Precision
from avssl.engine.views import BatchNormOnViews, has_factorized, use_views
from avssl.models import create_encoder
from avssl.models.avid_video import AvidBlock
from avssl.models.batch_norm import synchronize_statistics
from avssl.models.small import SmallBlock

LAST = torch.channels_last_3d


class Strided(nn.Sequential):
    """A convolution of each kind: in groups, dilated, with a stride, a bias and even kernels."""

    def __init__(self):
        super().__init__(
            nn.Conv3d(4, 8, (1, 3, 2), (1, 2, 1), (0, 1, 1), (1, 1, 2), groups=2),
            nn.ReLU(inplace=True),
            nn.Conv3d(8, 8, (2, 1, 1), (2, 1, 1), (1, 0, 0), groups=4),
            nn.BatchNorm3d(8),
            nn.ReLU(inplace=True),
            nn.Conv3d(8, 4, (3, 1, 1), dilation=(2, 1, 1)),
            nn.Conv3d(4, 4, 1, stride=(1, 2, 2), bias=False),
        )


def gradients(model, video):
    """Return the output, the gradient by the input and by each weight, and the state behind the step."""
    model.zero_grad()
    video = video.clone(memory_format=torch.preserve_format).requires_grad_()
    output = model(video)
    (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape)).sum().backward()
    found = {"output": output.detach(), "input": video.grad} | {n: p.grad.clone() for n, p in model.named_parameters()}
    return found | {f"state {name}": value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    "kind",
    [
        Strided,
        lambda: AvidBlock(4, 6, 2),
        lambda: SmallBlock(4, 6, (2, 1)),
        lambda: BasicBlock(4, 4, Conv2Plus1D),  # torchvision's
    ],
)
@pytest.mark.parametrize("num_frames", [8, 9])
def test_values_and_gradients_equal_those_of_3d_operations(kind, num_frames):
    torch.manual_seed(0)
    plain = kind().double()
    model = copy.deepcopy(plain).to(memory_format=LAST)
    undo = use_views(model)
    video = torch.randn(3, 4, num_frames, 9, 7, dtype=torch.double)
    expected = gradients(plain, video)
    found = gradients(model, video.contiguous(memory_format=LAST))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-9)
    undo()
    torch.testing.assert_close(model.eval()(video), plain.eval()(video))


@pytest.mark.parametrize(("name", "options"), [("avid_r2plus1d_10", {}), ("small_video", {"width": 8})])
def test_features_and_gradients_of_whole_networks_are_equal(name, options):
    torch.manual_seed(0)
    plain = create_encoder(name, **options).double()
    model = copy.deepcopy(plain).to(memory_format=LAST)
    use_views(model)
    video = torch.randn(2, 3, 2, 24, 24, dtype=torch.double)
    expected, found = gradients(plain, video), gradients(model, video.contiguous(memory_format=LAST))
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-6 * value.abs().max().item())


def test_weights_of_either_form_load_into_the_other():
    model, other = create_encoder("small_video"), create_encoder("small_video")
    handle = Precision("fp32", "channels_last_2d").apply(model, "cpu")
    other.load_state_dict(model.state_dict())
    video = torch.randn(2, 3, 2, 32, 32)
    model.eval(), other.eval()
    with torch.no_grad():
        torch.testing.assert_close(model(video), other(video))
        model.load_state_dict(create_encoder("small_video").state_dict())
        handle.remove()
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(model(video), other(video))
    assert {type(module) for module in model.modules()} == {type(module) for module in other.modules()}
    assert all(module.inplace for module in model.modules() if isinstance(module, nn.ReLU))


class Operations(TorchDispatchMode):
    """Counts the operations that move numbers in memory and compute none."""

    def __init__(self):
        super().__init__()
        self.copies = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket in (torch.ops.aten.clone, torch.ops.aten.copy_, torch.ops.aten._to_copy):
            self.copies.append(function)
        return function(*args, **kwargs or {})


def test_views_copy_nothing():
    stem = nn.Conv3d(3, 8, (3, 7, 7), (1, 2, 2), (1, 3, 3))
    blocks = nn.Sequential(stem, nn.BatchNorm3d(8), nn.ReLU(inplace=True), AvidBlock(8, 16, 2), SmallBlock(16, 16))
    handle = Precision("fp32", "channels_last_2d").apply(blocks, "cpu")
    video = torch.randn(2, 3, 4, 18, 18).contiguous(memory_format=LAST).requires_grad_()
    with Operations() as operations:
        output = blocks(video)
        output.backward(torch.ones_like(output))
    assert operations.copies == []
    assert output.is_contiguous(memory_format=LAST)
    handle.remove()


def test_a_copy_of_a_network_on_views_is_one_and_two_precisions_may_be_nested():
    model = SmallBlock(4, 4)
    with ExitStack() as stack:
        stack.callback(Precision("fp32", "channels_last_2d").apply(model, "cpu").remove)
        copied = copy.deepcopy(model)
        assert isinstance(copied.spatial_bn, BatchNormOnViews)
        Precision("bf16", "channels_last_2d").apply(model, "cpu").remove()
        assert isinstance(model.spatial_bn, BatchNormOnViews)
    assert type(model.spatial_bn) is nn.BatchNorm3d


def test_other_modules_stay_as_they_are():
    model = nn.Sequential(
        nn.Conv3d(3, 4, 3),
        nn.Conv3d(4, 4, (1, 3, 3), padding="same"),
        nn.Conv3d(4, 4, (1, 3, 3), padding=(0, 1, 1), padding_mode="replicate"),
        nn.Conv3d(4, 4, (3, 1, 1), stride=2, padding=(1, 0, 0)),
        nn.BatchNorm3d(4),
    )
    synchronize_statistics(model)  # has a forward pass of its own
    kinds = [type(module) for module in model]
    use_views(model)
    assert [type(module) for module in model] == kinds
    assert not has_factorized(model)
    assert not has_factorized(create_encoder("r3d_18"))
    assert has_factorized(create_encoder("small_video"))
