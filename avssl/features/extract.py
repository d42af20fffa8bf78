"""Extract features of the rows of a manifest once; probes, retrieval and later measures read the same cache.

Each row is read as evenly spaced windows, without augmentation. Features are averaged over them, embeddings after
normalization, or every window keeps its own.

Dimensions: N rows, W windows of each, C features or embedding size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
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
from avssl.data.transfer import transfer_to
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
    moments: dict[Modality, np.ndarray] = field(default_factory=dict)
    """(N, W, T, D) float32 unit embeddings of the moments of each window by modality; empty unless requested."""
    joint: dict[str, np.ndarray] = field(default_factory=dict)
    """(N, D) float32 unit joint embeddings, or (N, W, D) if windows are kept, by what was read: ``"joint"`` of both,
    ``"joint, video"`` and ``"joint, audio"`` of one; empty for models without a joint head."""

    def __post_init__(self) -> None:
        arrays = [self.ids, self.rows, self.video, self.audio, self.at_seconds]
        arrays += [array for side in self.stages.values() for array in side.values()]
        lengths = sorted({len(array) for array in arrays})
        if len(lengths) != 1:
            raise InputError(f"ids, rows, video, audio, at_seconds and stages must have one length, got {lengths}.")


@dataclass(frozen=True)
class FeatureRequest:
    """Features to compute of every row, in the words of :func:`extract_features`.

    Raises:
        InputError: If ``stages`` names a stream that is not read.
    """

    windows_per_clip: int = 1
    keep_windows: bool = False
    stages: Mapping[Modality, StagePooling] = field(default_factory=dict)
    stream: Modality | None = None
    corruption: Corruption | None = None
    moments: bool = False

    def __post_init__(self) -> None:
        left_out = sorted(set(self.stages) - set(self.modalities))
        if left_out:
            raise InputError(
                f"stages of {', '.join(left_out)} need that stream, but only stream {self.stream!r} is read."
            )

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities to encode."""
        return ("video", "audio") if self.stream is None else (self.stream,)

    def cache_file(
        self, folder: Path | str, pretrained: PretrainedModel, manifest: Manifest, backend: BackendName
    ) -> Path:
        """Return the file of the cache that holds the result, or will."""
        settings: dict[str, Any] = {
            "windows": self.windows_per_clip,
            "keep_windows": self.keep_windows,
            "stream": self.stream,
            "backend": resolve_backend(backend),
            "stages": {name: asdict(value) for name, value in sorted(self.stages.items())},
        }
        if self.moments:
            settings["moments"] = True
        if self.corruption is not None:
            settings["corruption"] = [self.corruption.name, self.corruption.strength, self.corruption.seed]
        return Path(folder) / f"features-{content_key(pretrained, manifest, settings)}.npz"


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
    moments: bool = False,
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
        moments: Also keep the embeddings of every moment.
        num_workers: Decoding processes; 0 decodes in this one.
        cache_folder: Folder to cache results in, under a key of the weights, the settings, the rows and the content of
            their files (:func:`avssl.data.content.content_hashes`). A file that was touched or moved with its manifest
            keeps its features, a changed one does not. None caches nothing.

    Raises:
        InputError: If a number is below 1, ``stages`` names a stream that is not read, or no row can be read.
    """
    if min(windows_per_clip, batch_size) < 1:
        raise InputError(f"windows_per_clip ({windows_per_clip}) and batch_size ({batch_size}) must be at least 1.")
    request = FeatureRequest(windows_per_clip, keep_windows, dict(stages or {}), stream, corruption, moments)
    cache = None
    if cache_folder is not None:
        cache = request.cache_file(cache_folder, pretrained, manifest, backend)
        if cache.exists():
            return _read(cache, what)
    ((arrays, failures),) = _extract(
        pretrained, manifest, [request], batch_size, backend, num_workers, progress=progress, title=title
    )
    if cache is not None:
        _write(cache, arrays, failures)
    return _chosen(arrays, failures, what)


def cache_features(
    pretrained: PretrainedModel,
    manifest: Manifest,
    requests: Sequence[FeatureRequest],
    cache_folder: Path | str,
    *,
    num_workers: int = 0,
    progress: bool = False,
    title: str = "extract",
) -> None:
    """Compute what several calls of :func:`extract_features` will ask for, and keep it for them.

    Requests for the same windows share one pass over the files and through the encoders. Each result is that of its own
    call, in its own file; those that are there are kept.

    Raises:
        InputError: As from :func:`extract_features`.
    """
    missing: dict[Path, FeatureRequest] = {}
    for request in requests:
        path = request.cache_file(cache_folder, pretrained, manifest, "auto")
        if not path.exists():
            missing[path] = request
    passes: dict[tuple[object, ...], list[Path]] = {}
    for path, request in missing.items():
        same = request.windows_per_clip, request.stream, request.corruption
        passes.setdefault(same, []).append(path)
    for paths in passes.values():
        chosen = [missing[path] for path in paths]
        found = _extract(pretrained, manifest, chosen, 32, "auto", num_workers, progress=progress, title=title)
        for path, (arrays, failures) in zip(paths, found, strict=True):
            _write(path, arrays, failures)


_Arrays = dict[str, np.ndarray]


def _extract(
    pretrained: PretrainedModel,
    manifest: Manifest,
    requests: Sequence[FeatureRequest],
    batch_size: int,
    backend: BackendName,
    num_workers: int,
    *,
    progress: bool,
    title: str,
) -> list[tuple[_Arrays, list[Failure]]]:
    """Return the arrays of each request, all for the same windows, stream and corruption, from one pass."""
    windows, modalities = requests[0].windows_per_clip, requests[0].modalities
    manifest = stamped(manifest)
    dataset = read_stream(manifest, pretrained.sampling, requests[0].stream, backend=backend)
    encoder = pretrained.encoder()
    loader = EvalLoader(dataset, batch_size, clips_per_row=windows, num_workers=num_workers)
    parts: list[list[_Arrays]] = [[] for _ in requests]
    with (
        Bar(desc=title, total=len(manifest), unit="row", delay=1.0, show=progress) as bar,
        closing(loader.fed(transfer_to(encoder.device))) as batches,
    ):
        for clips, batch, failures in batches:
            positions = _positions(clips, windows, pretrained.sampling, modalities)
            if requests[0].corruption is not None:
                batch = requests[0].corruption(batch, pretrained.sampling.sample_rate_hz)
            for into, found in zip(parts, _encode(encoder, batch, requests), strict=True):
                into.append(found | positions)
            bar.update(len(clips) // windows + len(failures))
    failures = list(loader.ledger)
    if not parts[0]:
        first = failures[0].message if failures else "the manifest is empty."
        raise InputError(f"none of {len(manifest)} rows can be read: {first}")
    return [(_joined(each, manifest), failures) for each in parts]


def _joined(parts: list[_Arrays], manifest: Manifest) -> _Arrays:
    # Parts are popped as they are joined, or stages would be in memory twice.
    arrays = {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}
    arrays["ids"] = np.asarray([str(manifest.value(row, "id")) for row in arrays["rows"].tolist()])
    return arrays


def _encode(encoder: ClipEncoder, raw: Batch, requests: Sequence[FeatureRequest]) -> list[_Arrays]:
    """Return (N, C) features and (N, D) unit embeddings, means over windows, or (N, W, ...); stages as (N, W, ...)."""
    answers: list[_Arrays] = [{} for _ in requests]
    for name in requests[0].modalities:
        details = [each.stages[name].detail if name in each.stages else None for each in requests]
        encodings = {each: encoder.encode_batch(raw, name, detail=each) for each in dict.fromkeys(details)}
        for found, request, detail in zip(answers, requests, details, strict=True):
            encoding, windows, keep = encodings[detail], request.windows_per_clip, request.keep_windows
            found[name] = _by_row(encoding.vectors("features"), windows, keep)
            found[f"{name}_embedding"] = _by_row(encoding.vectors("embeddings"), windows, keep)
            if request.moments:
                moments = encoder.instants(name, encoder.model_input(raw, name))
                found[f"{name}_moments"] = _by_row(moments, windows, True)
            if detail is not None:
                stages = request.stages[name].pool_stages(name, encoding.stages)
                found |= {f"{name}/{stage}": _by_row(value, windows, True) for stage, value in stages.items()}
    if encoder.has_joint:
        joint = _joint(encoder, raw, requests[0].modalities)
        for found, request in zip(answers, requests, strict=True):
            found |= {name: _by_row(x, request.windows_per_clip, request.keep_windows) for name, x in joint.items()}
    return answers


def _joint(encoder: ClipEncoder, raw: Batch, modalities: Sequence[Modality]) -> dict[str, Tensor]:
    """Return (N * W, D) joint embeddings of each modality alone, and of both."""
    x = {name: encoder.model_input(raw, name) for name in modalities}
    found = {f"joint, {name}": encoder.joint(**{"video": None, "audio": None, name: x[name]}) for name in modalities}
    return found | ({"joint": encoder.joint(x["video"], x["audio"])} if len(x) == 2 else {})


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
    sides: tuple[Modality, ...] = ("video", "audio")
    moments = {side: arrays[f"{side}_moments"] for side in sides if f"{side}_moments" in arrays}
    joint = {name: array for name, array in arrays.items() if name.partition(",")[0] == "joint"}
    return Features(arrays["ids"], arrays["rows"], video, audio, failures, arrays["at_seconds"], stages, moments, joint)
