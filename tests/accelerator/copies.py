"""Run by test_copies.py: a raw batch is copied to the pretended accelerator; prints what happened as JSON."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
from pretend import DEVICE, FakeTensorMode, Launches, register
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from avssl.core.batch import Batch, BatchIndex
from avssl.data.transfer import SideStream, tensors

NUM_CLIPS = 8


class Blocking(TorchDispatchMode):
    """Counts copies between devices for which the host waits."""

    count = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if operation is torch.ops.aten._to_copy.default and kwargs.get("device") and not kwargs.get("non_blocking"):
            self.count += 1
        return operation(*args, **kwargs)


class Streams:
    """Stands for ``torch.cuda`` and its streams: there is one, and everything is in order."""

    def Stream(self, device: torch.device) -> Any:  # noqa: N802 - torch's name
        return self

    def current_stream(self, device: torch.device) -> Any:
        return self

    def stream(self, stream: Any) -> Any:
        return nullcontext()

    def record_event(self) -> None:
        pass

    def wait_event(self, event: Any) -> None:
        pass


def raw_batch() -> Batch:
    rows = torch.arange(NUM_CLIPS)
    return Batch(
        torch.zeros(NUM_CLIPS, 8, 1, 112, 112, dtype=torch.uint8),
        torch.zeros(NUM_CLIPS, 32_000, dtype=torch.int16),
        BatchIndex(rows, rows, rows),
        torch.full((NUM_CLIPS, 2), 112),
        torch.zeros(NUM_CLIPS, 8, 2, 56, 56, dtype=torch.uint8),
    )


def main() -> None:
    keep, mode, launches, blocking = register(), FakeTensorMode(allow_non_fake_inputs=True), Launches(), Blocking()
    setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # noqa: B010 - page-locked memory needs a driver
    setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)  # noqa: B010

    def fake(value: Any) -> Any:
        return mode.from_tensor(value) if isinstance(value, torch.Tensor) else value

    batch = raw_batch()
    with mode:
        values = {name: fake(value) for name, value in vars(batch).items() if name != "index"}
        batch = Batch(**values, index=BatchIndex(*tree_map(fake, list(vars(batch.index).values()))))
        with launches.counting("copy"), blocking:
            moved = SideStream(torch.device(DEVICE), Streams()).start(lambda: batch)()
    found = {
        "devices": sorted({tensor.device.type for tensor in tensors(moved)}),
        "audio": str(moved.audio.dtype),
        "copies": sum(launches.copies.values()),
        "launches": launches.counts["copy"],
        "blocking": blocking.count,
    }
    print(json.dumps(found))
    assert keep, "libraries must live as long as the device is used"


if __name__ == "__main__":
    main()
