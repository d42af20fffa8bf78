"""Extract features of the rows of a manifest once; probes, retrieval and later measures read the same cache.

Each row is read as evenly spaced windows, without augmentation. Features are averaged over them, embeddings after
normalization, or every window keeps its own.

Dimensions: N rows, W windows of each, C features or embedding size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from einops import rearrange
from torch import Tensor

from avssl.core.batch import Batch, Clip, Modality
from avssl.core.data_files import read_arrays
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest
from avssl.core.progress import Bar
from avssl.core.whole_file import whole_file
from avssl.data.content import content_hashes
from avssl.data.eval_loader import EvalLoader
from avssl.data.file_stamps import stamped
from avssl.data.ledger import Failure
from avssl.data.one_stream import read_stream
from avssl.data.sampling import ClipSampling
from avssl.hub.pretrained import PretrainedModel
from avssl.media.backends import BackendName, resolve_backend
from avssl.models import ClipEncoder, StagePooling, What
from avssl.transforms.corruptions import Corruption

_FORMAT = 2


@dataclass(frozen=True, eq=False)
class Features:
    """Features of the readable rows of a manifest, in their order."""

    ids: np.ndarray
    """(N,) strings."""
    rows: np.ndarray
    """(N,) int64 positions in the manifest."""
    video: np.ndarray
    """(N, C) float32, or (N, W, C) if windows are kept; (N, 0) if it was not read."""
    audio: np.ndarray
    """Audio vectors, in the shapes of ``video``."""
    failures: list[Failure]
    """Rows that could not be read."""
    at_seconds: np.ndarray
    """(N, W) float64: the middle of each window, in presentation time. Video and audio share it, unless one stream ends
    before the other; then it lies between the two middles."""
    stages: dict[Modality, dict[str, np.ndarray]] = field(default_factory=dict)
    """(N, W, C, cells ...) float32 by modality and stage name, from input to output; windows are always kept."""

    def __post_init__(self) -> None:
        arrays = [self.ids, self.rows, self.video, self.audio, self.at_seconds]
        arrays += [array for side in self.stages.values() for array in side.values()]
        lengths = sorted({len(array) for array in arrays})
        if len(lengths) != 1:
            raise InputError(f"ids, rows, video, audio, at_seconds and stages must have one length, got {lengths}.")


def extract_features(
    pretrained: PretrainedModel,
    manifest: Manifest,
    *,
    windows_per_clip: int = 1,
    batch_size: int = 32,
    what: What = "features",
    keep_windows: bool = False,
    stages: Mapping[Modality, StagePooling] | None = None,
    stream: Modality | None = None,
    corruption: Corruption | None = None,
    backend: BackendName = "auto",
    num_workers: int = 0,
    cache_folder: Path | str | None = None,
    progress: bool = False,
    title: str = "extract",
) -> Features:
    """Run the model over every row, on its own device.

    Args:
        manifest: The rows. Unreadable ones are left out and listed in ``failures``.
        windows_per_clip: Evenly spaced windows of each row, >= 1.
        what: ``"features"`` before the heads, for probes, or normalized ``"embeddings"`` after them, for retrieval.
        keep_windows: Keep the features of every window instead of their mean.
        stages: Also keep the pooled maps of these modalities' stages; the four stages of AVID's networks take 140 kB
            per window.
        stream: Read and encode one stream only; files without the other one are used too, and its features have no
            columns.
        corruption: Corrupt the clips on the model's device before they are encoded.
        num_workers: Decoding processes; 0 decodes in this one.
        cache_folder: Folder to cache results in, under a key of the weights, the settings, the rows and the content of
            their files (:func:`avssl.data.content.content_hashes`). A file that was touched or moved with its manifest
            keeps its features, a changed one does not. None caches nothing.

    Raises:
        InputError: If a number is below 1, ``stages`` names a stream that is not read, or no row can be read.
    """
    if min(windows_per_clip, batch_size) < 1:
        raise InputError(f"windows_per_clip ({windows_per_clip}) and batch_size ({batch_size}) must be at least 1.")
    pooling, modalities = dict(stages or {}), _modalities(stream, stages)
    cache = None
    if cache_folder is not None:
        settings: dict[str, Any] = {"windows": windows_per_clip, "keep_windows": keep_windows, "stream": stream}
        settings["backend"] = resolve_backend(backend)
        settings["stages"] = {name: asdict(value) for name, value in sorted(pooling.items())}
        if corruption is not None:
            settings["corruption"] = [corruption.name, corruption.strength, corruption.seed]
        cache = Path(cache_folder) / f"features-{content_key(pretrained, manifest, settings)}.npz"
        if cache.exists():
            return _read(cache, what)
    manifest = stamped(manifest)
    dataset = read_stream(manifest, pretrained.sampling, stream, backend=backend)
    encoder = pretrained.encoder()
    loader = EvalLoader(dataset, batch_size, clips_per_row=windows_per_clip, num_workers=num_workers)
    parts: list[dict[str, np.ndarray]] = []
    with Bar(desc=title, total=len(manifest), unit="row", delay=1.0, show=progress) as bar:
        for clips, failures in loader.clips():
            batch = loader.batch(clips)
            if corruption is not None:
                batch = corruption(batch.to(encoder.device), pretrained.sampling.sample_rate_hz)
            parts.append(_encode(encoder, batch, windows_per_clip, keep_windows, pooling, modalities))
            parts[-1] |= _positions(clips, windows_per_clip, pretrained.sampling, modalities)
            bar.update(len(clips) // windows_per_clip + len(failures))
    failures = list(loader.ledger)
    if not parts:
        first = failures[0].message if failures else "the manifest is empty."
        raise InputError(f"none of {len(manifest)} rows can be read: {first}")
    # Parts are popped as they are joined, or stages would be in memory twice.
    arrays = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    arrays["ids"] = np.asarray([str(manifest.value(row, "id")) for row in arrays["rows"].tolist()])
    if cache is not None:
        _write(cache, arrays, failures)
    return _chosen(arrays, failures, what)


def _modalities(stream: Modality | None, stages: Mapping[Modality, StagePooling] | None) -> tuple[Modality, ...]:
    """Return the modalities to encode."""
    modalities: tuple[Modality, ...] = ("video", "audio") if stream is None else (stream,)
    left_out = sorted(set(stages or ()) - set(modalities))
    if left_out:
        raise InputError(f"stages of {', '.join(left_out)} need that stream, but only stream {stream!r} is read.")
    return modalities


def _encode(
    encoder: ClipEncoder,
    raw: Batch,
    windows: int,
    keep_windows: bool,
    pooling: Mapping[Modality, StagePooling],
    modalities: Sequence[Modality],
) -> dict[str, np.ndarray]:
    """Return (N, C) features and (N, D) unit embeddings, means over windows, or (N, W, ...); stages as (N, W, ...)."""
    found: dict[str, np.ndarray] = {}
    for name in modalities:
        encoding = encoder.encode_batch(raw, name, detail=pooling[name].detail if name in pooling else None)
        found[name] = _by_row(encoding.vectors("features"), windows, keep_windows)
        found[f"{name}_embedding"] = _by_row(encoding.vectors("embeddings"), windows, keep_windows)
        if name in pooling:
            stages = pooling[name].pool_stages(name, encoding.stages)
            found |= {f"{name}/{stage}": _by_row(value, windows, True) for stage, value in stages.items()}
    return found


def _by_row(values: Tensor, windows: int, keep_windows: bool) -> np.ndarray:
    """Reshape (N * W, ...) to (N, W, ...), or average it over the windows."""
    rows = rearrange(values, "(n w) ... -> n w ...", w=windows)
    return (rows if keep_windows else rows.mean(dim=1)).cpu().numpy()


def _positions(
    clips: Sequence[Clip], windows: int, sampling: ClipSampling, modalities: Sequence[Modality]
) -> dict[str, np.ndarray]:
    """Return the manifest row of each clip and the middle of each of its windows."""
    rows = np.asarray([clip.row for clip in clips[::windows]], dtype=np.int64)
    middles = {
        "video": [clip.video_start_seconds + sampling.video_seconds / 2 for clip in clips],
        "audio": [clip.audio_start_seconds + sampling.audio_seconds / 2 for clip in clips],
    }
    at_seconds = np.mean([middles[name] for name in modalities], axis=0)
    return {"rows": rows, "at_seconds": at_seconds.reshape(-1, windows)}


def content_key(pretrained: PretrainedModel, manifest: Manifest, settings: Mapping[str, object]) -> str:
    """Return 16 hex digits of all that features depend on: weights, rows, file contents, and ``settings``."""
    about = {
        "format": _FORMAT,
        "weights": pretrained.weights_hash(),
        "sampling": asdict(pretrained.sampling),
        "transform": str(pretrained.transform),
        "precision": str(pretrained.precision),
        **settings,
    }
    return rows_key(manifest, about)


def rows_key(manifest: Manifest, about: Mapping[str, object]) -> str:
    """Return 16 hex digits of the rows, of the content of their files, and of the plain values ``about``."""
    digest = hashlib.sha256()
    digest.update(json.dumps(about, sort_keys=True).encode())
    for row, content in enumerate(content_hashes(manifest)):
        names = ("id", "start_seconds", "stop_seconds")
        digest.update(repr((*(manifest.value(row, name) for name in names), content)).encode())
    return digest.hexdigest()[:16]


def _write(path: Path, arrays: dict[str, np.ndarray], failures: list[Failure]) -> None:
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, failures=np.asarray(json.dumps([asdict(f) for f in failures])), **arrays)  # type: ignore[arg-type]


def _read(path: Path, what: What) -> Features:
    arrays = read_arrays(path)
    failures = [Failure(**values) for values in json.loads(str(arrays.pop("failures")))]
    return _chosen(arrays, failures, what)


def _chosen(arrays: dict[str, np.ndarray], failures: list[Failure], what: What) -> Features:
    ending = "_embedding" if what == "embeddings" else ""
    stages: dict[Modality, dict[str, np.ndarray]] = {}
    for name, array in arrays.items():
        modality, _, stage = name.partition("/")
        if stage:
            stages.setdefault(modality, {})[stage] = array  # type: ignore[arg-type]
    none = np.empty((len(arrays["rows"]), 0), dtype=np.float32)
    video, audio = (arrays.get(f"{side}{ending}", none) for side in ("video", "audio"))
    return Features(arrays["ids"], arrays["rows"], video, audio, failures, arrays["at_seconds"], stages)
