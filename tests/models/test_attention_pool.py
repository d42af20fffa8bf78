"""Attention pooling: the mean at the start, then a choice of cells; an option of every encoder that pools its map."""

import pytest
import torch

from avssl.core.registry import parameters_of
from avssl.models import AUDIO_ENCODERS, VIDEO_ENCODERS, create_encoder, encoder_builder
from avssl.models.attention_pool import AttentionPool

POOLED = [
    (modality, name)
    for modality, table in (("video", VIDEO_ENCODERS), ("audio", AUDIO_ENCODERS))
    for name, path in table.items()
    if ".foreign." not in path and name != "shared_vit" and "pool" in parameters_of(encoder_builder(name, modality))
]


def test_attention_starts_as_the_mean_and_learns_which_cells_count():
    pool = AttentionPool(48)
    features = torch.randn(2, 48, 2, 4, 4)
    before = pool(features)
    torch.testing.assert_close(before, features.mean(dim=(2, 3, 4)))
    before.square().sum().backward()
    assert pool.query.grad.abs().sum() > 0
    with torch.no_grad():
        pool.query.normal_(std=3.0)
    after = pool(features)
    assert not torch.allclose(after, before, atol=1e-3)
    order = torch.randperm(32)
    torch.testing.assert_close(pool(features.flatten(2)[..., order].view_as(features)), after)


def test_attention_equals_pytorchs_own():
    """One query in a head of its own is scaled_dot_product_attention."""
    pool = AttentionPool(16)
    with torch.no_grad():
        pool.query.normal_()
    cells = torch.randn(3, 16, 5)
    values = cells.transpose(1, 2)[:, None]  # (B, heads, N, C)
    keys = pool.key(pool.norm(values))
    query = pool.query[None, None].expand(3, 1, 1, 16)
    wanted = torch.nn.functional.scaled_dot_product_attention(query, keys, values)[:, 0, 0]
    torch.testing.assert_close(pool(cells), wanted)


@pytest.mark.parametrize(("modality", "name"), POOLED)
def test_every_encoder_that_pools_its_map_offers_it(modality, name):
    with torch.device("meta"):
        encoder = create_encoder(name, modality=modality, pool="attention")
    assert isinstance(encoder.attention, AttentionPool)
    depth, parameters = next(iter(encoder.parameters_by_depth()))
    assert depth == 0
    assert {id(p) for p in encoder.attention.parameters()} < {id(p) for p in parameters}
    counted = [id(p) for _, group in encoder.parameters_by_depth() for p in group]
    assert sorted(counted) == sorted(id(p) for p in encoder.parameters())


def test_encoder_pools_its_map_by_attention():
    encoder = create_encoder("small_audio", pool="attention").eval()
    with torch.no_grad():
        encoder.attention.query.normal_()
        pooled, features = encoder.forward_pooled(torch.randn(2, 1, 40, 33))
        torch.testing.assert_close(pooled, encoder.attention(features))
