"""Peak memory of a rank for a ViT-B pair: DDP against FSDP2, with and without activation checkpointing.

``python benchmarks/fsdp.py [--ranks 4 8] [--clips 4]``: a few minutes on one core, no GPU. Each row is a whole step
(forward, loss, backward, AdamW) of rank 0, on fake tensors, which have sizes and no values, in a process group that
sends nothing. A dispatch mode counts the bytes of all storages that are alive. DDP is the whole model, whose
gradients stay in the buckets that ranks exchange.
"""

from __future__ import annotations

import argparse
import gc
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.testing._internal.distributed.fake_pg import FakeStore
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from avssl.core.sharded import local_part
from avssl.engine import Precision, create_optimizer
from avssl.engine.protocols import Task
from avssl.engine.sharding import shard
from avssl.models import AVModel, create_encoder, create_head
from avssl.models.recompute import recompute_blocks

GIB = 2**30


class PeakMemory(TorchDispatchMode):
    """Context that counts the bytes of all living storages, and keeps their highest sum."""

    def __init__(self, *tensors: Tensor) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self.now, self.peak = 0, 0
        self._resize = torch.UntypedStorage.resize_
        for tensor in tensors:
            self._see(local_part(tensor).untyped_storage())

    def __enter__(self) -> PeakMemory:
        def resize(storage: torch.UntypedStorage, size: int) -> torch.UntypedStorage:  # as FSDP frees weights
            self._resize(storage, size)
            self._see(storage)
            return storage

        torch.UntypedStorage.resize_ = resize  # type: ignore[assignment, method-assign]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.UntypedStorage.resize_ = self._resize  # type: ignore[method-assign]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(local_part(leaf).untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            weakref.finalize(storage, self._forget, key)
        self.now += storage.nbytes() - self._sizes.get(key, 0)
        self._sizes[key] = storage.nbytes()
        self.peak = max(self.peak, self.now)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)


class Pair(Task):
    """A ViT-B pair with the loss of a contrast within this rank's clips."""

    def __init__(self) -> None:
        super().__init__()
        video = create_encoder("vit_frames", modality="video")
        audio = create_encoder("vit_spectrogram", modality="audio")
        self.model = AVModel(video, audio, *(create_head("mlp", 768, out_features=512, hidden=1024) for _ in range(2)))


def step_memory(mesh: DeviceMesh | None, recompute: bool, precision: Precision, num_clips: int) -> tuple[int, int]:
    """Return the bytes of one rank: what a step leaves (weights, gradients, optimizer), and its peak."""
    task = Pair().train()
    if recompute:
        recompute_blocks(task.model)
    if mesh is not None:
        shard(task, torch.device("cpu"), precision, mesh)
    handle = precision.apply(task.model, "cpu")
    optimizer = create_optimizer(task.model, "adamw", lr=1e-3, weight_decay=0.05)
    inputs = torch.empty(num_clips, 3, 8, 224, 224), torch.empty(num_clips, 1, 1024, 128)
    kept = 0
    with PeakMemory(*task.model.parameters()) as memory:
        for _ in range(2):  # the second has the state of the optimizer from its start
            found = task.model(*inputs)
            nn.functional.cross_entropy(found.video @ found.audio.T, torch.arange(num_clips)).backward()
            del found
            optimizer.step()
            gc.collect()
            kept = memory.now
            optimizer.zero_grad(set_to_none=mesh is not None)  # the memory of buckets is never freed
    handle.remove()
    return kept, memory.peak


def with_fake_ranks(num_ranks: int, run: Callable[[DeviceMesh], Any]) -> Any:
    """Return the result of a function as rank 0 of a group that sends nothing."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=num_ranks)
    try:
        mesh = init_device_mesh("cpu", (num_ranks,))
        with FakeTensorMode():
            return run(mesh)
    finally:
        dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[4], help="Numbers of ranks.")
    parser.add_argument("--clips", type=int, default=4, help="Clips of 8 frames and 10 s of audio of one rank.")
    chosen = parser.parse_args()
    print(f"ViT-B pair, {chosen.clips} clips of 8 x 224 x 224 and 1024 x 128 a rank, fp32, AdamW; GiB of one rank\n")
    print(f"{'ranks':>5}  {'parallel':8}  {'checkpointing':13}  {'kept between steps':>18}  {'peak':>6}")
    for num_ranks in chosen.ranks:
        for sharded in (False, True):
            for recompute in (False, True):
                kept, peak = with_fake_ranks(
                    num_ranks,
                    lambda mesh, s=sharded, r=recompute: step_memory(mesh if s else None, r, Precision(), chosen.clips),
                )
                names = f"{'fsdp' if sharded else 'ddp':8}  {'block' if recompute else 'none':13}"
                print(f"{num_ranks:5}  {names}  {kept / GIB:18.2f}  {peak / GIB:6.2f}", flush=True)


if __name__ == "__main__":
    main()
