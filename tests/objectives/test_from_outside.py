"""An objective of another package: its file and one line in the table; see FILES."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from avssl.config import ConfigError, config_from_dict
from avssl.config.command import Verb
from avssl.core.batch import Batch, BatchIndex
from avssl.objectives import OBJECTIVES
from avssl.training.build import build_task, check_options

FILES = {
    "somebodys_distance.py": '''"""Mean squared distance, of somebody else's package."""

from collections.abc import Mapping
from typing import Any

from avssl.core.batch import BatchIndex, Embeddings, LossTerms
from avssl.core.errors import InputError
from avssl.objectives import Objective, ObjectiveNeeds


class Distance(Objective):
    """Weighted mean squared distance of a clip's two embeddings.

    Args:
        weight: Factor of the loss, > 0.
        with_maps: Use the mean of the video map.
    """

    def __init__(self, weight: float = 2.0, with_maps: bool = False) -> None:
        super().__init__()
        if not weight > 0:
            raise InputError(f"weight ({weight}) must be > 0.")
        self.weight = weight
        self.needs = self.needs_of({"with_maps": with_maps})

    @classmethod
    def needs_of(cls, options: Mapping[str, Any]) -> ObjectiveNeeds:
        return ObjectiveNeeds(maps=options["with_maps"])

    def forward(self, online: Embeddings, target: Embeddings | None, index: BatchIndex) -> LossTerms:
        video = online.video if online.video_map is None else online.video_map.mean((2, 3, 4))
        return LossTerms(self.weight * (video - online.audio).square().mean())
''',
}
"""All that such an objective costs, beside ``OBJECTIVES["distance"] = "somebodys_distance:Distance"``."""


@pytest.fixture(autouse=True)
def distance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(OBJECTIVES, "distance", "somebodys_distance:Distance")
    yield
    sys.modules.pop("somebodys_distance", None)


def test_its_options_are_settings(capsys):
    with pytest.raises(SystemExit):
        Verb("pretrain", "avssl.recipes.pretrain:pretrain").parse(["--objective.name", "distance", "--help-all"])
    text = " ".join(capsys.readouterr().out.split())
    assert ", distance." in text
    assert "Factor of the loss, > 0. (default: 2.0)" in text
    assert "somebodys_distance" not in sys.modules  # read, not imported


def test_its_value_checks_name_the_setting():
    with pytest.raises(ConfigError, match=r"^objective\.weight \(-1\.0\) must be > 0\."):
        check_options(config_from_dict({"objective": {"name": "distance", "weight": -1.0}}))


def test_it_trains_two_steps():
    generator = torch.Generator().manual_seed(0)
    video = torch.randint(0, 256, (4, 8, 3, 40, 40), dtype=torch.uint8, generator=generator)
    index = BatchIndex(*(torch.arange(4) for _ in range(3)))
    batch = Batch(video, torch.randn(4, 48_000, generator=generator) / 10, index, torch.full((4, 2), 40))
    config = config_from_dict(
        {
            "objective": {"name": "distance", "with_maps": True},
            "transform": {"video": {"size": 32}},
            "model": {"video": {"width": 4}, "audio": {"width": 2}},
        }
    )
    task = build_task(config).train()
    standardize = task.transform.standardize
    standardize.set_statistics(torch.full_like(standardize.mean, -30.0), torch.full_like(standardize.std, 15.0))
    optimizer = torch.optim.SGD(task.model.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        total = task(batch).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        task.after_step()
        losses.append(total.item())
    assert losses[1] < losses[0]
