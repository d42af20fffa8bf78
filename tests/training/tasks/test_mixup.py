import pytest
import torch

from avssl.core.draws import clip_key, text_keys
from avssl.training.tasks.mixup import Mixup, mix

KEYS = clip_key(0, 0, text_keys(f"clip{i}" for i in range(20_000)))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_follow_the_beta_distribution(alpha):
    share, _ = Mixup(alpha)(KEYS)
    assert share.min() >= 0
    assert share.max() <= 1
    assert share.mean().item() == pytest.approx(0.5, abs=0.01)
    assert share.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), abs=0.005)
    expected = torch.distributions.Beta(alpha, alpha).sample((200_000,))
    for level in (0.05, 0.25, 0.75, 0.95):
        assert share.quantile(level).item() == pytest.approx(expected.quantile(level).item(), abs=0.02)


def test_share_and_partner_depend_on_the_keys_and_not_on_their_places():
    keys = KEYS[:9]
    share, partner = Mixup(0.8)(keys)
    assert sorted(partner.tolist()) == list(range(9))
    assert (partner != torch.arange(9)).all()
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    moved_share, moved_partner = Mixup(0.8)(keys[order])
    assert torch.equal(moved_share, share[order])
    assert torch.equal(order[moved_partner], partner[order])


def test_draws_change_with_pass_and_clip_number():
    ids = text_keys(f"clip{i}" for i in range(9))
    shares = [Mixup(0.8)(clip_key(0, number, ids, visit))[0] for number in (0, 1) for visit in (0, 1)]
    assert len({tuple(share.tolist()) for share in shares}) == 4


def test_a_batch_of_one_is_its_own_partner():
    assert Mixup(1.0)(KEYS[:1])[1].tolist() == [0]


def test_mix_by_hand():
    mixed = mix(torch.tensor([[1.0], [10.0], [100.0]]), torch.tensor([1.0, 0.5, 0.25]), torch.tensor([2, 0, 1]))
    assert mixed[:, 0].tolist() == [1.0, 5.5, 32.5]


def test_alpha_must_be_positive():
    with pytest.raises(ValueError, match=r"mixup \(-1\)"):
        Mixup(-1)
