"""PE-AV as transformers saves it: its two towers with their projections, as a pretrained model.

Source: Vyas et al., 2025, https://arxiv.org/abs/2512.19687. PE-AV compares embeddings by inner products with a learned
scale; here they are compared by cosines, as those of all models are, so its scale and offset are not used.
"""

from __future__ import annotations

from typing import Any

from avssl.config import Config, config_from_dict
from avssl.models import AVModel
from avssl.models.foreign.pe import NUM_FRAMES, WINDOW_SECONDS
from avssl.models.foreign.processors import video_preprocessing
from avssl.models.foreign.text import pe_head
from avssl.models.foreign.weights import WeightFolder, read_tensors
from avssl.training.build import load_public_weights


def pe_av_config(folder: WeightFolder) -> Config:
    """Return the settings of the model in a folder, which name it as the origin of the weights."""
    text = folder.read("config.json").get("text_config") or {}
    towers = {each: {"name": f"pe_{each}", "pretrained": folder.name, "pool": "token"} for each in ("video", "audio")}
    head = {"name": "norm_linear", "out_features": text.get("hidden_size", 1024)}
    num_frames = video_preprocessing(folder).get("num_frames", NUM_FRAMES)
    tree: dict[str, Any] = {
        "sampling": {"frames_per_second": num_frames / WINDOW_SECONDS},
        "model": {**towers, "head": head},
        "objective": {"name": "siglip"},
    }
    return config_from_dict(tree, f"{folder.path / 'config.json'}: ", Config)


def load_pe_av(model: AVModel, folder: WeightFolder) -> None:
    """Load the weights of towers and projections in place.

    Raises:
        WeightsError: If they are missing, or of another network.
    """
    load_public_weights(model.video_encoder, model.audio_encoder)
    heads = {"video_model.video_head.": model.video_head, "audio_model.audio_head.": model.audio_head}
    tensors = read_tensors(folder, tuple(heads))
    for prefix, head in heads.items():
        head.load_state_dict(pe_head(tensors, prefix, folder).state_dict())
