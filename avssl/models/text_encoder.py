"""Text towers: texts as vectors in the space of a model's embeddings.

Dimensions: N texts, C features of the text tower, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError

Tokenize = Callable[[Sequence[str]], Mapping[str, Tensor]]
"""Texts to the named inputs of a text tower, N rows each."""


class TextEncoder(nn.Module):
    """Maps texts to unit vectors, to compare with the embeddings of audio or of video.

    Args:
        tokenize: The tower's own tokenizer.
        tower: Named inputs to (N, C) features of the texts.
        projections: (N, C) to (N, D), by the stream whose embeddings the result is compared with.

    Example:
        >>> lengths = lambda texts: {"input": torch.tensor([[float(len(text))] for text in texts])}  # no real tokenizer
        >>> encoder = TextEncoder(lengths, torch.nn.Linear(1, 16), {"audio": torch.nn.Linear(16, 8)})
        >>> encoder(["a dog barks", "rain"])["audio"].shape
        torch.Size([2, 8])
    """

    def __init__(self, tokenize: Tokenize, tower: nn.Module, projections: Mapping[Modality, nn.Module]) -> None:
        super().__init__()
        self.tokenize, self.tower = tokenize, tower
        self.streams: tuple[Modality, ...] = tuple(projections)
        self.projections = nn.ModuleDict(dict(projections.items()))

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> dict[Modality, Tensor]:
        """Embed texts.

        Args:
            texts: N texts, such as ``["a dog barks"]``.

        Returns:
            (N, D) float32 unit vectors for each stream.

        Raises:
            InputError: If there is no text, or one is empty or too long.
        """
        check_texts(texts)
        device = next(self.tower.parameters()).device
        features = self.tower(**{name: x.to(device) for name, x in self.tokenize(texts).items()})
        return {name: F.normalize(self.projections[name](features).float(), dim=1) for name in self.streams}


def check_texts(texts: Sequence[str]) -> None:
    """Raise InputError unless this is a list of texts that are not empty."""
    if isinstance(texts, str):
        raise InputError(f"texts must be a list of texts: [{texts!r}].")
    if not texts:
        raise InputError('there is no text: give at least one, such as ["a dog barks"].')
    for text in texts:
        if not text.strip():
            raise InputError('the text is empty: describe what is visible or audible, such as "a dog barks".')
