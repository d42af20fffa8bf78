import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from avssl.core import draws

IDS = [f"videos/{i}.mp4" for i in range(2000)]
KEYS = draws.clip_key(3, 1, draws.text_keys(IDS))


def test_mixer_gives_the_published_first_numbers_of_splitmix64():
    # From state 0, whose next state is the increment: as in the reference code of S. Vigna.
    first, second = 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4
    mixed = draws.splitmix64(torch.tensor([0, draws._GAMMA]))
    assert [value % 2**64 for value in mixed.tolist()] == [first, second]


@pytest.mark.parametrize("value", [0, 1, -1, 2**63 - 1, -(2**63), 123456789])
def test_one_number_is_mixed_as_a_tensor_of_them(value):
    assert draws.splitmix64_int(value) == draws.splitmix64(torch.tensor([value])).item()


def test_one_clip_has_the_key_and_the_draw_of_a_batch():
    ids = draws.text_keys(IDS[:5])
    assert ids.tolist() == [draws.text_key(name) for name in IDS[:5]]
    numbers = torch.tensor([0, 1, 2, 0, 7])
    keys = draws.clip_key(-4, 2, ids, numbers)
    assert keys.tolist() == [
        draws.clip_key_int(-4, 2, key, number) for key, number in zip(ids.tolist(), numbers.tolist(), strict=True)
    ]
    drawn = draws.uniform(keys, "crop", 3)[:, 0].tolist()
    assert drawn == [draws.uniform_float(key, "crop") for key in keys.tolist()]


def test_draws_depend_on_the_key_and_the_purpose_alone():
    whole = draws.uniform(KEYS, "crop", 4)
    order = torch.randperm(len(KEYS), generator=torch.Generator().manual_seed(0))
    assert torch.equal(draws.uniform(KEYS[order], "crop", 4), whole[order])
    assert torch.equal(draws.uniform(KEYS[:7], "crop", 2), whole[:7, :2])
    assert not torch.equal(draws.uniform(KEYS, "jitter", 4), whole)
    for other in (
        draws.clip_key(4, 1, draws.text_keys(IDS)),
        draws.clip_key(3, 2, draws.text_keys(IDS)),
        draws.clip_key(3, 1, draws.text_keys(IDS), 1),
    ):
        assert (other != KEYS).all()


def test_numbers_drawn_together_are_those_drawn_apart():
    together = draws.DrawnTogether()
    expected = [draws.uniform(KEYS, "crop/0", 40), draws.uniform(KEYS, "crop/1", 4, -2, 3)]
    whole = draws.integers(KEYS, "flip", 3, 9)
    for _ in range(3):
        with together(KEYS):
            crop, other = draws.uniform(KEYS, "crop/0", 40), draws.uniform(KEYS, "crop/1", 4, -2, 3)
            assert torch.equal(draws.integers(KEYS, "flip", 3, 9), whole)
            assert torch.equal(draws.integers(KEYS, "flip", 2, 9), whole[:, :2])
            assert torch.equal(draws.uniform(KEYS[:5], "crop/0", 40), expected[0][:5])  # other keys
            assert torch.equal(draws.normal(KEYS, "noise", 500)[0, :3], draws.normal(KEYS[:1], "noise", 500)[0, :3])
        assert torch.equal(crop, expected[0])
        assert torch.equal(other, expected[1])
        crop.zero_()  # what a caller does with its numbers does not change those of the next
    assert together._counts == {"crop/0": 40, "crop/1": 4, "flip": 3}


def test_draws_without_data_leave_nothing_behind():
    """A step that is counted without data, before a training, keeps no constants that the training then meets."""
    for _ in range(2):  # in any order
        mode = FakeTensorMode()
        with mode:
            key = mode.from_tensor(KEYS)
            with draws.DrawnTogether()(key):
                draws.uniform(key, "lanes", 37)
        expected = draws.uniform(KEYS, "lanes", 37)
        assert type(expected) is torch.Tensor
        assert 0 <= float(expected.min()) < float(expected.max()) < 1


def test_draws_are_uniform_and_in_range():
    drawn = draws.uniform(KEYS, "crop", 8, -1.0, 3.0)
    assert drawn.min() >= -1
    assert drawn.max() < 3
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.05)
    assert drawn.var().item() == pytest.approx(16 / 12, abs=0.05)
    counts = draws.integers(KEYS, "window", 8, 5).flatten().bincount(minlength=5)
    assert counts.tolist() == pytest.approx([3200] * 5, rel=0.06)
    correlation = torch.corrcoef(drawn.T) - torch.eye(8)
    assert correlation.abs().max() < 0.1


def test_order_of_a_pass_keeps_what_is_left_when_rows_are_dropped():
    keys = draws.text_keys(IDS)
    order = draws.epoch_order(0, 0, keys)
    assert sorted(order.tolist()) == list(range(len(IDS)))
    assert order.tolist() != draws.epoch_order(0, 1, keys).tolist()
    half = draws.epoch_order(0, 0, keys[::2])
    assert [IDS[2 * row] for row in half.tolist()] == [IDS[row] for row in order.tolist() if row % 2 == 0]


def test_normal_draws_have_mean_0_variance_1_and_the_quantiles_of_a_bell():
    drawn = draws.normal(KEYS, "noise", 50).flatten()
    assert drawn.mean().item() == pytest.approx(0, abs=0.01)
    assert drawn.var().item() == pytest.approx(1, abs=0.02)
    for quantile, value in ((0.025, -1.96), (0.1587, -1.0), (0.5, 0.0), (0.975, 1.96)):
        assert (drawn < value).double().mean().item() == pytest.approx(quantile, abs=0.005)
    assert torch.equal(draws.normal(KEYS[:3], "noise", 50), draws.normal(KEYS, "noise", 50)[:3])


def test_the_order_is_that_of_the_sorted_hashes(monkeypatch):
    keys = draws.text_keys(IDS)
    hashes = draws.splitmix64(draws.clip_key(5, 2, keys) ^ draws.text_key("order"))
    assert torch.equal(draws.epoch_order(5, 2, keys), torch.argsort(hashes, stable=True))
    assert draws.epoch_order(5, 2, keys[:0]).tolist() == []
    assert draws.epoch_order(5, 2, keys[:1]).tolist() == [0]
    # Hashes that differ in their last bits only, and equal ones.
    few = (keys & 31).numpy().astype("uint64")
    few[100:200] |= 1 << 63
    monkeypatch.setattr(draws, "_order_hash", lambda seed, epoch, part: few[part.numpy()])
    for block in (1 << 20, 64):
        monkeypatch.setattr(draws, "_BLOCK", block)
        rows = torch.arange(len(few))
        assert draws.epoch_order(5, 2, rows).tolist() == few.argsort(kind="stable").tolist()
