"""Run by torchrun from test_sharding.py: tiny towers trained in shards; results in FOLDER, checkpoints too.

On four ranks everything is trained and compared; two ranks continue what four, and one process, have saved.
"""

import sys
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch._dynamo.backends.registry import lookup_backend

from avssl.core import distributed
from avssl.core.batch import Batch, BatchIndex
from avssl.engine import (
    Checkpointer,
    LoopSettings,
    Precision,
    WarmupCosine,
    WeightAverage,
    create_optimizer,
    fit,
    sharded_checkpoint,
)
from avssl.engine.checkpoint import load_checkpoint
from avssl.engine.compilation import compiled
from avssl.engine.sharding import shard, sharded_units, whole
from avssl.models import AVModel, LogitScale, create_encoder, create_head, objective_heads
from avssl.models.recompute import recompute_blocks
from avssl.objectives import create_objective
from avssl.training.tasks import PretrainTask

NUM_CLIPS = 8
VIT = {"width": 16, "num_blocks": 2, "num_heads": 2}
INFO_NCE = ("info_nce", {"temperature": 0.2, "pooling": "pooled", "learn_temperature": True})
VARIANTS: dict[str, dict[str, Any]] = {
    "momentum, sync": {"objective": ("byol", {"predictor_hidden": 16, "momentum": 0.7}), "head": "mlp_bn", "ema": 0.9},
    "convolutions, sync": {"objective": INFO_NCE, "towers": "small", "head": "mlp_bn"},
    "frozen, chunks": {"objective": INFO_NCE, "frozen": True, "chunk_size": 2},
    "recomputed": {"objective": INFO_NCE, "recompute": True},
    "bf16": {"objective": INFO_NCE, "precision": "bf16"},
}


WITHOUT_SHARDS = ("momentum, sync", "bf16")
IN_PROGRAMS = ("momentum, sync", "convolutions, sync", "recomputed", "bf16")


class Plain(nn.Module):
    """Raw batch to a transformed one, the shortest way."""

    def forward(self, batch: Batch) -> Batch:
        return Batch(batch.video.float().transpose(1, 2) / 255, batch.audio.unflatten(1, (1, 16, 16)), batch.index)

    def set_output(self, *format: Any) -> None:
        pass


def clips(number: int, rows: slice) -> Batch:
    """Return rows of batch ``number``."""
    generator = torch.Generator().manual_seed(number)
    video = torch.randint(0, 256, (NUM_CLIPS, 2, 3, 16, 16), dtype=torch.uint8, generator=generator)[rows]
    audio = torch.randn(NUM_CLIPS, 256, generator=generator)[rows]
    index = BatchIndex(*(torch.arange(NUM_CLIPS)[rows] for _ in range(3)))
    return Batch(video, audio, index, torch.full((len(video), 2), 16))


class Loader:
    """This rank's rows of each batch."""

    steps_per_epoch = 4

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self):
        share = NUM_CLIPS // distributed.world_size()
        while True:
            self.position += 1
            yield clips(self.position, slice(distributed.rank() * share, (distributed.rank() + 1) * share))

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class Monitor:
    """Looks at the embeddings of a model by its parts, as the retrieval monitor does."""

    every_steps = 3

    def __init__(self) -> None:
        self.seen: list[float] = []

    def run(self, task):
        task.eval()
        batch = task.transform(clips(0, slice(None)))
        with torch.no_grad():
            self.seen.append(float(task.model.embed_video(batch.video).norm()))
        return {}

    def observe(self, record):
        pass

    def state_dict(self):
        return {"seen": list(self.seen)}

    def load_state_dict(self, state):
        self.seen = list(state["seen"])


def create_task(variant: str) -> PretrainTask:
    chosen = VARIANTS[variant]
    torch.manual_seed(0)
    if chosen.get("towers") == "small":
        video, audio = create_encoder("small_video", width=4), create_encoder("small_audio", width=4)
    else:
        video = create_encoder("vit_frames", modality="video", patch=8, grid=2, **VIT)
        audio = create_encoder("vit_spectrogram", modality="audio", patch=8, num_columns=2, num_rows=2, **VIT)
    objective = create_objective(chosen["objective"][0], **chosen["objective"][1])
    needs = objective.needs
    heads = [
        create_head(chosen.get("head", "mlp"), encoder.num_features, out_features=6, hidden=12)
        for encoder in (video, audio)
    ]
    model = AVModel(
        video,
        audio,
        *heads,
        LogitScale(needs.logit_scale, needs.logit_bias) if needs.logit_scale else None,
        objective_heads=objective_heads(needs, 6),
    )
    if chosen.get("frozen"):  # the patches and the first block of a tower, a part of the rest and a whole unit
        for part in (video.patches, video.block1):
            part.requires_grad_(False)
    if chosen.get("recompute"):
        assert recompute_blocks(model) == 4
    return PretrainTask(Plain(), model, objective, "sync", chosen.get("chunk_size")).train()


def train(
    variant: str,
    steps: int,
    folder: Path | None = None,
    *,
    sharded: bool = True,
    resume: bool = False,
    crash: bool = False,
    optimizer: str = "sgd",
):
    """Train for some steps; return the task, the average, the monitor and the result."""
    task = create_task(variant)
    if crash:
        task.on_epoch_start = lambda number: _crash() if number else None
    precision = Precision(VARIANTS[variant].get("precision", "fp32"))
    mesh = shard(task, torch.device("cpu"), precision) if sharded and distributed.world_size() > 1 else None
    decay = VARIANTS[variant].get("ema")
    average = None if decay is None else WeightAverage(task.model, decay)
    monitor = Monitor()
    result = fit(
        task,
        Loader(),
        # Not adamw, whose first steps make noise of gradients that are 0 but for rounding as large as any other.
        create_optimizer(task.model, optimizer, lr=0.1, weight_decay=0.05),
        WarmupCosine(0.1 if optimizer == "sgd" else 3e-3, 8),
        settings=LoopSettings(steps, 4, log_every=2, checkpoint_every=3, grad_clip=1.0, precision=precision),
        checkpointer=None if folder is None else Checkpointer(folder, mesh=mesh),
        monitors=[monitor],
        average=average,
        progress=False,
        resume=resume,
    )
    return task, average, monitor, result


def _crash() -> None:
    raise ZeroDivisionError


def numbers(task, average, monitor, result) -> dict[str, Any]:
    """Return the whole state of a training."""
    found = {
        "task": whole(task.state_dict()),
        "average": None if average is None else whole(average.state_dict()),
        "seen": monitor.seen,
        "metrics": {name: value for name, value in result.metrics.items() if name != "samples_per_second"},
    }
    return found


SAVED = "momentum, sync"
"""The variant with everything that a checkpoint holds."""


def compare(folder: Path) -> dict[str, Any]:
    found = {}
    for variant in VARIANTS:
        found[variant] = numbers(*train(variant, 4))
    for variant in WITHOUT_SHARDS:
        found[f"{variant}, ddp"] = numbers(*train(variant, 4, sharded=False))
    return found


def save_and_resume(folder: Path) -> dict[str, Any]:
    # Saved after step 3 in the background, stopped in step 5 and continued, equals 7 steps bit for bit.
    straight = numbers(*train(SAVED, 7, folder / "straight", optimizer="adamw"))
    with pytest.raises(ZeroDivisionError):
        train(SAVED, 7, folder / "parts", optimizer="adamw", crash=True)
    assert [path.name for path in Checkpointer(folder / "parts").files()] == ["step-000000003"]
    resumed = train(SAVED, 7, folder / "parts", optimizer="adamw", resume=True)
    saved = load_checkpoint(folder / "parts" / "step-000000007")  # whole, as a release needs it
    for name, value in whole(resumed[0].state_dict()).items():
        assert value is None or torch.equal(saved["task"][name], value), name
    with pytest.raises(ZeroDivisionError):  # for two ranks to continue
        train(SAVED, 7, folder / "of 4", crash=True)
    return {"straight": straight, "resumed": numbers(*resumed)}


def steps_in_programs(variant: str, backend: Any) -> dict[str, Any]:
    """Return loss and whole gradient of two steps without an update; a backend makes programs of the units."""
    task, precision = create_task(variant), Precision(VARIANTS[variant].get("precision", "fp32"))
    shard(task, torch.device("cpu"), precision)
    steps: dict[str, Any] = {}
    what = "none" if backend is None else "model"
    with precision.applied_to(task, "cpu"), compiled(task, what, backend=backend or "inductor"):
        for number, batch in enumerate(islice(Loader(), 2)):
            task.zero_grad()
            terms = task(batch)
            terms.total.backward()
            steps[f"loss {number}"] = terms.total.detach()
            gradients = {name: p.grad for name, p in task.model.named_parameters() if p.requires_grad}
            steps |= {f"{name} {number}": value for name, value in whole(gradients).items() if value is not None}
            if backend is not None:
                steps[f"programs {number}"] = backend.made
    assert not any("forward" in vars(unit) for unit in sharded_units(task.model)) or VARIANTS[variant].get("recompute")
    return steps


class Counted:
    """A backend of torch.compile that counts the programs it makes."""

    def __init__(self) -> None:
        self.made = 0

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.made += 1
        return lookup_backend("aot_eager")(*arguments, **options)  # g++ takes minutes for its kernels


def fail(folder: Path) -> None:
    """A write that fails on one rank is an error on all, and leaves the checkpoint before it."""
    task = create_task(SAVED)
    mesh = shard(task, torch.device("cpu"), Precision())
    checkpointer = Checkpointer(folder / "failed", mesh=mesh)
    checkpointer.save(1, {"task": task.state_dict()})
    checkpointer.wait()
    (folder / "failed" / ".step-000000002.0123456789ab.avssl-tmp").mkdir(exist_ok=True)  # left by a kill
    distributed.barrier()
    with pytest.MonkeyPatch.context() as patch:
        if distributed.rank() == 1:
            patch.setattr(sharded_checkpoint, "checksum", lambda file: Path("/no/such/file").stat())
        checkpointer.save(2, {"task": task.state_dict()})
        with pytest.raises(OSError, match=r"the checkpoint could not be written .*step-000000002"):
            checkpointer.wait()
    distributed.barrier()
    assert [path.name for path in (folder / "failed").iterdir()] == ["step-000000001"]


def main(folder: Path) -> None:
    if distributed.world_size() == 2:
        warnings.simplefilter("ignore")  # of the other number of ranks
        found = {name: numbers(*train(SAVED, 7, folder / name, resume=True)) for name in ("of 4", "of 1")}
        found["plain"] = {variant: steps_in_programs(variant, None) for variant in IN_PROGRAMS}
        found["compiled"] = {variant: steps_in_programs(variant, Counted()) for variant in IN_PROGRAMS}
    else:
        found = compare(folder) | save_and_resume(folder)
        fail(folder)
    if distributed.is_main():
        torch.save(found, folder / f"found{distributed.world_size()}.pt")


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
