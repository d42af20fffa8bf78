"""Prototypes and predictors: cosines of unit vectors, one set or several, for both modalities."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from avssl.core.batch import Embeddings
from avssl.core.needs import ObjectiveNeeds
from avssl.models import AVModel, ObjectiveHeads, create_encoder, create_head, objective_heads


def test_scores_are_cosines_with_every_prototype_of_every_set():
    torch.manual_seed(0)
    heads = ObjectiveHeads(5, prototypes=7, prototype_sets=3)
    video, audio = 3 * torch.randn(4, 5), torch.randn(4, 5)
    outputs = heads(video, audio)
    assert set(outputs) == {"video_scores", "audio_scores", "video_prototypes", "audio_prototypes"}
    for side, rows, matrix in zip(("video", "audio"), (video, audio), heads.prototypes, strict=True):
        scores, unit = outputs[f"{side}_scores"], outputs[f"{side}_prototypes"]
        assert scores.shape == (4, 3, 7)
        torch.testing.assert_close(unit, F.normalize(matrix.weight, dim=-1).detach())
        assert not unit.requires_grad
        expected = F.cosine_similarity(rows[:, None, None], matrix.weight[None], dim=-1)
        torch.testing.assert_close(scores, expected)
    with torch.no_grad():
        heads.prototypes[0].weight.mul_(10)  # length does not count
    torch.testing.assert_close(heads(video, audio)["video_scores"], outputs["video_scores"])


def test_prototypes_are_shared_only_on_request():
    rows = torch.randn(4, 5)
    shared = ObjectiveHeads(5, prototypes=7, shared_prototypes=True)
    assert len(list(shared.parameters())) == 1
    outputs = shared(rows, rows)
    assert torch.equal(outputs["video_scores"], outputs["audio_scores"])
    apart = ObjectiveHeads(5, prototypes=7)
    assert len(list(apart.parameters())) == 2
    outputs = apart(rows, rows)
    assert not torch.equal(outputs["video_scores"], outputs["audio_scores"])


def test_model_predicts_and_scores_its_embeddings():
    needs = ObjectiveNeeds(prototypes=6, predictor_hidden=12)
    torch.manual_seed(0)
    encoders = [create_encoder(f"small_{side}", modality=side, width=8) for side in ("video", "audio")]
    heads = [create_head("mlp", encoder.num_features, out_features=16) for encoder in encoders]
    model = AVModel(*encoders, *heads, objective_heads=objective_heads(needs, 16)).eval()
    with torch.no_grad():
        out = model(torch.randn(3, 3, 2, 32, 32), torch.randn(3, 1, 32, 32))
        torch.testing.assert_close(out.video_prediction, model.objective_heads.predictors.video(out.video))
        torch.testing.assert_close(out.audio_prediction, model.objective_heads.predictors.audio(out.audio))
    assert out.video_scores.shape == out.audio_scores.shape == (3, 1, 6)
    assert all(value.grad_fn is None for value in vars(out.detach()).values() if value is not None)


def test_nothing_is_built_unless_an_objective_needs_it():
    assert objective_heads(ObjectiveNeeds(), 16) is None
    with pytest.raises(ValueError, match="leave them out of the model"):
        ObjectiveHeads(16)
    with pytest.raises(ValueError, match="1 sets of 1; at least 1 set of 2 prototypes"):
        ObjectiveHeads(16, prototypes=1)


def test_outputs_of_one_modality_only_are_refused():
    rows = torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"video_prediction and audio_prediction must both be \(2, 4\)"):
        Embeddings(rows, rows, video_prediction=rows)
    with pytest.raises(ValueError, match=r"video_scores and audio_scores must both be \(V\*B, H, P\) of 2 views"):
        Embeddings(rows, rows, video_scores=torch.zeros(2, 1, 3), audio_scores=torch.zeros(3, 1, 3))
    with pytest.raises(
        ValueError, match=r"audio_prototypes must be \(H, P, D\) beside audio_scores .* got \(1, 3, 5\)"
    ):
        Embeddings(
            rows,
            rows,
            video_scores=torch.zeros(2, 1, 3),
            audio_scores=torch.zeros(2, 1, 3),
            audio_prototypes=torch.zeros(1, 3, 5),
        )
