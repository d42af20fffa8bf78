"""The verb ``cka``: how similar the representations of two runs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from avssl.core.claimed_verb import writes_folder
from avssl.core.cpus import decoding_workers
from avssl.core.errors import ConfigError, InputError
from avssl.core.manifest import Manifest, ManifestError, read_manifest
from avssl.core.outputs import FolderKind
from avssl.core.ranges import Cosine, Count, Positive, Seed, Workers, checked
from avssl.core.tables import write_table
from avssl.core.whole_file import write_json
from avssl.data.health.indexing import index_folder
from avssl.data.splits import split_rows
from avssl.engine import choose_device
from avssl.evaluation import MinibatchCKA, correspondence, deletion_effects, find_blocks
from avssl.evaluation.block_deletion import is_inside
from avssl.evaluation.cka import KERNELS, MIN_CLIPS, RBF_FRACTION
from avssl.evaluation.svcca import VARIANCE, svcca_matrix
from avssl.features import block_deletion
from avssl.features.stage_reader import MODALITIES, Stage, StageReader, places_of
from avssl.hub.pretrained import PretrainedModel, from_pretrained_or_random
from avssl.models.blocks import Detail, removable_blocks
from avssl.recipes.cka.words import in_words, source_of
from avssl.reports.plots import draw_similarities


@checked
@writes_folder(FolderKind("a comparison", ("cka.json", "cka.csv", "cka.png")), reads=("run_a", "run_b", "data"))
def cka(
    run_a: str,
    run_b: str,
    *,
    data: Path | str,
    out: Path | str = "cka",
    split: str | None = None,
    overwrite: bool = False,
    max_rows: Count | None = None,
    batch_size: Count = 256,
    max_features: Count = 8192,
    detail: Detail = "stages",
    svcca: bool = False,
    delete_blocks: bool = False,
    rbf_fraction: Positive = RBF_FRACTION,
    block_threshold: Cosine = 0.9,
    seed: Seed = 0,
    num_workers: Workers | None = None,
    device: str = "auto",
    progress: bool = True,
) -> dict[str, Any]:
    """Compare the representations of two runs, stage by stage or block by block (CKA, SVCCA).

    Computes linear and RBF CKA (https://arxiv.org/abs/1905.00414) of every stage of both encoders with every other,
    within and across modalities and runs, in one pass over the data, with the unbiased minibatch estimator
    (https://arxiv.org/abs/2010.15327). The folder gets ``cka.png``, ``cka.csv`` and ``cka.json``.

    The paper's sanity check counts the stages of A whose most similar stage of B is their counterpart. A run of three
    or more consecutive stages of an encoder that are all similar to each other is listed as block structure: with
    ``--detail blocks`` a large network shows whether its depth is used, and ``--delete-blocks`` measures what each
    residual block contributes: inside block structure, deleting one should cost little.

    Args:
        run_a: A run directory, its weights folder, or hf-hub:OWNER/NAME; ``random:RUN`` is the same network with
            random weights.
        run_b: The run to compare with; it may be the same.
        data: Manifest or folder of videos; each run reads it with its own preprocessing.
        out: Folder of the figure and the numbers.
        split: Use only the rows of this split.
        max_rows: Use only this many rows, evenly spaced.
        batch_size: Rows per minibatch of the estimator, >= 4. A last batch of fewer than four is dropped.
        max_features: Largest number of features per clip and stage; larger maps are averaged over a grid. 1 keeps
            their mean.
        detail: Compare the stages of the encoders, or each of their blocks and each layer of the heads.
        svcca: Also compute SVCCA (https://arxiv.org/abs/1706.05806) of the features' means over the cells, beside the
            same with shuffled clips. It needs many more clips than a stage has channels, and keeps them in memory.
        delete_blocks: Also delete each residual block that keeps the shape of its input, one at a time, from each run
            (https://arxiv.org/abs/1605.06431), and print how retrieval between video and audio, and the ten nearest
            clips of each clip, change; mean inside and outside of block structure. Needs ``--detail blocks``, reads
            the data once more for each run, and encodes it once for each block.
        rbf_fraction: RBF bandwidth as a fraction of the median distance.
        block_threshold: Smallest linear CKA between any two stages of a block.
        seed: Random seed of A's random weights; B uses the next seed.
        overwrite: Replace the results of another command.
        num_workers: Decoding processes; default: one per core.
        device: "cpu", "cuda", "cuda:1" ...; "auto" takes a GPU if there is one.
        progress: Show progress bars.

    Returns:
        The contents of ``cka.json``: ``protocol``, ``stages``, ``cka`` (matrices by kernel, null where a stage is
        constant), ``sanity_check`` and ``blocks``; with ``svcca`` also its matrix and its control with shuffled clips,
        and with ``delete_blocks`` also ``deletions``: for each run the scores of the whole network, by chance and
        without each block.

    Raises:
        OutputError: If ``out`` holds something else, or another process writes it.
        HubError: If there is no model at a run.
        ManifestError: If there are fewer than four rows.
        ValueError: If fewer than four rows can be read, or a stage gives NaN.
    """
    if batch_size < MIN_CLIPS:
        raise ConfigError(f"--batch-size ({batch_size}) must be at least {MIN_CLIPS} for the unbiased estimator.")
    if delete_blocks and detail != "blocks":
        raise ConfigError("--delete-blocks compares blocks inside and outside of block structure: add --detail blocks.")
    rows = _rows(data, split, max_rows, block_deletion.MIN_CLIPS if delete_blocks else MIN_CLIPS)
    where = choose_device(device)
    models = {
        name: from_pretrained_or_random(run, where, seed=seed + i)
        for i, (name, run) in enumerate({"A": run_a, "B": run_b}.items())
    }
    if delete_blocks:
        _check_removable(models)
    workers = decoding_workers(num_workers)
    reader = StageReader(
        models,
        rows,
        batch_size=batch_size,
        max_features=max_features,
        detail=detail,
        num_workers=workers,
        progress=progress,
    )
    similarity = MinibatchCKA(rbf_fraction=rbf_fraction)
    stages, means = _read(reader, similarity, with_means=svcca)
    if not similarity.num_clips:
        first = f" The first failure: {reader.failures[0].message}" if reader.failures else ""
        raise InputError(f"{data}: fewer than {MIN_CLIPS} of {len(rows)} rows can be read by both runs.{first}")
    matrices: dict[str, np.ndarray] = {kernel: similarity.matrix(kernel) for kernel in KERNELS}
    places = list(stages.values())
    report: dict[str, Any] = {
        "protocol": {
            "estimator": "CKA from unbiased HSIC, averaged over minibatches",
            "batch_size": min(batch_size, similarity.num_clips),
            "num_batches": similarity.num_batches,
            "num_clips": similarity.num_clips,
            "not_used": len(rows) - similarity.num_clips,
            "clip_list": rows.hash(),
            "rbf_bandwidth": f"{rbf_fraction:g} of the median distance in the first batch",
            "max_features": max_features,
            "block_threshold": block_threshold,
            "runs": {name: {"source": m.source, "weights": m.weights_hash()} for name, m in models.items()},
        },
        "stages": [{**stage._asdict(), **_shape(reader, stage)} for stage in places],
        "cka": {kernel: _numbers(matrix) for kernel, matrix in matrices.items()},
        "sanity_check": _sanity_checks(places, matrices),
        "blocks": _blocks(places, matrices["linear"], block_threshold),
    }
    if svcca:
        report["svcca"], matrices["svcca"] = _svcca(means, seed)
    if delete_blocks:
        report["deletions"] = [
            _deletions(name, block_deletion.delete_blocks(model, rows, num_workers=workers, progress=progress), report)
            for name, model in models.items()
        ]
    _write(Path(out), report, places, matrices)
    print(in_words(report))
    print(f"figure and numbers: {out}")
    return report


def _rows(data: Path | str, split: str | None, max_rows: int | None, least: int) -> Manifest:
    """Return the rows of a manifest or a folder."""
    manifest = index_folder(data, progress=True).manifest if Path(data).is_dir() else read_manifest(data)
    if split is not None:
        manifest = manifest.select(split_rows(manifest, "split", split))
    if max_rows is not None and max_rows < len(manifest):
        manifest = manifest.select(np.linspace(0, len(manifest) - 1, max(max_rows, 0)).round().astype(np.int64))
    if len(manifest) < least:
        what = "CKA needs" if least == MIN_CLIPS else "--delete-blocks needs"
        raise ManifestError(f"{data}: {len(manifest)} rows, but {what} at least {least}.")
    return manifest


def _check_removable(models: Mapping[str, PretrainedModel]) -> None:
    """Check that there is a block to delete."""
    encoders = [getattr(m.model, f"{modality}_encoder") for m in models.values() for modality in MODALITIES]
    if not any(map(removable_blocks, encoders)):
        raise ConfigError(
            "--delete-blocks: no encoder of these runs has a residual block that keeps the shape of its input, so none "
            "can be deleted. Leave the option out, or compare deeper encoders (more --model.video.num_blocks)."
        )


def _read(
    reader: StageReader, similarity: MinibatchCKA, *, with_means: bool
) -> tuple[dict[str, Stage], list[dict[str, Tensor]]]:
    """Add all batches to a similarity; return the stages by name, and each batch's means over the cells if wanted."""
    stages: dict[str, Stage] = {}
    means: list[dict[str, Tensor]] = []
    for batch in reader:
        stages = {str(stage): stage for stage in batch.features}
        if len(batch.rows) >= MIN_CLIPS:
            similarity.update({name: batch.features[stage] for name, stage in stages.items()})
            if with_means:
                means.append({name: reader.cell_mean(stage, batch.features[stage]) for name, stage in stages.items()})
    return stages, means


def _shape(reader: StageReader, stage: Stage) -> dict[str, list[int]]:
    whole, kept = reader.shapes[stage]
    return {"shape": list(whole), "kept": list(kept)}


def _number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return None if value != value else round(value, 6)


def _numbers(matrix: np.ndarray) -> list[list[float | None]]:
    return [[_number(value) for value in row] for row in matrix.tolist()]


def _sanity_checks(stages: Sequence[Stage], matrices: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return one check per modality and kernel if both runs have the same stages."""
    checks: list[dict[str, Any]] = []
    for modality in MODALITIES:
        a, b = (places_of(stages, name, modality) for name in ("A", "B"))
        if [stages[i].name for i in a] != [stages[i].name for i in b]:
            continue
        for kernel, matrix in matrices.items():
            across = matrix[np.ix_(a, b)]
            shares = {"a_to_b": correspondence(across), "b_to_a": correspondence(across.T)}
            checks.append({"modality": modality, "kernel": kernel, **shares, "chance": 1 / len(a), "stages": len(a)})
    return checks


def _svcca(batches: Sequence[Mapping[str, Tensor]], seed: int) -> tuple[dict[str, Any], np.ndarray]:
    """Return the SVCCA of every pair of stages with its control, and its matrix."""
    features = {name: torch.cat([batch[name] for batch in batches]).cpu() for name in batches[0]}
    order = np.random.default_rng(seed).permutation(len(next(iter(features.values()))))
    matrix, directions = svcca_matrix(features)
    control, _ = svcca_matrix(features, order=order)
    about = {
        "variance": VARIANCE,
        "directions": directions,
        "matrix": _numbers(matrix),
        "shuffled_clips": _numbers(control),
    }
    return about, matrix


def _blocks(stages: Sequence[Stage], linear: np.ndarray, threshold: float) -> list[dict[str, Any]]:
    """Return runs of consecutive stages of one encoder that are all similar."""
    found: list[dict[str, Any]] = []
    for model, modality in product(("A", "B"), MODALITIES):
        places = places_of(stages, model, modality)
        inside = linear[np.ix_(places, places)]
        for start, stop in find_blocks(inside, threshold):
            names = [stages[i].name for i in places[start:stop]]
            least = float(inside[start:stop, start:stop].min())
            about = {"model": model, "modality": modality, "first": names[0], "last": names[-1]}
            found.append({**about, "rows": [places[start], places[stop - 1] + 1], "least_cka": round(least, 6)})
    return found


def _deletions(name: str, measured: block_deletion.BlockDeletions, report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores without each block of a run, and their mean change inside and outside of its found blocks."""
    stages = [(stage["model"], stage["modality"]) for stage in report["stages"]]
    each: list[dict[str, Any]] = []
    effects: list[dict[str, Any]] = []
    for modality, deleted in measured.deleted.items():
        first = stages.index((name, modality))
        names = [stage["name"] for stage in report["stages"] if (stage["model"], stage["modality"]) == (name, modality)]
        own = [block for block in report["blocks"] if (block["model"], block["modality"]) == (name, modality)]
        found = [(start - first, stop - first) for start, stop in (block["rows"] for block in own)]
        for block, scores in deleted.items():
            about = {"modality": modality, "block": block, "inside": is_inside(names.index(block), found)}
            each.append(about | {key: _number(value) for key, value in scores.items()})
        for side, mean in deletion_effects(names, found, measured.whole, deleted).items():
            change = {key: _number(value) for key, value in mean.change.items()}
            effects.append({"modality": modality, "side": side, "num_blocks": mean.num_blocks, "change": change})
    about_run = {"model": name, "num_clips": measured.num_clips, "whole": measured.whole, "chance": measured.chance}
    return about_run | {"shuffled_R@10": measured.shuffled, "blocks": each, "effects": effects}


def _write(out: Path, report: Mapping[str, Any], stages: Sequence[Stage], matrices: Mapping[str, np.ndarray]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "cka.json", report)
    write_table(_long_table(stages, matrices), out / "cka.csv")
    groups = {f"{m} {modality}": len(places_of(stages, m, modality)) for m, modality in product("AB", MODALITIES)}
    draw_similarities(
        matrices,
        [stage.name for stage in stages],
        groups,
        out / "cka.png",
        title=("unbiased CKA" + (" and SVCCA" if "svcca" in matrices else "") + " in hundredths   ")
        + "   ".join(f"{name}: {source_of(report, name)}" for name in "AB"),
        blocks={"linear": [tuple(block["rows"]) for block in report["blocks"]]},
    )


def _long_table(stages: Sequence[Stage], matrices: Mapping[str, np.ndarray]) -> pa.Table:
    """Return one row per kernel and ordered pair of stages; empty where a stage is constant."""
    lines = [
        (kernel, *stages[i], *stages[j], _number(float(value)))
        for kernel, matrix in matrices.items()
        for (i, j), value in np.ndenumerate(matrix)
    ]
    names = ["kernel", "model_1", "modality_1", "stage_1", "model_2", "modality_2", "stage_2", "cka"]
    return pa.table({name: [line[i] for line in lines] for i, name in enumerate(names)})
