"""The text tower of a model that was trained against a frozen encoder which shares its space with text."""

from __future__ import annotations

from avssl.core.checkpoint_names import HubError
from avssl.core.errors import InputError
from avssl.models import AVModel, TextEncoder
from avssl.models.foreign.image_text import ImageTextEncoder
from avssl.models.foreign.text import text_encoder
from avssl.models.foreign.weights import weight_folder

NO_TEXT = (
    "this model has no text tower. Words work with PE-AV (hf-hub:facebook/pe-av-small), and with models whose audio "
    "was aligned to a frozen CLIP or SigLIP (configs/bind_clip.yaml)."
)


def load_text(model: AVModel, source: str) -> TextEncoder:
    """Load the text tower of a model's frozen image tower, from the public weights that this names.

    Args:
        model: The model.
        source: Its origin, for errors.

    Raises:
        HubError: If there is none, or the model no longer compares in the space of its texts.
    """
    tower = model.video_encoder
    if not isinstance(tower, ImageTextEncoder):
        raise HubError(f"{source}: {NO_TEXT}")
    is_own = tower.pretrained and not tower.pools_map and tower.temporal is None and not len(model.video_head)
    if not is_own or any(parameter.requires_grad for parameter in tower.parameters()):
        raise HubError(
            f"{source}: its image tower has left the space of its texts. It stays there with public weights and "
            "model.video.frozen true, model.video.pool token and model.space.of video, as in configs/bind_clip.yaml."
        )
    try:
        return text_encoder(weight_folder(tower.pretrained))
    except InputError as error:
        raise HubError(f"{source}: the text tower of {tower.pretrained} cannot be loaded: {error}") from error
