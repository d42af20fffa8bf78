import numpy as np
import pytest
import torch

from avssl.models import StagePooling, create_encoder
from avssl.models.probes import AttentiveProbe, LayerProbes
from avssl.training.tasks.probes import ProbeSchedule, probe_logits, train_probe


def maps(count, windows=2, seed=0, classes=3):
    """Class k is bright in channel k of ``shown``; ``noise`` tells nothing."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    shown = generator.normal(size=(count, windows, 8, 1, 2, 2)).astype(np.float32)
    shown[np.arange(count), :, labels] += 3
    noise = generator.normal(size=(count, windows, 4, 1, 1, 1)).astype(np.float32)
    return {"noise": noise, "shown": shown}, labels, [f"clip {i}" for i in range(count)]


def layer_probes(seed=0, names=("noise", "shown")):
    torch.manual_seed(seed)
    sizes = {"noise": 4, "shown": 32}
    return LayerProbes({name: sizes[name] for name in names}, 3)


FAST = ProbeSchedule(epochs=20, batch_size=16, lr=1e-2)


def test_probes_learn_what_their_layer_shows():
    train, labels, ids = maps(60)
    test, truth, _ = maps(45, windows=3, seed=1)
    probe = layer_probes()
    train_probe(probe, train, labels, ids, FAST)
    assert not any(module.training for module in probe.modules())
    logits = probe_logits(probe, test, batch_size=7)
    assert {name: value.shape for name, value in logits.items()} == {"noise": (45, 3, 3), "shown": (45, 3, 3)}
    accuracy = {name: (value.mean(1).argmax(1) == truth).mean() for name, value in logits.items()}
    assert accuracy["shown"] == 1.0
    assert accuracy["noise"] < 0.6


def test_attentive_probe_learns():
    train, labels, ids = maps(60)
    test, truth, _ = maps(45, seed=1)
    torch.manual_seed(0)
    probe = AttentiveProbe(8, 3)
    train_probe(probe, {"shown": train["shown"]}, labels, ids, FAST)
    logits = probe_logits(probe, {"shown": test["shown"]})["shown"]
    assert (logits.mean(1).argmax(1) == truth).mean() == 1.0


def test_logits_are_those_of_each_window():
    test, _, _ = maps(10, windows=3)
    probe = layer_probes().eval()
    logits = probe_logits(probe, test, batch_size=4)["shown"]
    expected = probe({name: torch.from_numpy(value[:, 2]) for name, value in test.items()})["shown"]
    np.testing.assert_allclose(logits[:, 2], expected.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_a_layer_trained_beside_others_is_what_it_would_be_alone():
    train, labels, ids = maps(30)
    both, alone = layer_probes(), layer_probes(names=["shown"])
    alone.probes["shown"].load_state_dict(both.probes["shown"].state_dict())
    train_probe(both, train, labels, ids, FAST)
    train_probe(alone, {"shown": train["shown"]}, labels, ids, FAST)
    for name, value in alone.probes["shown"].state_dict().items():
        assert torch.equal(value, both.probes["shown"].state_dict()[name])


def test_training_depends_on_the_seed_and_not_on_generators_or_the_order_of_clips():
    train, labels, ids = maps(30)
    order = np.random.default_rng(3).permutation(30)
    one, two, three = layer_probes(), layer_probes(), layer_probes()
    train_probe(one, train, labels, ids, FAST)
    torch.manual_seed(99)
    train_probe(two, {n: v[order] for n, v in train.items()}, labels[order], [ids[i] for i in order], FAST)
    train_probe(three, train, labels, ids, FAST, seed=1)
    torch.testing.assert_close(one.state_dict(), two.state_dict())
    assert not torch.equal(one.probes["shown"][1].weight, three.probes["shown"][1].weight)


@pytest.mark.parametrize("count", [2, 3, 17, 33])
def test_no_batch_is_a_single_clip(count):
    train, labels, ids = maps(count)
    train_probe(layer_probes(), train, labels, ids, ProbeSchedule(1, 2))


def test_rate_drops_at_half_and_three_quarters():
    schedule = ProbeSchedule()
    rates = [schedule.rate(number) for number in range(12)]
    assert rates == pytest.approx([1e-4] * 6 + [1e-5] * 3 + [1e-6] * 3)


@pytest.mark.parametrize("modality", ["video", "audio"])
def test_the_backbone_is_frozen_in_every_parameter_and_buffer(modality):
    encoder = create_encoder(f"small_{modality}", width=4).eval()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    clips = torch.randn(8, 3, 2, 32, 32) if modality == "video" else torch.randn(8, 1, 32, 16)
    stages = StagePooling(4, "max", 64).pool_stages(modality, encoder.forward_stages(clips))
    arrays = {name: value.detach().numpy()[:, None] for name, value in stages.items()}
    probe = LayerProbes({name: value[0, 0].size for name, value in arrays.items()}, 2)
    train_probe(probe, arrays, np.arange(8) % 2, list("abcdefgh"), ProbeSchedule(2, 4))
    assert any("running_mean" in name for name in before)
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in encoder.parameters())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, y, i: train_probe(layer_probes(), m, y[:5], i, FAST), r"same N = 5 clips"),
        (lambda m, y, i: train_probe(layer_probes(), m, y, i[:5], FAST), "got 6 and 5 ids"),
        (lambda m, y, i: train_probe(layer_probes(), {"x": m["shown"][:1]}, y[:1], i[:1], FAST), "at least two clips"),
        (
            lambda m, y, i: probe_logits(layer_probes(), {"shown": np.full_like(m["shown"], np.nan)}),
            "the maps of shown hold NaN or infinity, first in clip 0",
        ),
        (lambda m, y, i: ProbeSchedule(batch_size=1), r"batch_size \(1\) must be at least 2"),
        (lambda m, y, i: ProbeSchedule(drops=(-0.5,)), r"drops \(-0.5\) must all be in \[0, 1\]"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(*maps(6))
