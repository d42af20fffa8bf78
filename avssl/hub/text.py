"""The text tower of a model that was trained against a frozen encoder which shares its space with text."""

from __future__ import annotations

from torch import nn

from avssl.core.checkpoint_names import HubError
from avssl.core.errors import InputError
from avssl.models import AVModel, TextEncoder
from avssl.models.foreign.text import text_encoder
from avssl.models.foreign.tower import ForeignEncoder
from avssl.models.foreign.weights import weight_folder

NO_TEXT = (
    "this model has no text tower. Words work with PE-AV (hf-hub:facebook/pe-av-small), with models whose audio was "
    "aligned to a frozen CLIP or SigLIP (configs/bind_clip.yaml), and with models whose video was aligned to a frozen "
    "CLAP (docs/search.md)."
)


def load_text(model: AVModel, source: str) -> TextEncoder:
    """Load the text tower of a model's frozen image or audio tower, from the public weights that this names.

    Args:
        model: The model.
        source: Its origin, for errors.

    Raises:
        HubError: If there is none, or the model no longer compares in the space of its texts.
    """
    sides = ((model.video_encoder, model.video_head), (model.audio_encoder, model.audio_head))
    towers = [(tower, head) for tower, head in sides if isinstance(tower, ForeignEncoder) and tower.has_text]
    if not towers:
        raise HubError(f"{source}: {NO_TEXT}")
    tower = next((tower for tower, head in towers if _is_in_space(tower, head)), None)
    if tower is None:
        word = towers[0][0].modality
        raise HubError(
            f"{source}: its {word} tower has left the space of its texts. It stays there with public weights and "
            f"model.{word}.frozen true, model.{word}.pool token and model.space.of {word}, as in "
            "configs/bind_clip.yaml and docs/search.md."
        )
    try:
        return text_encoder(weight_folder(tower.pretrained))
    except InputError as error:
        raise HubError(f"{source}: the text tower of {tower.pretrained} cannot be loaded: {error}") from error


def _is_in_space(tower: ForeignEncoder, head: nn.Sequential) -> bool:
    """Return True if a tower has its public weights, and its pooled vectors are the embeddings."""
    is_plain = bool(tower.pretrained) and not tower.pools_map and tower.temporal is None and not len(head)
    return is_plain and not any(parameter.requires_grad for parameter in tower.parameters())
