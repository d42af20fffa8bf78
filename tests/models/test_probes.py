import pytest
import torch
import torch.nn.functional as F

from avssl.models.probes import AttentiveProbe, LayerProbes


def test_layer_probes_are_batchnorm_and_a_linear_layer_each():
    torch.manual_seed(0)
    probes = LayerProbes({"a": 12, "b": 4}, 3)
    maps = {"a": torch.randn(8, 3, 1, 2, 2), "b": torch.randn(8, 4, 1)}
    logits = probes(maps)
    assert list(logits) == ["a", "b"]
    flat = maps["a"].flatten(1)
    normal = (flat - flat.mean(0)) / (flat.var(0, unbiased=False) + 1e-5).sqrt()
    linear = probes.probes["a"][1]
    torch.testing.assert_close(logits["a"], F.linear(normal, linear.weight, linear.bias))
    with pytest.raises(ValueError, match="names no stage"):
        LayerProbes({}, 3)


def test_attentive_probe_matches_softmax_attention_by_hand():
    torch.manual_seed(0)
    probe = AttentiveProbe(6, 3, num_heads=1).eval()
    features = torch.randn(2, 6, 1, 2, 2)
    (logits,) = probe({"last": features}).values()
    cells = F.layer_norm(features.flatten(2).transpose(1, 2), (6,))
    wq, wk, wv = probe.attention.in_proj_weight.chunk(3)
    query = probe.query[0] @ wq.T  # the biases start at 0
    weights = (query @ (cells @ wk.T).transpose(1, 2) / 6**0.5).softmax(-1)
    found = probe.attention.out_proj(weights @ (cells @ wv.T))
    expected = probe.linear(F.layer_norm(probe.query + found, (6,)))[:, 0]
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


def test_attentive_probe_ignores_the_order_of_cells_and_takes_any_map():
    probe = AttentiveProbe(8, 3).eval()
    features = torch.randn(2, 8, 5, 3)
    shuffled = features.flatten(2)[:, :, torch.randperm(15)]
    torch.testing.assert_close(probe({"x": features})["x"], probe({"x": shuffled})["x"])
    with pytest.raises(ValueError, match=r"num_features \(6\) must be a multiple of num_heads \(4\)"):
        AttentiveProbe(6, 3, num_heads=4)
