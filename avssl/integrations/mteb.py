"""A released model as an encoder of mteb, for its audio, video and audio-video tasks (MAEB and MVEB).

    >>> import mteb
    >>> from avssl.integrations.mteb import load
    >>> mteb.evaluate(load("runs/first"), mteb.get_tasks(["VGGSoundAVA2VRetrieval", "VGGSoundAVV2ARetrieval"]))

Video and audio alone get their embeddings, which are compared by their cosine, and both together the joint embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2.functional import resize

from avssl.core.batch import Modality
from avssl.core.errors import InputError
from avssl.core.progress import Bar
from avssl.hub.pretrained import PretrainedModel, from_pretrained
from avssl.hub.release import HubError
from avssl.integrations.recordings import Recordings
from avssl.media.reader import resized

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.modality_collators import AudioCollator
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType
except ImportError as error:
    raise ImportError("avssl.integrations.mteb needs mteb: pip install 'avssl[mteb]'") from error

if TYPE_CHECKING:
    from mteb.abstasks.task_metadata import TaskMetadata
    from torch.utils.data import DataLoader

PROJECT = "https://github.com/avssl/avssl"


class AvsslEncoder(AbsEncoder):
    """A pretrained model for ``mteb.evaluate``.

    Args:
        pretrained: The model.
        meta: Description of it; None for :func:`model_meta` of its source.
    """

    def __init__(self, pretrained: PretrainedModel, meta: ModelMeta | None = None) -> None:
        self.model = Recordings(pretrained)
        self.mteb_model_meta = meta or model_meta(pretrained)
        self._pretrained = pretrained

    def encode(
        self,
        inputs: DataLoader[Any],
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Return the (N, D) unit embeddings of the rows of a task.

        Args:
            inputs: Rows with video, audio, both, or text.
            task_metadata: The task, which says what text is compared with.
            hf_split: Split of the rows.
            hf_subset: Subset of the rows.
            prompt_type: Whether the rows are queries or documents.
            **kwargs: ``show_progress_bar``; other options have no effect.

        Raises:
            InputError: If a row has neither video, audio nor text, or text beside one of them.
            HubError: If the rows are text, and the model has no text tower.
        """
        columns = {"video", "audio", "text"} & set(inputs.dataset.features)  # type: ignore[attr-defined]
        if not columns or ("text" in columns and len(columns) > 1):
            name = f"{task_metadata.name}: rows of {' and '.join(sorted(columns)) or 'no known modality'}"
            raise InputError(f"{name}. avssl embeds video, audio, both of them, or text alone.")
        # Windows are decoded in place of whole videos, in the processes of the loader if it has some.
        inputs.collate_fn = self._decoded  # type: ignore[assignment]
        compared = set(task_metadata.modalities)
        found = []
        for rows in Bar(inputs, desc="embed", show=bool(kwargs.get("show_progress_bar", True))):
            if columns == {"text"}:
                stream: Modality = "video" if "video" in compared else "audio"
                found.append(self._pretrained.embed_text([row["text"] for row in rows], stream))
            else:
                found.append(torch.stack([self._embed(row) for row in rows]))
        return torch.cat(found).float().cpu().numpy()

    def _decoded(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return rows with the windows that cover them, in place of video and audio; rows may lack one of both."""
        decoded = []
        for row in rows:
            decoder, audio = row.get("video"), row.get("audio")
            waveform = None if audio is None else self._waveform(audio)
            windows, counts = dict(row), []
            if decoder is not None:
                span = decoder.metadata.begin_stream_seconds, decoder.metadata.end_stream_seconds
                counts.append(self.model.num_windows(span[1] - span[0]))
            if waveform is not None:
                counts.append(self.model.num_windows(len(waveform) / self.model.sampling.sample_rate_hz))
            if decoder is not None:
                windows["video"] = self._frames(decoder, *span, max(counts))
            if waveform is not None:
                windows["audio"] = self.model.audio_windows(waveform, max(counts))
            decoded.append(windows)
        return decoded

    def _embed(self, row: Mapping[str, Any]) -> Tensor:
        """Return the (D,) embedding of a decoded row."""
        video, audio = row.get("video"), row.get("audio")
        if video is not None and audio is not None:
            return self.model.joint_vector(video, audio)
        if video is not None:
            return self.model.vector("video", video, "embeddings")
        if audio is not None:
            return self.model.vector("audio", audio, "embeddings")
        raise InputError("a row of the task has neither video nor audio.")

    def _waveform(self, audio: Any) -> Tensor:
        """Return the (S,) waveform of decoded audio at the model's sample rate."""
        rate = self.model.sampling.sample_rate_hz
        samples = AudioCollator.resample_audio({"audio": audio}, target_sampling_rate=rate)
        return torch.as_tensor(np.ascontiguousarray(samples), dtype=torch.float32).reshape(-1)

    def _frames(self, decoder: Any, first: float, last: float, count: int) -> Tensor:
        """Return the (W, T, 3, H, W) frames of the windows that cover a video, as torchcodec decodes them."""
        times = torch.tensor(self.model.frame_times(last - first, count), dtype=torch.float64) + first
        seen = times.clamp(first, math.nextafter(last, -math.inf))
        frames = decoder.get_frames_played_at(seen.flatten().tolist()).data
        height, width = resized(frames.shape[3], frames.shape[2], self.model.sampling.short_side)
        frames = resize(frames, [height, width], antialias=True)
        return frames.unflatten(0, times.shape)


def load(checkpoint: Path | str, device: torch.device | str = "cpu") -> AvsslEncoder:
    """Load a release for ``mteb.evaluate``.

    Args:
        checkpoint: Run directory, release folder or ``hf-hub:OWNER/NAME``.
        device: Device to encode on.
    """
    return AvsslEncoder(from_pretrained(checkpoint, device))


def model_meta(pretrained: PretrainedModel) -> ModelMeta:
    """Describe a model as mteb lists it: name, size, embedding and modalities.

    The revision is the hash of the weights, so that mteb keeps results of different weights apart.
    """
    source = pretrained.source
    name = source.removeprefix("hf-hub:") if source.startswith("hf-hub:") else f"avssl/{_folder_name(source)}"
    modalities = ["video", "audio", *(["text"] if _has_text(pretrained) else [])]
    parameters = sum(p.numel() for p in pretrained.model.parameters())
    return ModelMeta.create_empty(
        {
            "loader": partial(_loaded, source),
            "name": name,
            "revision": pretrained.weights_hash(),
            "n_parameters": parameters,
            "memory_usage_mb": round(4 * parameters / 2**20, 1),
            "embed_dim": pretrained.model.embedding_size,
            "open_weights": True,
            "public_training_code": PROJECT,
            "framework": ["PyTorch"],
            "similarity_fn_name": ScoringFunction.COSINE,
            "use_instructions": False,
            "modalities": modalities,
        }
    )


def _loaded(checkpoint: str, name: str, revision: str | None = None, **options: Any) -> AvsslEncoder:
    """Load the model of a description, as mteb calls it."""
    return load(checkpoint, options.get("device") or "cpu")


def _folder_name(source: str) -> str:
    """Return the name of a release: that of the run, where the folder is its ``weights``."""
    folder = Path(source).resolve()
    return folder.parent.name if folder.name in ("weights", "weights_best") else folder.name


def _has_text(pretrained: PretrainedModel) -> bool:
    try:
        pretrained.text_encoder()
    except HubError:
        return False
    return True
