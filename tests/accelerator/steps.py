"""Launches of a training step of every objective by part, and of inference, counted on the pretended accelerator.

Without arguments, prints the table of launches, which launches.txt holds: python tests/accelerator/steps.py. With
``> tests/accelerator/launches.txt`` behind it, that file is renewed after a change that is meant to change them.
``--collectives`` prints what the objectives exchange between ranks, beside DDP's gradients: collectives.txt.
``--where`` prints the files of avssl that make the launches of each part: steps.py --where --configs FILE.

Run by test_steps.py with the name of a JSON file. The process is number 3 of 128, unless ``--world-size`` says
otherwise. A step that raises is reported with the line of avssl.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import torch
import torch.distributed as dist
from made_up import CONFIGS, NUM_CLIPS, everything, made_up_batch, ready_task, small, supervised_tasks, windows_of
from pretend import DEVICE, FakeTensorMode, Launches, move, register
from torch.testing._internal.distributed.fake_pg import FakeStore

from avssl.config import Config, config_from_dict
from avssl.core.batch import Batch, BatchIndex
from avssl.core.needs import TemporalWindows
from avssl.engine import Precision
from avssl.engine.meter import Meter
from avssl.localization.similarity import cell_similarity, maps_at, smooth
from avssl.models import ClipEncoder, StagePooling
from avssl.training.build import build_optimizer
from avssl.training.monitors.clips import FixedClips, encode_clips

PARTS = ("transforms", "model", "loss", "backward", "optimizer", "after_step")
HOST = torch.ones(3)
PRECISION = Precision("bf16", "channels_last")
ON_VIEWS = Precision("bf16", "channels_last_2d")


def count_inference(mode: FakeTensorMode) -> dict[str, dict[str, Any]]:
    """Launches of what runs on a trained model: heat maps, feature extraction and the embeddings of monitors."""
    config = config_from_dict({"objective": {"name": "dense_av"}})
    task = ready_task(config).eval()
    with mode:
        for module in {task, *task.networks()}:
            move(module)
        batch = on_device(made_up_batch(config, TemporalWindows()), mode)
        encoder = ClipEncoder(task.model, task.transform, PRECISION)

        def maps() -> None:
            cells, queries = (
                encoder.cells(encoder.model_input(batch, "video")),
                encoder.queries(encoder.model_input(batch, "audio")),
            )
            similarity = cell_similarity(cells, queries, encoder.num_heads)
            smooth(maps_at(similarity.best(), torch.zeros(NUM_CLIPS, device=DEVICE), 4))
            similarity.by_head()

        def features() -> None:
            for modality in ("video", "audio"):
                encoding = encoder.encode_batch(batch, modality, detail="stages")
                encoding.vectors("features"), encoding.vectors("embeddings")
                StagePooling().pool_stages(modality, encoding.stages)
                encoder.instants(modality, encoder.model_input(batch, modality))

        def monitor() -> None:
            encode_clips(task, FixedClips(lambda: [batch]), "embeddings", PRECISION)

        return {run.__name__: counted(run) for run in (maps, features, monitor)}


def counted(run: Callable[[], None]) -> dict[str, Any]:
    """Launches of the second call of a function, and its copies between host and device."""
    launches = Launches()
    for _ in range(2):
        launches.clear()
        with launches.counting("inference"), torch.no_grad():
            run()
    return {"launches": dict(launches.counts), "copies": dict(launches.copies)}


def count_pretraining(config: Config, mode: FakeTensorMode, precision: Precision = PRECISION) -> dict[str, Any]:
    return count_step(ready_task(config), config, mode, precision)


def count_step(task: Any, config: Config, mode: FakeTensorMode, precision: Precision = PRECISION) -> dict[str, Any]:
    """Launches of each part of the third step, and its copies between host and device."""
    launches = Launches()
    with mode:
        for module in {task, *task.networks()}:
            move(module)
        launches.count_calls(task.transform, "transforms")
        for network in task.networks():
            launches.count_calls(network, "model")
        batch = on_device(made_up_batch(config, windows_of(task)), mode)
        optimizer, meter = build_optimizer(config, task), Meter(torch.device(DEVICE))
        with precision.applied_to(task, DEVICE):
            for _ in range(3):  # the first notes which random numbers the second makes and keeps the columns of
                launches.clear()
                with launches.counting("loss"):
                    terms = task(batch)
                with launches.counting("backward"):
                    terms.total.backward()
                with launches.counting("optimizer"):
                    norm = torch.nn.utils.clip_grad_norm_(task.model.parameters(), 1.0)
                    optimizer.step()
                    optimizer.zero_grad()
                with launches.counting("after_step"):
                    task.after_step()
                    meter.add(terms, norm)
    return {
        "launches": dict(launches.counts),
        "copies": dict(launches.copies),
        "collectives": dict(launches.collectives),
        "num_bytes": launches.num_bytes,
        "files": dict(launches.files),
    }


def on_device(batch: Batch, mode: FakeTensorMode) -> Batch:
    return Batch(**{name: to_device(mode, value) for name, value in vars(batch).items()})


def to_device(mode: FakeTensorMode, value: Any) -> Any:
    if isinstance(value, BatchIndex):
        return BatchIndex(*(to_device(mode, x) for x in vars(value).values()))
    return mode.from_tensor(value).to(DEVICE) if isinstance(value, torch.Tensor) else value


def failure(error: Exception) -> str:
    frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_tb(error.__traceback__) if "/avssl/" in f.filename]
    return f"{type(error).__name__}: {str(error)[:300]} at {frames[-2:]}"


def count_mistakes(mode: FakeTensorMode) -> dict[str, Any]:
    """Return the mistakes that the tool detects: the host waits, or devices are mixed."""
    found, launches = {}, Launches()
    mistakes = {
        "a number is read": lambda x: x.sum().item(),
        "the shape depends on data": lambda x: x[x > 0],
        "two devices": lambda x: x + torch.ones(3),
        "a buffer on the host": lambda x: x + HOST,
    }
    with mode, launches.counting("tensor of numbers"):
        x = torch.ones(3, device=DEVICE) * torch.tensor([1.0, 2.0, 3.0], device=DEVICE)
        for name, mistake in mistakes.items():
            try:
                mistake(x)
            except Exception as error:
                found[name] = type(error).__name__
    return {"mistakes": found, "copies": dict(launches.copies)}


def as_rank(number: int, world_size: int) -> None:
    """Stand for one process of many, whose messages go nowhere."""
    dist.init_process_group("fake", store=FakeStore(), rank=number, world_size=world_size)


def count_all(configs: list[Path]) -> dict[str, Any]:
    mode = FakeTensorMode(allow_non_fake_inputs=True)  # one, because constants are kept
    results: dict[str, Any] = {"tool": count_mistakes(mode)}
    runs: dict[str, Callable[[], dict[str, Any]]] = {}
    for name, task in supervised_tasks().items():
        runs[name] = partial(count_step, task.train(), config_from_dict({}), mode)
    for name, config in {**everything(), **{path.stem: small(path) for path in configs}}.items():
        runs[name] = partial(count_pretraining, config, mode)
    avid = config_from_dict({"model": {"video": {"name": "avid_r2plus1d_10"}}})
    # 8 copies on views are of the pretended device, whose 3-D convolutions (stem, shortcuts) forget the layout.
    for name, precision in {"AVID's networks": PRECISION, "on 2-D views": ON_VIEWS}.items():
        runs[name] = partial(count_pretraining, avid, mode, precision)
    for name, run in runs.items():
        try:
            results[name] = run()
        except Exception as error:
            results[name] = {"error": failure(error)}
    try:
        results |= count_inference(mode)
    except Exception as error:
        results["inference"] = {"error": failure(error)}
    return results


def table(results: dict[str, Any]) -> str:
    """Return launches by run and part, and copies between host and device, as lines of columns."""
    parts = (*PARTS, "inference")
    lines = [f"{'launches of a step, bf16':<28}" + "".join(f"{part:>12}" for part in (*parts, "copies"))]
    for name, result in results.items():
        if "launches" in result:
            numbers = [result["launches"].get(part, 0) for part in parts] + [sum(result["copies"].values())]
            lines.append(f"{name:<28}" + "".join(f"{number:>12}" for number in numbers))
        elif "error" in result:
            lines.append(f"{name:<28}{result['error']}")
    return "\n".join(lines)


def collectives_table(results: dict[str, Any]) -> str:
    """Return collectives of a step by part, and their bytes, as lines of columns."""
    parts = ("loss", "backward", "after_step")
    lines = [f"{'collectives of a step':<28}" + "".join(f"{part:>12}" for part in (*parts, "KiB"))]
    for name, result in results.items():
        if result.get("collectives"):
            numbers = [result["collectives"].get(part, 0) for part in parts] + [round(result["num_bytes"] / 1024)]
            lines.append(f"{name:<28}" + "".join(f"{number:>12}" for number in numbers))
    return "\n".join(lines)


def files_table(results: dict[str, Any]) -> str:
    """Return launches by run, part and file of avssl, most first."""
    lines = []
    for name, result in results.items():
        for place, count in sorted(result.get("files", {}).items(), key=lambda item: -item[1]):
            lines.append(f"{name:<28}{place:<52}{count:>6}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, nargs="?", help="JSON file to write; without it, the table is printed")
    parser.add_argument("--world-size", type=int, default=128, help="processes, of which this is number 3")
    parser.add_argument("--collectives", action="store_true", help="print the table of collectives.txt instead")
    parser.add_argument("--where", action="store_true", help="print the launches of each part by file of avssl instead")
    parser.add_argument("--configs", type=Path, nargs="*", default=CONFIGS, help="those of configs/soundingshapes_*")
    options = parser.parse_args()
    keep = register()
    if options.world_size > 1:
        as_rank(3, options.world_size)
    results = count_all(options.configs)
    if options.where:
        print(files_table(results))
    elif options.output is None:
        print(collectives_table(results) if options.collectives else table(results))
    else:
        options.output.write_text(json.dumps(results, indent=1))
    assert keep, "libraries must live as long as the device is used"


if __name__ == "__main__":
    main()
