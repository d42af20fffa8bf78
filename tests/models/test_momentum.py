import pytest
import torch
from torch import nn

from avssl.models.momentum import MomentumModel


def test_target_starts_equal_and_follows_by_its_share():
    online = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    target = MomentumModel(online, 0.9)
    before = [p.clone() for p in online.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), before, strict=True))
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(1)
    target.follow(online)
    for slow, old in zip(target.parameters(), before, strict=True):
        torch.testing.assert_close(slow, old + 0.1)


def test_target_moves_as_each_parameter_by_itself_would_bit_for_bit():
    torch.manual_seed(0)
    online = nn.Sequential(nn.Conv3d(3, 5, 3), nn.BatchNorm3d(5), nn.Linear(7, 2))
    online[2].requires_grad_(False)
    target = MomentumModel(online, 0.99)
    alone = [p.detach().clone() for p in target.parameters()]
    for _ in range(3):
        with torch.no_grad():
            for parameter in online.parameters():
                if parameter.requires_grad:
                    parameter.add_(torch.randn_like(parameter))
        target.follow(online)
        for slow, fast in zip(alone, online.parameters(), strict=True):
            slow.lerp_(fast.detach(), 1 - 0.99)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), alone, strict=True))
    assert target.model[2].weight is online[2].weight


def test_target_has_no_history_and_learns_nothing():
    online = nn.Linear(3, 2)
    target = MomentumModel(online, 0.999)
    assert not target(torch.ones(1, 3)).requires_grad
    assert not any(p.requires_grad for p in target.parameters())
    assert all(p.requires_grad for p in online.parameters())


def test_momentum_rises_along_half_a_cosine_or_stays():
    rising, constant = (MomentumModel(nn.Linear(1, 1), 0.9, final) for final in (1.0, None))
    shares = []
    for share_done in (0, 1 / 3, 0.5, 1):
        rising.set_progress(share_done)
        constant.set_progress(share_done)
        shares.append(rising.momentum)
        assert constant.momentum == 0.9
    assert shares == pytest.approx([0.9, 0.925, 0.95, 1.0], abs=1e-12)


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_momentum_out_of_range_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum \(.*\) must be in \[0, 1\]"):
        MomentumModel(nn.Linear(1, 1), momentum)
    with pytest.raises(ValueError, match=r"final_momentum \(.*\) must be in \[0, 1\]"):
        MomentumModel(nn.Linear(1, 1), 0.9, momentum)
