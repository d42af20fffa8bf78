"""Runs with hidden patches, from a folder of videos to a resumed run, a release and a heat map."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from avssl.cli import main
from avssl.core.errors import InputError
from avssl.hub.pretrained import from_pretrained, random_init
from avssl.recipes.pretrain import pretrain

TOWER = {"width": 12, "num_blocks": 1, "num_heads": 2, "patch": 8}
MODEL = {
    "video": {"name": "vit_frames", "grid": 4, **TOWER},
    "audio": {"name": "vit_spectrogram", "num_rows": 2, "num_columns": 6, **TOWER},
}
DECODER = {"decoder_width": 12, "decoder_blocks": 1, "decoder_heads": 2}
PREDICTOR = {"predictor_width": 12, "predictor_blocks": 1, "predictor_heads": 2}
SHORT = {"sampling": {"audio_seconds": 0.96}, "monitor": {"every_steps": 0}}  # 48 columns
OBJECTIVES = {
    "cav_mae": {"mask_ratios": [0.75, 0.25], **DECODER},
    "mjepa": {"own_weight": 0.5, "momentum": 0.9, **PREDICTOR},
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_run_resumes_bit_for_bit_and_its_release_keeps_the_decoder(
    videos: Path, tiny_config: Any, tmp_path: Path, assert_resumes_bit_for_bit: Callable[..., Any], name: str
) -> None:
    config = tiny_config(videos, objective={"name": name, **OBJECTIVES[name]}, model=MODEL, **SHORT)
    state = assert_resumes_bit_for_bit(config)
    loaded = from_pretrained(tmp_path / "whole")
    decoder = {name: x for name, x in loaded.model.state_dict().items() if "patch_prediction" in name}
    assert len(decoder) > 10
    for entry, value in decoder.items():
        torch.testing.assert_close(value, state[f"model.{entry}"].to(value.dtype))
    assert random_init(loaded).model.patch_prediction is not None
    readout = tmp_path / "map.json"
    words = ["localize", str(videos / "clip00.mp4"), "--checkpoint", str(tmp_path / "whole"), "--device", "cpu"]
    assert main([*words, "-o", str(tmp_path / "map.mp4"), "--readout", str(readout)]) == 0
    assert len(json.loads(readout.read_text())["maps"]) > 0


def test_an_encoder_that_cannot_skip_patches_is_refused_before_any_file_is_read(
    tiny_config: Any, tmp_path: Path
) -> None:
    config = tiny_config(tmp_path / "nothing", objective={"name": "cav_mae"})
    with pytest.raises(InputError, match=r"video encoder \w+ cannot skip patches.* model\.video\.name vit"):
        pretrain(config, out=tmp_path / "run", progress=False)
