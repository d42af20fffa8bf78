"""Measure ``avssl explore``: what it finds of planted cases, and what it costs; and what ``avssl search`` costs.

    python benchmarks/explore.py planted FOLDER --seeds 1 2          # corpora are written to FOLDER and embedded
    python benchmarks/explore.py scale --windows 100000 1000000      # random vectors; time, memory, recall
    python benchmarks/explore.py search --windows 1000000            # random vectors in a file; its size, time, memory

``planted`` uses the weights in the package, and a network of the same shape with random weights beside them. The
corpora of seed 0 were looked at while the methods were written; others were not. ``scale`` draws unit vectors of 128
numbers around a thousand centers, ten windows per clip, with a copy of every hundredth clip, on one or more threads.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from peak_memory import peak, reset_peak
from planted_corpus import COPIES, write_corpus
from sklearn.metrics import roc_auc_score

from avssl.core.manifest import Manifest, read_manifest
from avssl.evaluation.corpus import nearest_neighbors
from avssl.features.corpus import Corpus, explore_table, recordings_of
from avssl.features.search import Query, find_moments
from avssl.features.table import FeatureTable, TableInfo, read_feature_table, write_feature_table
from avssl.hub.pretrained import demo_weights, from_pretrained, save_pretrained
from avssl.recipes.embed import embed
from avssl.training.build import build_model

NUM_CLIPS, NUM_PLANTED, STRIDE_SECONDS = 400, 20, 0.5
SCORES = {
    "mismatched": ("match", -1),
    "off-screen": ("off_screen", 1),
    "music": ("voice_over", 1),
    "narration": ("voice_over", 1),
}


# ---------------------------------------------------------------- planted cases


def planted(folder: Path, seeds: list[int], num_workers: int) -> None:
    models = {"packaged weights": demo_weights(), "random weights": untrained(folder / "untrained")}
    for seed in seeds:
        corpus = folder / f"seed{seed}"
        if not (corpus / "manifest.csv").is_file():
            corpus.mkdir(parents=True, exist_ok=True)
            write_corpus(corpus, NUM_CLIPS, NUM_PLANTED, seed, num_workers)
        manifest = read_manifest(corpus / "manifest.csv")
        for name, checkpoint in models.items():
            table = embed(
                corpus / "manifest.csv",
                checkpoint=checkpoint,
                out=folder / f"seed{seed}-{name.split()[0]}.parquet",
                stride_seconds=STRIDE_SECONDS,
                num_workers=num_workers,
                device="cpu",
            )
            print(f"\nseed {seed}, {name}")
            print(planted_report(explore_table(read_feature_table(table)), manifest))


def untrained(folder: Path) -> Path:
    """Save a model like the packaged one, with random weights."""
    trained = from_pretrained(demo_weights())
    model = build_model(trained.config, 0).eval()
    return save_pretrained(folder, model, trained.transform, trained.config)


def planted_report(corpus: Corpus, manifest: Manifest) -> str:
    """Return the lines of one corpus."""
    ids = list(corpus.clips.ids)
    row_of = {name: row for row, name in enumerate(manifest["id"])}
    kinds = np.array([manifest["planted"][row_of[name]] for name in ids])
    sources = [manifest["planted_of"][row_of[name]] for name in ids]
    pairs = {frozenset((name, of)): kind for name, of, kind in zip(ids, sources, kinds, strict=True) if of}
    found = {frozenset((ids[row], ids[of])) for row, of in enumerate(corpus.duplicate_of) if of >= 0}
    right = found & set(pairs)
    lines = [
        f"copies: {len(found)} found, precision {len(right) / max(1, len(found)):.3f}, recall of {len(pairs)} "
        f"{len(right) / len(pairs):.3f} (chance: a random pair is one with probability "
        f"{len(pairs) / (len(ids) * (len(ids) - 1) / 2):.5f})"
    ]
    recalls = (f"{kind} {np.mean([p in found for p, k in pairs.items() if k == kind]):.2f}" for kind in COPIES)
    lines.append(f"  recall by kind: {', '.join(recalls)}")
    segments = sum({name[:-1] for name in pair} == {min(pair)[:-1]} and "segments" in min(pair) for pair in found)
    lines.append(f"  segments of one recording called copies: {segments} of {NUM_PLANTED}")
    ordinary = np.isin(kinds, ["none", "segments"])
    for kind, (column, sign) in SCORES.items():
        chosen = ordinary | (kinds == kind)
        scores, truth = sign * getattr(corpus, column)[chosen], kinds[chosen] == kind
        best = truth[np.argsort(-scores, kind="stable")[: truth.sum()]].mean()
        lines.append(
            f"{kind} by {column}: AUROC {roc_auc_score(truth, scores):.3f} (chance 0.500), precision at {truth.sum()} "
            f"{best:.2f} (chance {truth.mean():.2f}), n {truth.sum()} of {len(truth)}"
        )
    return "\n".join(lines)


# ---------------------------------------------------------------- cost


def scale(counts: list[int], threads: int, size: int) -> None:
    torch.set_num_threads(threads)
    for count in counts:
        table = random_table(count, size)
        began, worked, marks = time.monotonic(), time.process_time(), {}

        def on_progress(step: str, done: int, total: int, marks: dict = marks) -> None:
            marks.setdefault(step, [time.monotonic(), 0.0])[1] = time.monotonic()

        corpus = explore_table(table, on_progress=on_progress)
        seconds, worked = time.monotonic() - began, time.process_time() - worked
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        copies = np.array([name.endswith("copy") for name in corpus.clips.ids])
        print(
            f"{count} windows of {2 * size} numbers, {threads} threads: {seconds:.0f} s ({worked:.0f} s of a core), "
            f"{memory:.1f} GB at most"
        )
        print("  lists searched: " + ", ".join(f"{step} {stop - first:.0f} s" for step, (first, stop) in marks.items()))
        print(f"  copies found: {(corpus.duplicate_of >= 0).sum()} of {copies.sum()} planted")
        print(f"  neighbors: {recall(table):.3f} of the exact ten, on 500 windows")


def random_table(count: int, size: int, per_clip: int = 10) -> FeatureTable:
    """Draw clips around a thousand centers, with windows that drift; every hundredth clip has a copy."""
    draws = np.random.default_rng(0)
    clips = count // per_clip
    names = [f"{number - 1:07d}copy" if number % 100 == 1 else f"{number:07d}" for number in range(clips)]
    vectors = {}
    centers = draws.normal(size=(1000, size)).astype(np.float32)
    chosen = draws.integers(1000, size=clips)
    for name in ("video", "audio"):
        x = np.empty((clips * per_clip, size), dtype=np.float32)
        for first in range(0, clips, 10_000):
            block = np.arange(first, min(clips, first + 10_000))
            clip = centers[chosen[block]] + draws.normal(size=(len(block), size)).astype(np.float32)
            windows = clip[:, None] + 0.5 * draws.normal(size=(len(block), per_clip, size)).astype(np.float32)
            again = block[(block % 100 == 1)] - first
            windows[again] = windows[again - 1] + 0.02 * draws.normal(size=windows[again].shape)
            x[first * per_clip : first * per_clip + len(block) * per_clip] = windows.reshape(-1, size)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        vectors[name] = x
    info = TableInfo("embeddings", size, size, 1.0, "0" * 16, "none", "files", "0" * 16, "0", {})
    ids = np.repeat(np.array(names, dtype=object), per_clip)
    starts = np.tile(np.arange(per_clip, dtype=np.float64), clips)
    return FeatureTable(info, ids, ids, starts, starts + 1, vectors["video"], vectors["audio"])


def recall(table: FeatureTable, sample: int = 500) -> float:
    """Return the share of the exact ten nearest that the lists find, by the vectors of the audio."""
    recordings = recordings_of(table)
    found = nearest_neighbors(table.audio, recordings, 10).rows
    rows = np.random.default_rng(1).choice(len(table), sample, replace=False)
    cosines = torch.from_numpy(table.audio[rows]) @ torch.from_numpy(table.audio).T
    cosines[torch.from_numpy(recordings[rows])[:, None] == torch.from_numpy(recordings)] = -2
    exact = cosines.topk(10, dim=1).indices.numpy()
    return float(np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, found[rows], strict=True)]))


def search(count: int, size: int) -> None:
    """Write a table, and measure reading and searching it in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "features.parquet")
        write_feature_table(random_table(count, size), file)
        print(f"{count} windows of {2 * size} numbers: a file of {file.stat().st_size / 1e9:.2f} GB", flush=True)
        subprocess.run([sys.executable, __file__, "read", file], check=True)


def read(file: Path, lists: int = 10) -> None:
    before, began = reset_peak("cpu"), time.process_time()
    table = read_feature_table(file)
    seconds, began = time.process_time() - began, time.process_time()
    for row in range(lists):
        find_moments(table, Query("audio", f"row {row}", {"video": table.audio[row]}), "video", 20)
    each = (time.process_time() - began) / lists
    print(
        f"  read and checked in {seconds:.1f} s of a core, a list in {each:.2f} s; {peak('cpu') / 1e9:.1f} GB at most, "
        f"{before / 1e9:.1f} of them before the table is read"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    cases = parts.add_parser("planted")
    cases.add_argument("folder", type=Path)
    cases.add_argument("--seeds", type=int, nargs="+", default=[1, 2])
    cases.add_argument("--num-workers", type=int, default=2)
    cost = parts.add_parser("scale")
    cost.add_argument("--windows", type=int, nargs="+", default=[100_000, 1_000_000])
    cost.add_argument("--threads", type=int, default=2)
    cost.add_argument("--size", type=int, default=128)
    table = parts.add_parser("search")
    table.add_argument("--windows", type=int, default=1_000_000)
    table.add_argument("--size", type=int, default=128)
    parts.add_parser("read").add_argument("file", type=Path)
    given = parser.parse_args()
    if given.part == "planted":
        planted(given.folder, given.seeds, given.num_workers)
    elif given.part == "search":
        search(given.windows, given.size)
    elif given.part == "read":
        read(given.file)
    else:
        scale(given.windows, given.threads, given.size)


if __name__ == "__main__":
    main()
