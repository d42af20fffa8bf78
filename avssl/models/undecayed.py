"""Parameters of a model that weight decay skips although they have two dimensions: positions and learned tokens.

Decay is for matrices and kernels, whose scale a normalization undoes. A position embedding or a class
token is added to its input as it is, and decay would only pull it to 0. ``no_weight_decay`` of timm lists the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from torch import nn

_NAME = re.compile(
    r"(\w+_)?pos(ition(s|al)?)?(_\w+)?"  # position, pos_embed, position_embeddings, relative_position_bias_table
    r"|(cls|class|dist|distillation|mask|reg|register)_tokens?|registers|class_embedding|time_embeddings"
)


def undecayed(model: nn.Module) -> list[nn.Parameter]:
    """Return the position embeddings and learned tokens of a model, its own or of other libraries, by their names.

    Layers are not meant, such as the convolution by which some networks encode positions.
    """
    return list(_undecayed(model))


def _undecayed(model: nn.Module) -> Iterator[nn.Parameter]:
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_table = isinstance(module, nn.Embedding)
            if _NAME.fullmatch(path.rpartition(".")[2] if is_table else name):
                yield parameter
