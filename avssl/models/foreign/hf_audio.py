"""Audio networks of transformers: AST, CLAP, HuBERT, WavLM, wav2vec 2.0 (and BERT) and Whisper's encoder.

Sources: https://arxiv.org/abs/2104.01778 (AST), https://arxiv.org/abs/2211.06687 (CLAP),
https://arxiv.org/abs/2106.07447 (HuBERT), https://arxiv.org/abs/2110.13900 (WavLM), https://arxiv.org/abs/2006.11477
(wav2vec 2.0), https://arxiv.org/abs/2312.05187 (wav2vec 2.0 BERT) and https://arxiv.org/abs/2212.04356 (Whisper).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from avssl.core.batch import Modality
from avssl.models.foreign.backbone import Tokens
from avssl.models.foreign.contract import AudioContract
from avssl.models.foreign.hf import HFBackbone
from avssl.models.foreign.spec import Spec

_WINDOW_SECONDS = 2.0
"""Default window of networks that take any length."""


def _over_time(tokens: Tensor) -> Tensor:
    """Map (B, T', C) tokens to (B, C, T', 1) cells."""
    return tokens.transpose(1, 2)[..., None]


class _Audio(HFBackbone):
    modality: Modality = "audio"

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        return _over_time(output)


class Ast(_Audio):
    """Audio spectrogram transformer; overlapping patches of a filter bank of fixed length."""

    config_class, model_class, processor_class = "ASTConfig", "ASTModel", "ASTFeatureExtractor"

    @classmethod
    def contract_of(cls, spec: Spec) -> AudioContract:
        config, own = cls.configuration(spec), cls.processor(spec)
        rate, columns = int(own["sampling_rate"]), int(config.max_length)
        options = {
            "num_mels": int(config.num_mel_bins),
            "num_columns": columns,
            "mean": float(own["mean"]),
            "std": 2 * float(own["std"]),
        }
        seconds = columns * 0.01  # columns are 10 ms apart
        return AudioContract(rate, "kaldi_fbank", options, seconds, seconds)

    def tokens(self, x: Tensor) -> Tokens:
        output = self.network(input_values=x[:, 0]).last_hidden_state
        return Tokens(self.cells_of(output, x), output[:, :2])

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        config: Any = self.network.config
        rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        return output[:, 2:].unflatten(1, (rows, -1)).permute(0, 3, 2, 1)  # (B, C, T', F')


class Clap(_Audio):
    """CLAP's audio tower (HTS-AT): a Swin transformer on a spectrogram of ten seconds."""

    config_class, model_class, processor_class = "ClapAudioConfig", "ClapAudioModel", "ClapFeatureExtractor"
    sub_config = "audio_config"

    @classmethod
    def width(cls, config: Any) -> int:
        return int(config.patch_embeds_hidden_size) * 2 ** (len(config.depths) - 1)

    @classmethod
    def layers(cls, network: Any) -> dict[str, nn.Module]:
        return {f"stage.{number}": block for number, block in enumerate(network.audio_encoder.layers)}

    @classmethod
    def contract_of(cls, spec: Spec) -> AudioContract:
        own, seconds = cls.processor(spec), float(cls.processor(spec)["max_length_s"])
        is_fused = bool(cls.configuration(spec).enable_fusion)
        options = {
            "num_mels": int(own["feature_size"]),
            "window_length": int(own["fft_window_size"]),
            "hop_length": int(own["hop_length"]),
            "seconds": seconds,
            "min_hz": float(own["frequency_min"]),
            "max_hz": float(own["frequency_max"]),
            "mel_scale": "htk" if is_fused else "slaney",
        }
        return AudioContract(int(own["sampling_rate"]), "clap_mel", options, seconds, seconds)

    def tokens(self, x: Tensor) -> Tokens:
        config: Any = self.network.config
        options = {}
        if config.enable_fusion:  # windows are never longer than the network's, so that all four are the same
            x, options = x.expand(-1, 4, -1, -1), {"is_longer": torch.zeros(x.shape[0], 1, device=x.device)}
        output = self.network(input_features=x, **options).last_hidden_state  # (B, C, F', T')
        return Tokens(output.transpose(2, 3))

    def cells_of(self, output: Tensor, x: Tensor) -> Tensor:
        config: Any = self.network.config
        side, parts = math.isqrt(output.shape[1]), int(config.spec_size) // int(config.num_mel_bins)
        # Rows hold the frequencies of each of several stretches of time, one below the other.
        cells = output.unflatten(1, (parts, side // parts, side))  # (B, parts, F', T' / parts, C)
        return cells.permute(0, 4, 1, 3, 2).flatten(2, 3)  # (B, C, T', F')


class _Waveform(_Audio):
    """Convolutions over the waveform, then a transformer."""

    @classmethod
    def contract_of(cls, spec: Spec) -> AudioContract:
        own = cls.processor(spec)
        options = {"normalize": bool(own["do_normalize"])}
        return AudioContract(int(own["sampling_rate"]), "waveform", options, _WINDOW_SECONDS)

    @classmethod
    def fixed_settings(cls) -> dict[str, Any]:
        return {"apply_spec_augment": False, "layerdrop": 0.0}  # random steps of their training

    def tokens(self, x: Tensor) -> Tokens:
        return Tokens(_over_time(self.network(input_values=x[:, 0, :, 0]).last_hidden_state))


class Hubert(_Waveform):
    """HuBERT."""

    config_class, model_class, processor_class = "HubertConfig", "HubertModel", "Wav2Vec2FeatureExtractor"


class WavLm(_Waveform):
    """WavLM."""

    config_class, model_class, processor_class = "WavLMConfig", "WavLMModel", "Wav2Vec2FeatureExtractor"


class Wav2Vec2(_Waveform):
    """Wav2vec 2.0."""

    config_class, model_class, processor_class = "Wav2Vec2Config", "Wav2Vec2Model", "Wav2Vec2FeatureExtractor"


class Wav2Vec2Bert(_Waveform):
    """Wav2vec 2.0 BERT, on filter banks."""

    config_class, model_class, processor_class = (
        "Wav2Vec2BertConfig",
        "Wav2Vec2BertModel",
        "SeamlessM4TFeatureExtractor",
    )

    @classmethod
    def contract_of(cls, spec: Spec) -> AudioContract:
        own = cls.processor(spec)
        options = {"num_mels": int(own["num_mel_bins"]), "stride": int(own["stride"])}
        return AudioContract(int(own["sampling_rate"]), "seamless_fbank", options, _WINDOW_SECONDS)

    def tokens(self, x: Tensor) -> Tokens:
        return Tokens(_over_time(self.network(input_features=x[:, 0]).last_hidden_state))


class Whisper(_Audio):
    """Whisper's encoder."""

    config_class, model_class, processor_class = "WhisperConfig", "WhisperModel", "WhisperFeatureExtractor"

    @classmethod
    def width(cls, config: Any) -> int:
        return int(config.d_model)

    @classmethod
    def contract_of(cls, spec: Spec) -> AudioContract:
        config, own = cls.configuration(spec), cls.processor(spec)
        rate, hop = int(own["sampling_rate"]), int(own["hop_length"])
        seconds = 2 * int(config.max_source_positions) * hop / rate
        options = {
            "num_mels": int(config.num_mel_bins),
            "window_length": int(own["n_fft"]),
            "hop_length": hop,
            "seconds": seconds,
        }
        return AudioContract(rate, "whisper_mel", options, seconds, seconds)

    def _trimmed(self, network: Any) -> Any:
        network.decoder = None
        network.encoder.embed_positions.requires_grad_(False)  # sinusoids
        return super()._trimmed(network)

    def tokens(self, x: Tensor) -> Tokens:
        network: Any = self.network
        return Tokens(_over_time(network.encoder(x[:, 0].transpose(1, 2)).last_hidden_state))
