"""Weights of torchvision's networks, such as ImageNet's for ResNet-18, as the beginning of a video encoder."""

from __future__ import annotations

from pathlib import Path

import torch

from avssl.hub.converters.foreign import ConvertError, load_renamed, load_tensors
from avssl.models import Encoder


def load_torchvision(encoder: Encoder, path: Path | str) -> None:
    """Fills an encoder from a state dict of torchvision's network of the same name, in place.

    The classifier (``fc.``) is left out; every other tensor is used exactly once. No code that the file may
    hold is run.

    Args:
        encoder: ``resnet18_image``, ``r2plus1d_18``, ``r3d_18`` or ``mc3_18``, with any stride.
        path: What ``torch.save(network.state_dict(), path)`` wrote, as torchvision's downloads are.

    Raises:
        ConvertError: If the file is none, or a tensor of the encoder is missing in it, unknown, or of another
            shape; names the first.
    """
    tensors = {name: x for name, x in load_tensors(Path(path)).items() if not str(name).startswith("fc.")}
    theirs = {}
    for ours in encoder.state_dict():
        # torchvision's image networks have no module for the stem.
        theirs[ours] = ours if ours in tensors else ours.removeprefix("stem.")
        if ours.endswith("num_batches_tracked"):  # which files of old versions of torch lack
            tensors.setdefault(theirs[ours], torch.tensor(0))
    try:
        load_renamed(encoder, tensors, theirs, f"{path}: the video encoder")
    except ConvertError as error:
        raise ConvertError(
            f"{error} It must be the state dict of torchvision's network of that name, for resnet18_image of resnet18."
        ) from error
