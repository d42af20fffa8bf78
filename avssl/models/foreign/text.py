"""Text towers of transformers, with their own tokenizers: CLIP, SigLIP, CLAP and PE-AV.

Sources: Radford et al., 2021 (CLIP), https://arxiv.org/abs/2103.00020; Zhai et al., 2023 (SigLIP),
https://arxiv.org/abs/2303.15343; Wu et al., 2023 (CLAP), https://arxiv.org/abs/2211.06687; Vyas et al., 2025 (PE-AV),
https://arxiv.org/abs/2512.19687.

Dimensions: N texts, L tokens, C features of the text tower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.models.foreign.libraries import library
from avssl.models.foreign.pe import PE_AV
from avssl.models.foreign.weights import WeightFolder, WeightsError, read_tensors, tell_unused
from avssl.models.text_encoder import TextEncoder

_NO_LIMIT = 1_000_000  # tokenizers without a limit name a larger number


class HfTokenizer:
    """The tokenizer in a folder of weights.

    Args:
        folder: The folder.
        max_tokens: Most tokens that the tower takes.
        fills: Fill every text up to ``max_tokens``, as SigLIP is trained; False for the longest of the texts.

    Raises:
        WeightsError: If the folder has no tokenizer.
    """

    def __init__(self, folder: WeightFolder, max_tokens: int, *, fills: bool = False) -> None:
        try:
            load = library("transformers").AutoTokenizer.from_pretrained
            self._tokenizer: Any = load(folder.path, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # the library raises many kinds for a missing file
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"{folder.name}: its tokenizer cannot be loaded: {reason}") from error
        limit = self._tokenizer.model_max_length
        self.max_tokens = min(max_tokens, limit if limit < _NO_LIMIT else max_tokens)
        self._fills = fills

    def __call__(self, texts: Sequence[str]) -> Mapping[str, Tensor]:
        """Return the (N, L) inputs of the tower by name.

        Raises:
            InputError: If a text has too many tokens.
        """
        for text, tokens in zip(texts, self._tokenizer(list(texts))["input_ids"], strict=True):
            if len(tokens) > self.max_tokens:
                shown = text if len(text) <= 40 else f"{text[:40]} ..."
                raise InputError(
                    f"the text {shown!r} has {len(tokens)} tokens, but the text tower takes {self.max_tokens} at most. "
                    "Shorten it."
                )
        options: dict[str, Any] = {"max_length": self.max_tokens} if self._fills else {}
        padding = "max_length" if self._fills else "longest"
        found: Mapping[str, Tensor] = self._tokenizer(list(texts), padding=padding, return_tensors="pt", **options)
        return {name: found[name] for name in ("input_ids", "attention_mask") if name in found}


class _Tower(nn.Module):
    """A network of the library with the rule that takes the vectors of texts out of its output.

    Args:
        network: The network.
        read: Its output to (N, C).
        uses_mask: Whether padding is told to the network.
        **options: Further arguments of the network.
    """

    def __init__(
        self, network: nn.Module, read: Callable[[Any], Tensor], *, uses_mask: bool = True, **options: Any
    ) -> None:
        super().__init__()
        self.network, self._read, self._uses_mask, self._options = network, read, uses_mask, options

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        mask = {"attention_mask": attention_mask} if self._uses_mask else {}
        return self._read(self.network(input_ids=input_ids, **mask, **self._options))


def text_encoder(folder: WeightFolder) -> TextEncoder:
    """Return the text tower in a folder of public weights, on the CPU.

    Raises:
        WeightsError: If there is none, or its weights do not fit.
    """
    kind = folder.read("config.json").get("model_type")
    if kind not in _READERS:
        raise WeightsError(f"{folder.name}: model_type {kind!r} has no text tower; {', '.join(_READERS)} have one.")
    return _READERS[kind](folder)


def _both(tokenize: HfTokenizer, tower: nn.Module, projection: nn.Module) -> TextEncoder:
    return TextEncoder(tokenize, tower, {"video": projection, "audio": projection})


def _clip(folder: WeightFolder) -> TextEncoder:
    model = load_whole("CLIPModel", folder)
    tower = _Tower(model.text_model, lambda output: output.pooler_output)
    return _both(HfTokenizer(folder, model.config.text_config.max_position_embeddings), tower, model.text_projection)


def _siglip(folder: WeightFolder) -> TextEncoder:
    model = load_whole("SiglipModel", folder)
    limit = model.config.text_config.max_position_embeddings
    tower = _Tower(model.text_model, lambda output: output.pooler_output, uses_mask=False)
    return _both(HfTokenizer(folder, limit, fills=True), tower, nn.Identity())


def _clap(folder: WeightFolder) -> TextEncoder:
    model = load_whole("ClapModel", folder)
    tower = _Tower(model.text_model, lambda output: output.pooler_output)
    limit = model.config.text_config.max_position_embeddings - 2  # positions of RoBERTa begin at 2
    return _both(HfTokenizer(folder, limit), tower, model.text_projection)


def _pe_av(folder: WeightFolder) -> TextEncoder:
    """Build the text tower and its projections alone, as the towers of video and audio need much more memory."""
    transformers = library("transformers")
    whole = transformers.PeAudioVideoConfig.from_dict(folder.read("config.json"))
    copies = [f"{part}text_model." for part in ("", "audio_model.", "video_model.")]  # of which a file may have one
    heads = [f"{modality}_model.text_{modality}_head." for modality in ("video", "audio")]
    tensors = read_tensors(folder, (*copies, *heads))
    network = transformers.AutoModel.from_config(whole.text_config)
    copy = next((each for each in copies if f"{each}final_norm.weight" in tensors), copies[0])
    _fill(network, tensors, copy, folder)
    projections: dict[Modality, nn.Module] = {}
    for modality in ("video", "audio"):
        projections[modality] = pe_head(tensors, f"{modality}_model.text_{modality}_head.", folder)
    tower = _Tower(network, lambda output: output.hidden_states[-1][:, 0], output_hidden_states=True)
    return TextEncoder(HfTokenizer(folder, whole.text_config.max_position_embeddings), tower, projections)


def pe_head(tensors: Mapping[str, Tensor], prefix: str, folder: WeightFolder) -> nn.Sequential:
    """Return a projection of PE-AV: normalization and a linear layer without bias."""
    names = ("layer_norm.weight", "layer_norm.bias", "proj.weight")
    missing = [prefix + name for name in names if prefix + name not in tensors]
    if missing:
        raise WeightsError(f"{folder.name}: {missing[0]} is missing.")
    weight, bias, projection = (tensors[prefix + name] for name in names)
    out_features, in_features = projection.shape
    head = nn.Sequential(nn.LayerNorm(in_features, eps=1e-6), nn.Linear(in_features, out_features, bias=False))
    head.load_state_dict({"0.weight": weight, "0.bias": bias, "1.weight": projection})
    return head


def _fill(network: nn.Module, tensors: Mapping[str, Tensor], prefix: str, folder: WeightFolder) -> None:
    own = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise WeightsError(
            f"{folder.name}: not the weights of its text tower: {' '.join(str(error).split())}"
        ) from error


def load_whole(name: str, folder: WeightFolder) -> Any:
    """Return a model of transformers with the weights of a folder, on the CPU, in evaluation mode.

    Raises:
        WeightsError: If the folder has no safetensors, or those of another network; names the first tensors.
    """
    folder.safetensors()  # names a pickle in their place
    transformers = library("transformers")
    logging = library("transformers.utils.logging")
    verbosity, shows_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model, info = getattr(transformers, name).from_pretrained(
            folder.path, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(f"{folder.name}: cannot be loaded as {name}: {reason}") from error
    finally:
        logging.set_verbosity(verbosity)
        if shows_bars:
            logging.enable_progress_bar()
    for problem in ("missing_keys", "mismatched_keys"):
        if info.get(problem):
            first = ", ".join(sorted(map(str, info[problem]))[:3])
            raise WeightsError(f"{folder.name}: not the weights of {name}: {problem.replace('_', ' ')} {first}.")
    tell_unused(folder, info.get("unexpected_keys") or (), name, model.state_dict())
    return model.eval()


_READERS: dict[str, Callable[[WeightFolder], TextEncoder]] = {
    PE_AV: _pe_av,
    "clip": _clip,
    "siglip": _siglip,
    "clap": _clap,
}
