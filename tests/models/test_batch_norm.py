"""BatchNorm with the statistics of all ranks; that ranks equal one process is in tests/engine/test_sharding.py."""

import torch
from torch import nn

from avssl.models import create_head
from avssl.models.batch_norm import batch_statistics, normalized, synchronize_statistics


def test_the_formula_is_torchs_batch_norm():
    for norm, shape in ((nn.BatchNorm1d(5), (7, 5)), (nn.BatchNorm3d(5, momentum=None), (3, 5, 2, 3, 4))):
        ours, theirs = type(norm)(5, momentum=norm.momentum), norm
        for layer in (ours, theirs):
            nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(0))
        for number in range(2):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(number)) + 100
            torch.testing.assert_close(normalized(ours, x, *batch_statistics(x)), theirs(x), rtol=1e-4, atol=1e-4)
        for mine, other in zip(ours.buffers(), theirs.buffers(), strict=True):
            torch.testing.assert_close(mine, other)


def test_one_process_computes_as_before_under_the_same_names():
    head = create_head("mlp_bn", 6, out_features=4, hidden=8)
    names, x = list(head.state_dict()), torch.randn(5, 6)
    plain = head(x)
    synchronize_statistics(head)
    synchronize_statistics(head)  # once is enough
    assert torch.equal(head(x), plain)
    assert list(head.state_dict()) == names
    pooled, cells = head.with_cells(x, x[:, None])
    torch.testing.assert_close(pooled, cells[:, 0])
