"""SIGReg against numerical integrals, lightly's form, closed forms and a training without its guard."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightly.loss.lejepa_loss import SIGReg
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import SigReg, sigreg


def _drawn(seed: int, num_clips: int = 12, size: int = 4, num_directions: int = 8) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(num_clips, size, generator=generator) * 1.5 + 0.2
    return embeddings, F.normalize(torch.randn(size, num_directions, generator=generator), dim=0)


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


@pytest.mark.parametrize(("knots", "low", "factor"), [("symmetric", -5.0, 1), ("folded", 0.0, 2)])
def test_sigreg_matches_complex_reference(knots: str, low: float, factor: int) -> None:
    embeddings, directions = (x.double().numpy() for x in _drawn(0))
    t = np.linspace(low, 5.0 if knots == "symmetric" else 3.0, 17)
    statistics = []
    for direction in directions.T:
        ecf = np.exp(1j * np.outer(embeddings @ direction, t)).mean(axis=0)
        distance = np.abs(ecf - np.exp(-(t**2) / 2)) ** 2 * np.exp(-(t**2) / 2)
        statistics.append(12 * factor * np.trapezoid(distance, t))
    assert sigreg(*_drawn(0), knots=knots).item() == pytest.approx(np.mean(statistics), rel=1e-5)


def test_folded_knots_match_lightly() -> None:
    embeddings, _ = _drawn(1, num_clips=32)
    reference = SIGReg(num_vectors=16)
    torch.manual_seed(0)
    directions = reference._generate_unit_vectors(embeddings.device, embeddings.dtype, 4)
    torch.manual_seed(0)
    torch.testing.assert_close(sigreg(embeddings, directions, "folded"), reference(embeddings), rtol=2e-4, atol=0)


def test_sigreg_of_a_point_is_the_integral() -> None:
    """At 0 the characteristic function is 1: N times the integral of (1 - e^(-t²/2))² e^(-t²/2)."""
    expected = 7 * np.sqrt(2 * np.pi) * (1 - 2 / np.sqrt(2) + 1 / np.sqrt(3))
    assert sigreg(torch.zeros(7, 3), _drawn(0, size=3)[1]).item() == pytest.approx(expected, rel=1e-3)


def test_sigreg_tells_a_normal_distribution_from_others() -> None:
    embeddings, directions = _drawn(2, num_clips=512, size=8, num_directions=32)
    unit = (embeddings - embeddings.mean(dim=0)) / embeddings.std(dim=0)
    normal = sigreg(unit, directions)
    assert normal < 1
    for other in (unit * 2, unit + 1, unit[:, :1].expand(-1, 8)):
        assert sigreg(other, directions) > 10 * normal


def test_sigreg_ignores_order_and_signs() -> None:
    embeddings, directions = _drawn(3)
    loss = sigreg(embeddings, directions)
    torch.testing.assert_close(sigreg(embeddings[torch.randperm(12)], directions), loss)
    torch.testing.assert_close(sigreg(embeddings, -directions), loss)
    torch.testing.assert_close(sigreg(-embeddings, directions), loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(sigreg(embeddings, directions), loss)


def test_objective_weighs_agreement_and_distribution() -> None:
    (v1, _), (a1, _), (v2, _), (a2, _) = (_drawn(seed) for seed in range(4, 8))
    objective = SigReg(regularization=0.2, num_directions=16, within_modal=0.5)
    directions = objective.directions(4)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(16))

    def pair(x: Tensor, y: Tensor) -> Tensor:
        mean = (x + y) / 2
        prediction = torch.stack([(x - mean).square(), (y - mean).square()]).mean()
        return 0.8 * prediction + 0.2 * (sigreg(x, directions) + sigreg(y, directions)) / 2

    result = objective(Embeddings(torch.cat([v1, v2]), torch.cat([a1, a2])), None, _index(12))
    cross, within = (pair(v1, a1) + pair(v2, a2)) / 2, (pair(v1, v2) + pair(a1, a2)) / 2
    torch.testing.assert_close(result.total, cross + 0.5 * within)
    torch.testing.assert_close(result.terms["loss_within"], within)


def test_directions_change_with_the_step_and_survive_a_round_trip() -> None:
    objective, other = SigReg(num_directions=16), SigReg(num_directions=16)
    first = objective.directions(4)
    assert torch.equal(first, other.directions(4))
    online = Embeddings(*(x for x, _ in (_drawn(8), _drawn(9))))
    objective.update(online, None, _index(12))
    assert not torch.isclose(objective.directions(4), first).any()
    other.load_state_dict(objective.state_dict())
    assert torch.equal(objective.directions(4), other.directions(4))
    assert torch.equal(objective(online, None, _index(12)).total, other(online, None, _index(12)).total)


def test_the_distribution_keeps_embeddings_apart(small_training: Any) -> None:
    guarded = small_training.train_uneven(SigReg(num_directions=64))
    assert not guarded.findings
    assert guarded.numbers["retrieval/R@10"] > 0.5
    collapsed = small_training.train_uneven(SigReg(regularization=0.0, num_directions=64))
    assert any("collapsed to" in finding for finding in collapsed.findings)


def test_sigreg_refuses_mismatched_input() -> None:
    embeddings, directions = _drawn(10)
    with pytest.raises(ValueError, match=r"must have the same D, got \(12, 4\) and \(3, 8\)"):
        sigreg(embeddings, directions[:3])
    with pytest.raises(ValueError, match=r'knots .* must be "symmetric" or "folded"'):
        sigreg(embeddings, directions, "both")
    with pytest.raises(ValueError, match=r"audio \(5, 4\)"):
        SigReg()._pair(embeddings, embeddings[:5], directions)
    with pytest.raises(ValueError, match="SigReg takes one view of each clip, got 12 embeddings of 3 clips"):
        SigReg()(Embeddings(embeddings, embeddings), None, _index(3))
    with pytest.raises(ValueError, match=r"regularization \(1.0\) must be in \[0, 1\)"):
        SigReg(regularization=1.0)
