from __future__ import annotations

from inspect import signature
from pkgutil import resolve_name
from typing import Any

import pytest
import torch
from torch import nn

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.needs import ObjectiveNeeds
from avssl.objectives import OBJECTIVES, InfoNCE, MemoryRows, Objective, create_objective, objective_needs


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


@pytest.mark.parametrize(
    ("name", "options"),
    [
        *((name, {}) for name in OBJECTIVES),
        ("info_nce", {"pooling": "both", "within_modal": 0.5, "learn_temperature": True, "negative_sounds": 2}),
        ("margin_nce", {"pooling": "max", "negative_sounds": 2}),
        ("siglip", {"initial_scale": 3.0, "initial_bias": -1.0}),
        ("moco", {"momentum": 0.7}),
        ("slavc", {"momentum": 0.7}),
        ("ssl_tie", {"max_degrees": 10.0, "scale": (0.7, 0.9)}),
        ("dense_av", {"num_heads": 3, "learn_temperature": False, "negative_sounds": 2, "silence_dbfs": -60.0}),
    ],
)
def test_instance_needs_what_its_class_says_for_its_options(name: str, options: dict[str, Any]) -> None:
    sizes = {"rows": MemoryRows(torch.arange(200), torch.arange(200)), "embedding_size": 6}
    takes = signature(resolve_name(OBJECTIVES[name])).parameters
    created = create_objective(name, **{key: value for key, value in sizes.items() if key in takes}, **options)
    assert created.needs == objective_needs(name, options)
    assert not options or created.needs != objective_needs(name, {})


def test_forward_must_be_written() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Objective()


def test_create_objective_passes_options() -> None:
    objective = create_objective("info_nce", temperature=0.5, pooling="max")
    assert isinstance(objective, InfoNCE)
    assert (objective.temperature, objective.pooling) == (0.5, "max")


def test_create_objective_lists_the_names() -> None:
    assert "info_nce" in sorted(OBJECTIVES)
    with pytest.raises(
        ValueError, match=r"'infonce' is not a known objective\. Did you mean 'info_nce'\? Known: avid, .*ssl_tie"
    ):
        create_objective("infonce")


def test_create_objective_names_a_wrong_option_and_what_is_missing() -> None:
    with pytest.raises(
        ValueError,
        match=r"'temprature' is not a known option of objective info_nce\. "
        r"Did you mean 'temperature'\? Known: temp.*pooling",
    ):
        create_objective("info_nce", temprature=0.1)
    with pytest.raises(
        ValueError,
        match=r"objective avid also needs rows and embedding_size: create it with rows=\.\.\., embedding_size=\.\.\.\. "
        r"rows: Rows of the memory.*MemoryRows\.from_ids\(ids\).* embedding_size: Embedding size",
    ):
        create_objective("avid")
    rows = MemoryRows.from_ids(list("abc"))
    with pytest.raises(ValueError, match=r"objective cma also needs embedding_size"):
        create_objective("cma", rows=rows, variant="joint")  # an option of its base class
    with pytest.raises(ValueError, match=r"'variantt' is not a known option of objective cma.*'variant'"):
        create_objective("cma", rows=rows, embedding_size=4, variantt="joint")
