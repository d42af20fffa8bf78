"""DINO against lightly's loss, plain formulas, closed forms, its centers by hand and a training without them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from lightly.loss.dino_loss import DINOLoss
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.objectives import DINO, dino_loss


def _embeddings(seed: int, num_clips: int = 6, prototypes: int = 5) -> Embeddings:
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(2, num_clips, 4, generator=generator)
    video, audio = torch.rand(2, num_clips, 1, prototypes, generator=generator) * 2 - 1
    return Embeddings(*embeddings, video_scores=video, audio_scores=audio)


def _index(num_clips: int) -> BatchIndex:
    return BatchIndex(*(torch.arange(num_clips) for _ in range(3)))


def test_dino_loss_matches_lightly() -> None:
    student, teacher = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    other_student, other_teacher = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(1))
    reference = DINOLoss(output_dim=5, teacher_temp=0.07, student_temp=0.2)
    reference.center.copy_(torch.linspace(-1, 1, 5))
    expected = reference([teacher, other_teacher], [student, other_student])  # view 1 with view 2, and the reverse
    center = torch.linspace(-1, 1, 5)
    found = (
        dino_loss(other_student, teacher, center, 0.2, 0.07) + dino_loss(student, other_teacher, center, 0.2, 0.07)
    ) / 2
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=0)


def test_dino_loss_matches_loop_reference() -> None:
    student, teacher = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2)).double().tolist()
    center, expected = [0.1, -0.2, 0.3, 0.0], 0.0
    for s, t in zip(student, teacher, strict=True):
        shares = [math.exp((x - c) / 0.5) for x, c in zip(t, center, strict=True)]
        log_sum = math.log(sum(math.exp(x / 0.8) for x in s))
        expected -= sum(p / sum(shares) * (x / 0.8 - log_sum) for p, x in zip(shares, s, strict=True)) / 3
    found = dino_loss(torch.tensor(student), torch.tensor(teacher), torch.tensor(center), 0.8, 0.5)
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_dino_loss_has_closed_forms_and_ignores_offsets() -> None:
    student, teacher = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(3))
    uniform = dino_loss(torch.zeros(6, 5), teacher, torch.zeros(5), 0.1, 0.04)
    assert uniform.item() == pytest.approx(math.log(5), rel=1e-6)
    loss = dino_loss(student, teacher, torch.zeros(5), 0.1, 0.04)
    torch.testing.assert_close(dino_loss(student + 3, teacher - 2, torch.ones(5), 0.1, 0.04), loss, rtol=1e-4, atol=0)
    entropy = dino_loss(teacher, teacher, torch.zeros(5), 0.3, 0.3)
    shares = (teacher / 0.3).softmax(dim=1)
    torch.testing.assert_close(entropy, -(shares * shares.log()).sum(dim=1).mean())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(dino_loss(student, teacher, torch.zeros(5), 0.1, 0.04), loss)


def test_every_student_view_meets_every_teacher_view_of_the_other_modality() -> None:
    online, target, local = _embeddings(4, 12), _embeddings(5, 12), _embeddings(6, 18)
    objective = DINO(5, within_modal=0.5, local_views=3)
    objective.update(online, target, _index(6))
    students = {
        name: [*getattr(online, f"{name}_scores")[:, 0].split(6), *getattr(local, f"{name}_scores")[:, 0].split(6)]
        for name in ("video", "audio")
    }
    teachers = {name: getattr(target, f"{name}_scores")[:, 0].split(6) for name in ("video", "audio")}
    center = {"video": objective.video_center, "audio": objective.audio_center}

    def mean(student: str, teacher: str, same: bool) -> Tensor:
        losses = [
            dino_loss(s, t, center[teacher], 0.1, 0.04)
            for i, s in enumerate(students[student])
            for j, t in enumerate(teachers[teacher])
            if same or i != j
        ]
        return torch.stack(losses).mean()

    cross = (mean("video", "audio", True) + mean("audio", "video", True)) / 2
    within = (mean("video", "video", False) + mean("audio", "audio", False)) / 2
    result = objective(replace(online, local=local), target, _index(6))
    torch.testing.assert_close(result.total, cross + 0.5 * within)
    torch.testing.assert_close(result.terms["loss_within"], within)
    torch.testing.assert_close(result.terms["divergence"] + result.terms["entropy"], cross)
    with pytest.raises(ValueError, match=r"DINO\(local_views=3\) needs as many local views .* got 0"):
        objective(online, target, _index(6))


def test_centers_are_averages_of_the_teacher_and_survive_a_round_trip() -> None:
    objective, other = DINO(5, center_momentum=0.8), DINO(5)
    first, second = _embeddings(7), _embeddings(8)
    for target in (first, second):
        objective.update(target, target, _index(6))
    for name, center in (("video", objective.video_center), ("audio", objective.audio_center)):
        means = [getattr(x, f"{name}_scores")[:, 0].mean(dim=0) for x in (first, second)]
        torch.testing.assert_close(center, 0.8 * 0.2 * means[0] + 0.2 * means[1])
    other.load_state_dict(objective.state_dict())
    arguments = _embeddings(9), _embeddings(10), _index(6)
    assert torch.equal(objective(*arguments).total, other(*arguments).total)


def test_teacher_gets_no_gradient() -> None:
    online, target = _embeddings(11), _embeddings(12)
    for x in (online.video_scores, target.video_scores, target.audio_scores):
        x.requires_grad_()
    DINO(5)(online, target, _index(6)).total.backward()
    assert online.video_scores.grad.abs().sum() > 0
    assert target.video_scores.grad is None
    assert target.audio_scores.grad is None


class _WithoutCenters(DINO):
    def update(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> None:
        """Leave the centers at 0."""


def test_centers_keep_embeddings_apart(small_training: Any) -> None:
    options: dict[str, Any] = {"prototypes": 64, "momentum": 0.9}
    guarded = small_training.train_uneven(DINO(**options), size=128)
    assert not guarded.findings
    assert guarded.numbers["retrieval/R@10"] > 0.5
    collapsed = small_training.train_uneven(_WithoutCenters(**options), size=128)
    assert any("collapsed to" in finding for finding in collapsed.findings)


def test_dino_refuses_mismatched_input() -> None:
    online, target = _embeddings(13), _embeddings(14)
    scores = online.video_scores[:, 0]
    with pytest.raises(ValueError, match=r"same B > 0 and K, got \(6, 5\), \(5, 5\) and \(5,\)"):
        dino_loss(scores, scores[:5], torch.zeros(5), 0.1, 0.04)
    with pytest.raises(ValueError, match=r"teacher_temperature \(0.0\) must be above 0"):
        dino_loss(scores, scores, torch.zeros(5), 0.1, 0.0)
    with pytest.raises(ValueError, match="DINO needs the embeddings of a momentum model"):
        DINO(5)(online, None, _index(6))
    with pytest.raises(ValueError, match=r"DINO needs Embeddings.video_scores \(V\*B, 1, 8\), got \(6, 1, 5\)"):
        DINO(8)(online, target, _index(6))
    with pytest.raises(ValueError, match="DINO takes one view of each clip, got 6 embeddings of 3 clips"):
        DINO(5)(online, target, _index(3))
    with pytest.raises(ValueError, match=r"prototypes \(1\) must be at least 2"):
        DINO(1)
