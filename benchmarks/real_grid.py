"""GRID for `benchmarks/real.py`: clips of a talking face in memory, and what a model knows of lips and voice.

The lips are a fixed box of the frame, in which the mouth of speaker s1 always lies; nothing is tracked. The models of
"whole frame" see the middle of the frame instead, and have to find the lips themselves. A sentence takes three seconds.
To move audio by a second in either direction, `avssl sync` needs more than that, so the clips of its test are two test
sentences, one after the other.

Dimensions: N clips, T frames or moments, D embedding size, C features.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from shapes_in_memory import Clips, fixed_batches
from shapes_measures import encode, retrieval_numbers
from torch import Tensor
from torchvision.transforms.v2.functional import resized_crop

from avssl.config import Config, config_from_dict, read_yaml
from avssl.core.errors import InputError
from avssl.core.manifest import Manifest, read_manifest
from avssl.core.progress import Bar
from avssl.data.sampling import ClipSampling
from avssl.downstream.synchronization import OWN, SHUFFLED, measure_sync
from avssl.engine import Precision
from avssl.evaluation import center_blob, linear_probe
from avssl.evaluation.localization import pointing
from avssl.evaluation.moment_retrieval import moment_retrieval
from avssl.hub.pretrained import from_pretrained, save_pretrained
from avssl.localization.similarity import at_instant, smooth, sound_map
from avssl.media import open_media, write_video
from avssl.models import ClipEncoder
from avssl.synthetic import SceneSettings
from avssl.training.tasks import PretrainTask

FRAME_HW = (288, 360)


@dataclass(frozen=True)
class View:
    """The part of a frame that a model sees, and the window in time."""

    box: tuple[int, int, int, int]
    """Top, left, height and width in pixels of a frame of :data:`FRAME_HW`."""
    side: int
    """Height and width of the frames of the clips, in pixels."""
    num_frames: int
    """Frames of a window, 12.5 a second."""


LIPS, WHOLE = "lips", "whole frame"
VIEWS = {LIPS: View((166, 106, 96, 96), 48, 32), WHOLE: View((0, 36, 288, 288), 96, 16)}
LOOK = {"video_fps": 25.0, "duration_seconds": 3.0}
BATCH, EPOCHS, RATE = 16, 30, 2e-3
PRECISION = Precision("bf16", "channels_last")
FRAMEWISE = {"name": "framewise", "temperature": 0.1}
POOLED = {"name": "info_nce", "temperature": 0.1, "pooling": "pooled"}


@dataclass(frozen=True)
class Method:
    """An objective, and what its model sees."""

    objective: Mapping[str, Any]
    view: str = LIPS


METHODS = {
    "frame-wise, all clips": Method({**FRAMEWISE, "negatives": "batch"}),
    "pooled": Method(POOLED),
    "frame-wise, own clip": Method(FRAMEWISE),
    "whole frame: pooled + best cell": Method({**POOLED, "pooling": "both"}, WHOLE),
    "whole frame: frame-wise, own clip": Method(FRAMEWISE, WHOLE),
}
UNTRAINED = {"random-init": LIPS, "whole frame: random-init": WHOLE}
GRAMMAR = ("command", "color", "preposition", "letter", "digit", "adverb")
"""Words of a sentence, in order."""
WORDS = ("digit", "letter", "color")
MOMENTS = 4
"""Moments of a word whose features a probe sees."""
SENTENCES = 2
"""Sentences of a clip that is tested for sync."""
SYNC_STEP_SECONDS = 0.04


@dataclass(frozen=True, eq=False)
class Sentences(Clips):
    """Clips of one sentence each."""

    manifest: Manifest
    view: str


def sentences(manifest_path: Path, folder: Path, view: str = LIPS) -> Sentences:
    """Return the clips of a manifest of `datasets/grid.py`, read once and mapped from ``folder`` afterwards.

    Raises:
        InputError: If a frame has another size than GRID's, or a file cannot be read.
    """
    manifest = read_manifest(manifest_path)
    splits = manifest["split"].astype(str)
    manifest = manifest.select(np.flatnonzero((splits == "train") | (splits == "test")))
    side = VIEWS[view].side
    look = SceneSettings(width=side, height=side, **LOOK)
    about = {"clips": manifest.hash(), "box": list(VIEWS[view].box), "side": side}
    done = folder / "about.json"
    if not done.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _read(manifest, folder, VIEWS[view].box, look)
        done.write_text(json.dumps(about))
    if json.loads(done.read_text()) != about:
        raise ValueError(f"{folder} holds other clips than are wanted; remove it, or name another folder.")
    video, audio = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("video", "audio"))
    ids, split = manifest["id"].astype(str), manifest["split"].astype(str)
    return Sentences(video, audio, look, ids, split, manifest, view)


def _read(manifest: Manifest, folder: Path, box: tuple[int, int, int, int], look: SceneSettings) -> None:
    count = len(manifest)
    shape = (count, look.num_frames, 3, look.height, look.width)
    video = np.lib.format.open_memmap(folder / "video.npy", "w+", np.uint8, shape)
    audio = np.lib.format.open_memmap(folder / "audio.npy", "w+", np.int16, (count, look.num_samples))
    times = [(frame + 0.5) / look.video_fps for frame in range(look.num_frames)]
    for row in Bar(range(count), desc="read", unit="clip"):
        with open_media(manifest.file(row)) as reader:
            stop = min(look.duration_seconds, reader.info.audio_stop_seconds or 0.0)
            frames = reader.read_frames(times)
            sound = reader.read_audio(0.0, stop, look.sample_rate_hz)[0].clamp(-1, 1)
        if tuple(frames.shape[-2:]) != FRAME_HW:
            found = "x".join(map(str, reversed(frames.shape[-2:])))
            raise InputError(f"{manifest.file(row)}: frames of {found}, but the box of the lips belongs to 360x288.")
        video[row] = resized_crop(frames, *box, [look.height, look.width]).numpy()
        audio[row, : len(sound)] = (sound * 32767).round().numpy()


def view_of(method: str) -> str:
    """Return what the model of a method sees."""
    return METHODS[method].view if method in METHODS else UNTRAINED[method]


def settings(method: str, seed: int) -> Config:
    """Return configs/soundingshapes_sync.yaml with frames of the method's view, and its objective."""
    view = VIEWS[view_of(method)]
    first = next(each for each in METHODS.values() if each.view == view_of(method))
    tree = copy.deepcopy(read_yaml(Path(__file__).parent.parent / "configs" / "soundingshapes_sync.yaml"))
    tree["transform"]["video"]["size"] = view.side
    tree["sampling"] |= {"num_frames": view.num_frames, "audio_seconds": view.num_frames / 12.5}
    tree["objective"] = dict(METHODS.get(method, first).objective)
    tree["optim"] |= {"lr": RATE, "batch_size": BATCH, "epochs": EPOCHS}
    tree["train"]["seed"] = seed
    return config_from_dict(tree)


def measure(
    task: PretrainTask, config: Config, clips: Sentences, sampling: ClipSampling, place: Path
) -> dict[str, Any]:
    """Return retrieval, probes and sync of a model.

    Args:
        task: The model.
        config: Its settings.
        clips: Clips.
        sampling: Window of the model.
        place: Folder for the release of the model, and for files of the sync test.
    """
    task.eval()
    test = clips.rows("test")
    features = encode(task.model, task.transform, fixed_batches(clips, test, sampling), PRECISION)
    numbers: dict[str, Any] = {
        f"pooled_{name}": value for name, value in retrieval_numbers(features, np.arange(len(test))).items()
    }
    encoder = ClipEncoder(task.model, task.transform, PRECISION)
    every = np.concatenate([clips.rows("train"), test])
    maps, moments = moments_of(encoder, clips, every, sampling)
    own = [moments[name][-len(test) :] for name in ("video", "audio")]
    numbers |= moment_numbers(*own) if task.model.framewise else {}
    numbers |= word_probes(clips, every, maps, len(test), sampling, config.train.seed)
    save_pretrained(place / "release", task.model, task.transform, config)
    report = measure_sync(
        from_pretrained(place / "release"),
        joined_clips(clips, place.parent / f"sync-{clips.view}".replace(" ", "_")),
        audio=(OWN, SHUFFLED),
        step_seconds=SYNC_STEP_SECONDS,
    )
    if clips.view == WHOLE:
        numbers |= peaks_on_lips(encoder, clips, test, sampling)
    numbers["sync"] = {row["audio"]: row for row in report["rows"]} | report["baselines"] | {"n": report["about"]["n"]}
    return numbers | {"n_train": len(every) - len(test), "n_test": len(test)}


def moment_numbers(video: Tensor, audio: Tensor) -> dict[str, float]:
    """Return retrieval by (N, T, D) moments of equal time, mean of both directions, and with another clip's audio."""
    found = moment_retrieval(video, audio, "diagonal_mean", ks=(1, 10))
    swapped = moment_retrieval(video, audio.roll(len(audio) // 2, dims=0), "diagonal_mean", ks=(10,))
    numbers = {f"moments_R@{k}": (found[f"v2a_R@{k}"] + found[f"a2v_R@{k}"]) / 2 for k in (1, 10)}
    return numbers | {"moments_shuffled_R@10": (swapped["v2a_R@10"] + swapped["a2v_R@10"]) / 2}


def moments_of(
    encoder: ClipEncoder, clips: Clips, rows: np.ndarray, sampling: ClipSampling
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return by modality the (N, C, T) largest features of all places, and the (N, T, D) embeddings of moments."""
    maps: dict[str, list[Tensor]] = {"video": [], "audio": []}
    moments: dict[str, list[Tensor]] = {"video": [], "audio": []}
    networks = {"video": encoder.model.video_encoder, "audio": encoder.model.audio_encoder}
    for raw in fixed_batches(clips, rows, sampling):
        for name, network in networks.items():
            x = encoder.model_input(raw, name)  # type: ignore[arg-type]
            with torch.no_grad(), PRECISION.autocast("cpu"):
                found = network.forward_features(PRECISION.arrange(x)).float()
            maps[name].append(found.flatten(3).amax(dim=3) if found.ndim > 3 else found)
            moments[name].append(encoder.instants(name, x))  # type: ignore[arg-type]
    return tuple({name: torch.cat(parts) for name, parts in each.items()} for each in (maps, moments))  # type: ignore[return-value]


def word_probes(
    clips: Sentences, rows: np.ndarray, maps: dict[str, Tensor], num_test: int, sampling: ClipSampling, seed: int
) -> dict[str, float]:
    """Return the accuracy of linear probes of a word, from the lips or the voice in the span of the word."""
    start = (clips.settings.duration_seconds - sampling.audio_seconds) / 2
    numbers: dict[str, float] = {}
    for word in WORDS:
        labels = clips.manifest[word].astype(str)[rows]
        place = GRAMMAR.index(word)
        spans = np.array(
            [
                [float(end) - start for end in str(clips.manifest["word_seconds"][row]).split()[place].split("-")]
                for row in rows
            ]
        )
        for modality, features in maps.items():
            x = at_spans(features, torch.from_numpy(spans), sampling.audio_seconds).numpy()
            result = linear_probe(x[:-num_test], labels[:-num_test], x[-num_test:], labels[-num_test:], seed=seed)
            numbers[f"{word}_{modality}"] = result.accuracy
        numbers[f"{word}_chance"] = 1 / len(set(labels))
    return numbers


def at_spans(maps: Tensor, spans: Tensor, seconds: float) -> Tensor:
    """Return (N, MOMENTS * C) features at moments equally far apart in spans of time.

    Args:
        maps: (N, C, T) features of windows.
        spans: (N, 2) start and stop in seconds of the window.
        seconds: Length of the window.
    """
    share = (torch.arange(MOMENTS) + 0.5) / MOMENTS
    at = spans[:, :1] + (spans[:, 1:] - spans[:, :1]) * share  # (N, MOMENTS)
    step = (at / seconds * maps.shape[2]).long().clamp(0, maps.shape[2] - 1)
    return maps.gather(2, step[:, None].expand(-1, maps.shape[1], -1)).flatten(1)


def peaks_on_lips(encoder: ClipEncoder, clips: Clips, rows: np.ndarray, sampling: ClipSampling) -> dict[str, float]:
    """Return the share of peaks in the box of the lips: with the own, with another clip's and without audio."""
    cells, own, silent = [], [], []
    for raw in fixed_batches(clips, rows, sampling):
        at = torch.full((len(raw.video),), sampling.num_frames / 2)
        place = encoder.cells(encoder.video_input(raw.video))
        sounds = (encoder.queries(encoder.audio_input(wave)).float() for wave in (raw.audio, 0 * raw.audio))
        found = [at_instant(place, sound, at, sampling.num_frames) for sound in sounds]
        cells.append(found[0][0])
        own.append(found[0][1])
        silent.append(found[1][1])
    cell, sound = torch.cat(cells), torch.cat(own)
    queries = {"": sound, "shuffled_": sound.roll(len(sound) // 2, dims=0), "silent_": torch.cat(silent)}
    maps = {name: smooth(sound_map(cell, query, encoder.num_heads)[:, 0]) for name, query in queries.items()}
    lips = lips_mask(next(iter(maps.values())).shape[1:]).expand(len(rows), -1, -1)
    center = center_blob(len(rows), (int(lips.shape[1]), int(lips.shape[2])))
    numbers = {f"{name}on_lips": pointing(found, lips).mean().item() for name, found in maps.items()}
    return numbers | {"chance_on_lips": lips[0].mean().item(), "center_on_lips": pointing(center, lips).mean().item()}


def lips_mask(hw: Sequence[int]) -> Tensor:
    """Return an (h, w) float32 mask of the box of the lips in the whole frame: of the cells whose middle lies in it."""
    (top, left, height, width), (above, beside, high, wide) = VIEWS[LIPS].box, VIEWS[WHOLE].box
    y = above + (torch.arange(hw[0]) + 0.5) / hw[0] * high
    x = beside + (torch.arange(hw[1]) + 0.5) / hw[1] * wide
    inside = ((y >= top) & (y < top + height))[:, None] & ((x >= left) & (x < left + width))
    return inside.float()


def joined_clips(clips: Sentences, folder: Path) -> Manifest:
    """Return a manifest of files of :data:`SENTENCES` test sentences each, written on the first call."""
    test = clips.rows("test")
    groups = test[: len(test) // SENTENCES * SENTENCES].reshape(-1, SENTENCES)
    if not (folder / "manifest.csv").exists():
        for number, group in enumerate(Bar(groups, desc="join", unit="clip")):
            video = torch.from_numpy(np.concatenate(clips.video[group]))
            audio = torch.from_numpy(np.concatenate(clips.audio[group])).float()[None] / 32767
            write_video(
                folder / f"{number:04d}.mp4", video, clips.settings.video_fps, audio, clips.settings.sample_rate_hz
            )
        names = [f"{number:04d}" for number in range(len(groups))]
        Manifest.from_columns({"id": names, "path": [f"{name}.mp4" for name in names]}, folder).write(
            folder / "manifest.csv"
        )
    return read_manifest(folder / "manifest.csv")
