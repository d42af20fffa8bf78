"""Weight decay skips positions and learned tokens, and nothing else that has two dimensions."""

import pytest
import torch
from torch import nn

from avssl.config import config_from_dict
from avssl.models import create_encoder
from avssl.models.undecayed import undecayed
from avssl.models.vit import PatchEmbedding
from avssl.training.build import build_model, build_optimizer, build_task

DIRECT = ("pos_embedding", "spatial_pos", "rel_pos_h", "relative_position_bias_table", "mask_token", "cls_token")
TOWER = {"width": 16, "num_blocks": 1, "num_heads": 2}


class Other(nn.Module):
    """A network with the names of other libraries."""

    def __init__(self):
        super().__init__()
        for name in (*DIRECT, "query"):
            setattr(self, name, nn.Parameter(torch.ones(1, 4, 8)))
        self.position_embedding = nn.Embedding(4, 8)
        self.pos_conv_embed = nn.Conv1d(8, 8, 3)
        self.pos_proj = nn.Linear(8, 8)
        self.words = nn.Embedding(4, 8)


def names(model):
    found = {id(parameter) for parameter in undecayed(model)}
    return {name for name, parameter in model.named_parameters() if id(parameter) in found}


def test_names_of_other_libraries():
    assert names(Other()) == {*DIRECT, "position_embedding.weight"}


def test_own_transformers():
    tokens = PatchEmbedding(3, 16, 4, (2, 2), class_token=True, num_registers=2)
    assert names(tokens) == {"position", "class_token", "registers"}
    assert {name.rpartition(".")[2] for name in names(create_encoder("vit_frames", **TOWER))} >= {"position"}


@pytest.mark.parametrize("name", ["small_video", "avid_r2plus1d_10", "r2plus1d_18", "resnet18_image"])
def test_convolutions_have_none(name):
    """So that the groups of the optimizer, and every loss of such a run, stay as they were."""
    model = build_model(config_from_dict({"model": {"video": {"name": name}}}))
    assert not names(model)


@pytest.mark.parametrize("decays", [False, True])
def test_the_optimizer_of_a_run_leaves_them_out(decays):
    optim = {"weight_decay": 0.1, "decay_tokens": decays}
    config = config_from_dict({"model": {"video": {"name": "vit_frames", **TOWER}}, "optim": optim})
    task = build_task(config)
    decay = {
        id(p): group["weight_decay"] for group in build_optimizer(config, task).param_groups for p in group["params"]
    }
    wrong = {
        name
        for name, parameter in task.model.named_parameters()
        if decay[id(parameter)] != (0.1 if parameter.ndim > 1 and (decays or name not in names(task.model)) else 0.0)
    }
    assert not wrong
