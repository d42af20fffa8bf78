"""Activation checkpointing by block: equal numbers, less memory between forward and backward."""

import copy

import pytest
import torch

from avssl.engine import step_cost
from avssl.models import create_encoder
from avssl.models.recompute import recompute_blocks

VIT = {"width": 16, "num_blocks": 3, "num_heads": 2}
ENCODERS = {
    "vit_frames": ({"patch": 8, "grid": 2, **VIT}, (2, 3, 2, 16, 16), 3),
    "small_video": ({"width": 4}, (2, 3, 4, 16, 16), 3),
    "avid_r2plus1d_18": ({}, (2, 3, 4, 32, 32), 9),
    "resnet18_image": ({}, (2, 3, 1, 64, 64), 9),
}


@pytest.mark.parametrize("name", ENCODERS)
def test_value_gradient_statistics_and_names_are_equal_bit_for_bit(name):
    options, shape, num_units = ENCODERS[name]
    torch.manual_seed(0)
    plain = create_encoder(name, modality="video", **options).train()
    recomputed = copy.deepcopy(plain)
    assert recompute_blocks(recomputed) == num_units
    recomputed = copy.deepcopy(recomputed)  # as the probe of precisions copies the task
    x, losses = torch.randn(shape), []
    for encoder in (plain, recomputed):
        losses.append(encoder(x).square().sum())
        losses[-1].backward()
    assert torch.equal(*losses)
    assert plain.state_dict().keys() == recomputed.state_dict().keys()
    for ours, theirs in zip(plain.state_dict().values(), recomputed.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(plain.parameters(), recomputed.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


def test_random_numbers_are_the_same_in_both_passes():
    block = torch.nn.TransformerEncoderLayer(8, 2, 8, 0.5, batch_first=True)
    encoder = create_encoder("vit_frames", modality="video", patch=8, grid=2, **VIT)
    encoder.block1 = torch.nn.Sequential(torch.nn.Linear(16, 8), block, torch.nn.Linear(8, 16))
    x, gradients = torch.randn(2, 3, 1, 16, 16), []
    for _ in range(2):
        torch.manual_seed(1)
        encoder(x).square().sum().backward()
        gradients.append([parameter.grad.clone() for parameter in encoder.parameters()])
        encoder.zero_grad()
        recompute_blocks(encoder)
    assert all(map(torch.equal, *gradients))


def test_only_the_inputs_of_blocks_are_kept():
    encoder = create_encoder("vit_frames", modality="video", patch=4, grid=8, width=16, num_blocks=6, num_heads=2)
    x = torch.randn(2, 3, 1, 32, 32)
    kept = step_cost(encoder, lambda: encoder(x).sum()).saved_bytes
    recompute_blocks(encoder)
    assert step_cost(encoder, lambda: encoder(x).sum()).saved_bytes < kept / 4
