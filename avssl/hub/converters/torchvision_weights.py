"""Initialize a video encoder with weights of torchvision, such as ResNet-18 trained on ImageNet."""

from __future__ import annotations

from pathlib import Path

import torch

from avssl.hub.converters.foreign import ConvertError, load_renamed, load_tensors
from avssl.models import Encoder


def load_torchvision(encoder: Encoder, path: Path | str) -> None:
    """Load an encoder in place from the state dict of torchvision's network of the same name.

    The classifier (``fc.``) is left out; every other tensor is used exactly once. Code in the file is never run.

    Args:
        encoder: ``resnet18_image``, ``r2plus1d_18``, ``r3d_18`` or ``mc3_18``, with any stride.
        path: A file of ``torch.save(network.state_dict(), path)``, such as torchvision's downloads.

    Raises:
        ConvertError: If the file is not such a state dict, or a tensor is missing, unknown or of another shape; names
            the first.
    """
    tensors = {name: x for name, x in load_tensors(Path(path)).items() if not str(name).startswith("fc.")}
    theirs = {}
    for ours in encoder.state_dict():
        # torchvision's image networks have no module for the stem.
        theirs[ours] = ours if ours in tensors else ours.removeprefix("stem.")
        if ours.endswith("num_batches_tracked"):  # missing in files of old versions of torch
            tensors.setdefault(theirs[ours], torch.tensor(0))
    try:
        load_renamed(encoder, tensors, theirs, f"{path}: the video encoder")
    except ConvertError as error:
        raise ConvertError(
            f"{error} It must be a state dict of torchvision's network of that name (resnet18 for resnet18_image)."
        ) from error
