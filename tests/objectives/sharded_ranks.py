"""Run by torchrun from test_sharded_memory.py: the steps of memory_ranks.py, a clip on each of four ranks.

Every case is run with a whole memory on every rank, with a divided one, and with a divided one that is stopped, saved
and continued, here and then on two ranks. Results go to FOLDER/rank<r>.pt, or of two ranks to FOLDER/rank<r> of 2.pt.
"""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import memory_ranks
import torch
from memory_ranks import NUM_STEPS, TinyModel, make_objective, train
from torch.nn.parallel import DistributedDataParallel

from avssl.core import distributed
from avssl.core.sharded import full, mesh_of
from avssl.engine import Checkpointer
from avssl.objectives import MemoryRows, Objective
from avssl.objectives.memory_bank import MemoryBank

CASES: dict[str, dict[str, Any]] = {
    "avid softmax": {},
    "avid nce_running": {},
    "robust_xid": {},
    "robust_xid swapped": {},
    "cma softmax": {},
    "cma nce_frozen": {},
    "cma both": {},
    "selavi": {},
    "selavi apart": {},
    "xdc": {},
    "xdc apart": {},
    "cma both, all lists": {"search": "ivf", "search_lists": 4, "search_probes": 4},
}
STOP, NUM_CLIPS = 3, 4
ORDER = [13, 3, 0, 12, 1, 2, 11, 10, 4, 5, 6, 7, 8, 9]


def create(name: str, **changes: Any) -> Objective:
    options = {"sharded": True} | CASES[name] | changes
    return make_objective(name.split(",")[0], **options)


def steps_of(objective: Objective, steps: range, model: Any = None) -> tuple[list[dict[str, Any]], Any]:
    if model is None:
        model = DistributedDataParallel(TinyModel(objective.needs), broadcast_buffers=False)
    share = NUM_CLIPS // distributed.world_size()
    part = slice(distributed.rank() * share, (distributed.rank() + 1) * share)
    return train(model, objective, steps, part), model


def bank_of(objective: Objective) -> MemoryBank:
    return next(part for part in objective.modules() if isinstance(part, MemoryBank))


def whole_state(objective: Objective) -> dict[str, torch.Tensor]:
    return {name: full(value).clone() for name, value in objective.state_dict().items()}


def run(name: str, **options: Any) -> dict[str, Any]:
    objective = create(name, **options)
    steps, _ = steps_of(objective, range(NUM_STEPS))
    return {"steps": steps, "state": whole_state(objective), "rows": len(bank_of(objective).video)}


def resumed(name: str, folder: Path) -> dict[str, Any]:
    """Continue from a checkpoint of shards; one that holds the whole memory is the same."""
    before, after, other = create(name), create(name, seed=5), create(name, seed=5)
    _, model = steps_of(before, range(STOP))
    state = before.state_dict()
    checkpointer = Checkpointer(folder / name, mesh=mesh_of(state.values()))
    checkpointer.save(STOP, {"objective": state, "model": model.module.state_dict()})
    checkpointer.wait()
    distributed.barrier()
    after.load_state_dict(checkpointer.load_latest()["objective"])
    other.load_state_dict(whole_state(before))
    for key, value in after.state_dict().items():
        torch.testing.assert_close(full(other.state_dict()[key]), full(value), rtol=0, atol=0, equal_nan=True)
    steps, _ = steps_of(after, range(STOP, NUM_STEPS), model)
    return {"steps": steps, "state": whole_state(after)}


def continued(name: str, folder: Path) -> dict[str, Any]:
    """Continue the checkpoint of four ranks on two."""
    objective = create(name, seed=5)
    saved = Checkpointer(folder / name, mesh=mesh_of(objective.state_dict().values())).load_latest()
    objective.load_state_dict(saved["objective"])
    model = TinyModel(objective.needs)
    model.load_state_dict(saved["model"])
    wrapped = DistributedDataParallel(model, broadcast_buffers=False)
    return {
        "loaded": whole_state(objective),
        "steps": steps_of(objective, range(STOP, NUM_STEPS), wrapped)[0],
        "rows": len(bank_of(objective).video),
    }


def reordered(name: str, folder: Path) -> dict[str, torch.Tensor]:
    """Load the checkpoint of four ranks with its rows in another order, two of them replaced by new ones."""
    rows, new = memory_ranks.memory_rows(), MemoryRows.from_ids(["new", "newer"])
    keys = torch.cat([rows.id_key[2:], new.id_key])[ORDER]
    with patch.object(memory_ranks, "memory_rows", lambda: MemoryRows(keys, torch.arange(len(keys)))):
        objective = create(name, remap=True)
    before = whole_state(objective)
    saved = Checkpointer(folder / name, mesh=mesh_of(objective.state_dict().values())).load_latest()
    objective.load_state_dict(saved["objective"])
    return {"before": before, "after": whole_state(objective)}


def main(folder: Path) -> None:
    if distributed.world_size() == 2:
        found = {name: continued(name, folder) for name in CASES}
        found["reordered"] = {name: reordered(name, folder) for name in ("cma softmax", "selavi")}
    else:
        found = {
            name: {"whole": run(name, sharded=False), "divided": run(name), "resumed": resumed(name, folder)}
            for name in CASES
        }
    of_two = " of 2" * (distributed.world_size() == 2)
    torch.save(found, folder / f"rank{distributed.rank()}{of_two}.pt")
    distributed.barrier()


if __name__ == "__main__":
    with distributed.process_group("cpu"):
        main(Path(sys.argv[1]))
