from __future__ import annotations

import pytest
import torch
from torch import nn

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.needs import ObjectiveNeeds
from avssl.objectives import OBJECTIVES, InfoNCE, Objective, create_objective


class _Distance(Objective):
    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        return LossTerms((online.video - online.audio).square().mean())


def test_defaults_ask_for_nothing() -> None:
    objective = _Distance()
    assert objective.needs == _Distance.needs_of({}) == ObjectiveNeeds()


def test_update_and_pass_start_change_nothing_by_default() -> None:
    objective = _Distance()
    objective.register_buffer("bank", torch.arange(3.0))
    online = Embeddings(torch.ones(2, 4), torch.zeros(2, 4))
    index = BatchIndex(*(torch.arange(2) for _ in range(3)))
    objective.update(online, None, index)
    objective.on_epoch_start(1)
    assert torch.equal(objective.state_dict()["bank"], torch.arange(3.0))


def test_parameters_are_refused() -> None:
    objective = _Distance()
    with pytest.raises(TypeError, match=r"_Distance\.scale: an objective holds no parameters\. Learn it in the model"):
        objective.scale = nn.Parameter(torch.ones(()))
    assert list(objective.parameters()) == []


def test_forward_must_be_written() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Objective()


def test_create_objective_passes_options() -> None:
    objective = create_objective("info_nce", temperature=0.5, pooling="max")
    assert isinstance(objective, InfoNCE)
    assert (objective.temperature, objective.pooling) == (0.5, "max")


def test_create_objective_lists_the_names() -> None:
    assert "info_nce" in sorted(OBJECTIVES)
    with pytest.raises(ValueError, match=r"objective 'infonce' does not exist; choose one of .*info_nce"):
        create_objective("infonce")


def test_create_objective_names_a_wrong_option() -> None:
    with pytest.raises(TypeError, match="temprature"):
        create_objective("info_nce", temprature=0.1)
