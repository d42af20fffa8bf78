"""Batches are copied in a stream of their own; the stream of the training waits for them, and their memory for it."""

import threading
from contextlib import closing

import pytest
import torch
from data_fakes import assert_same_batches, dataset, take

from avssl.core.batch import Batch, BatchIndex
from avssl.data import EvalLoader, TrainLoader
from avssl.data.transfer import SideStream, Transfer, one_behind, tensors, transfer_to

INT16 = torch.tensor([[1, -2], [3, 2**15 - 1]], dtype=torch.int16)


class Runtime:
    """Stands for torch.cuda: notes what happens, in order. Each thread has a current stream, as in torch."""

    def __init__(self):
        self.events, self.own = [], threading.local()

    @property
    def current(self):
        return getattr(self.own, "current", "training")

    def Stream(self, device):  # noqa: N802 - torch's name
        return _Stream(self, "copies")

    def current_stream(self, device):
        return _Stream(self, self.current)

    def stream(self, stream):
        return _Current(self, stream)


class _Stream:
    def __init__(self, runtime, name):
        self.runtime, self.name = runtime, name

    def record_event(self):
        self.runtime.events.append(f"event on {self.name}")
        return _Event(self.runtime, self.name)

    def wait_event(self, event):
        self.runtime.events.append(f"{self.name} waits for {event}")


class _Event:
    def __init__(self, runtime, name):
        self.runtime, self.name = runtime, name

    def synchronize(self):
        self.runtime.events.append(f"the host waits for {self}")

    def __str__(self):
        return f"{self.name} so far"


class _Current:
    def __init__(self, runtime, stream):
        self.runtime, self.stream = runtime, stream

    def __enter__(self):
        self.runtime.own.current = self.stream.name

    def __exit__(self, *error):
        self.runtime.own.current = "training"


@pytest.fixture
def runtime(monkeypatch):
    """Copies to the CPU, with page-locked memory and streams that are pretended."""
    made = Runtime()
    monkeypatch.setattr("avssl.data.transfer.SideStream.empty", staticmethod(Transfer.empty))

    def note(name):
        return lambda self, *rest: made.events.append(f"{name} on {made.current}") or self

    monkeypatch.setattr(torch.Tensor, "pin_memory", note("pin"))
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: made.events.append(f"for {stream.name}"))
    whole = Batch.to
    monkeypatch.setattr(Batch, "to", lambda self, device: note("copy")(whole(self, device)))
    return made


def raw_batch():
    rows = torch.arange(2)
    return Batch(torch.zeros(2, 1, 3, 4, 4, dtype=torch.uint8), INT16, BatchIndex(rows, rows, rows), torch.ones(2, 2))


def test_copies_begin_in_the_side_stream_and_are_awaited_on_the_device(runtime):
    transfer = SideStream(torch.device("cpu"), runtime)
    ready = transfer.start(lambda: runtime.events.append(f"make on {runtime.current}") or raw_batch())
    # Row, group, key and sizes are pinned as well; frames and audio were gathered in pinned memory.
    assert runtime.events == ["make on copies", *["pin on copies"] * 4, "copy on copies", "event on copies"]
    runtime.events.clear()
    batch = ready()
    assert runtime.events == ["training waits for copies so far", *["for training"] * len(tensors(batch))]
    assert len(tensors(batch)) == 6
    assert batch.audio.dtype == torch.float32
    assert torch.equal(batch.audio, INT16 / 2**15)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_of_a_side_stream_are_the_same(runtime, monkeypatch, num_workers):
    expected = take(TrainLoader(dataset(12), 4), 7)
    monkeypatch.setattr("avssl.data.loader.transfer_to", lambda device: SideStream(device, runtime))
    assert_same_batches(take(TrainLoader(dataset(12), 4, num_workers=num_workers), 7), expected)
    assert runtime.events.count("training waits for copies so far") == 7


def test_results_are_awaited_once_the_next_batch_has_begun(runtime):
    transfer, made = SideStream(torch.device("cpu"), runtime), torch.arange(3.0)

    def work():
        for number in range(3):
            runtime.events.append(f"batch {number}")
            yield transfer.fetch({"x": made + number})

    assert [fetched()["x"].tolist() for fetched in one_behind(work())] == [[0, 1, 2], [1, 2, 3], [2, 3, 4]]
    starts = [f"batch {number}" for number in range(3)]
    assert runtime.events == [
        *(starts[0], "event on training", starts[1], "event on training", "the host waits for training so far"),
        *(starts[2], "event on training", *["the host waits for training so far"] * 2),
    ]
    assert Transfer().fetch({"x": made})()["x"].tolist() == [0, 1, 2]
    assert [list(one_behind(range(count))) for count in range(3)] == [[], [0], [0, 1]]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_for_evaluation_take_the_same_way(runtime, num_workers):
    expected = list(EvalLoader(dataset(12), 5))
    transfer = SideStream(torch.device("cpu"), runtime)
    with closing(EvalLoader(dataset(12), 5, num_workers=num_workers).fed(transfer)) as batches:
        found = list(batches)
    assert_same_batches([each.batch for each in found], [batch for batch, _, _ in expected])
    assert [[clip.row for clip in each.clips] for each in found] == [rows.tolist() for _, rows, _ in expected]
    assert runtime.events.count("training waits for copies so far") == 3
    with closing(EvalLoader(dataset(12), 5, num_workers=num_workers).fed(transfer)) as batches:
        next(batches)  # whoever stops early leaves no thread and no process behind
    assert not [thread for thread in threading.enumerate() if thread.name == "avssl-ahead"]


def test_on_the_cpu_there_is_nothing_to_do():
    transfer, batch = transfer_to(torch.device("cpu")), raw_batch()
    assert type(transfer) is Transfer
    assert transfer.start(lambda: batch)() is batch
