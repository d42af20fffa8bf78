"""Run by torchrun from test_distributed.py: what each rank sees, saved to FOLDER/rank<r>.pt."""

import sys
from pathlib import Path

import torch

from avssl.core import distributed

_KINDS = ((2, torch.float32), (1, torch.bfloat16))


def main(folder: Path) -> None:
    device = distributed.start("cpu")
    assert distributed.start("cpu") == device  # joining twice keeps the group
    rank = distributed.rank()

    # Two rows a rank: row i of rank r is 10 r + i.
    rows = torch.tensor([[10.0 * rank], [10.0 * rank + 1]], requires_grad=True)
    gathered = distributed.gather_with_grad(rows)
    # L_r = Σ_j weight[r, j] * gathered_j², so that every rank asks something else of every row.
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0], [50.0, 60.0, 70.0, 80.0]])[rank]
    (weight @ gathered[:, 0] ** 2).backward()

    # A view whose memory is not contiguous, and 3 dimensions.
    strided = distributed.gather_with_grad(torch.arange(12.0).reshape(3, 2, 2).transpose(0, 1) + 100 * rank)

    # Several tensors of different types and lengths in one exchange; the last has no gradient.
    one, two = (torch.full((count, 3), rank + 1.0, dtype=dtype, requires_grad=True) for count, dtype in _KINDS)
    ones, twos, numbers, flags = distributed.gather_together(one, two, torch.arange(3) + rank, torch.tensor([rank > 0]))
    ((rank + 1) * ones.square().sum() + twos.sum()).backward()

    scores = torch.arange(8.0).view(2, 4) + 10 * rank
    scores.requires_grad_()
    columns = distributed.own_columns_of_all(scores)
    (torch.tensor([[1.0], [2.0], [3.0], [4.0]]) * columns).sum().backward()

    result = {
        "together": [ones.detach(), twos.detach(), numbers, flags],
        "together_gradients": [one.grad, two.grad],
        "own_rows": distributed.own_rows(ones.detach()),
        "scores": scores.detach(),
        "columns": columns.detach(),
        "columns_gradient": scores.grad,
        "rank": rank,
        "world_size": distributed.world_size(),
        "is_main": distributed.is_main(),
        "is_initialized": distributed.is_initialized(),
        "device": str(device),
        "gathered": gathered.detach(),
        "gradient": rows.grad,
        "strided": strided,
        "mean": distributed.mean(torch.tensor([1.0, 5.0]) * (rank + 1)),
        "any_one": distributed.any_true(rank == 1),
        "any_none": distributed.any_true(False),
        "from_0": distributed.broadcast_object({"folder": f"runs/of_{rank}"}),
        "from_1": distributed.broadcast_object(f"rank {rank}", source=1),
    }
    distributed.barrier()
    torch.save(result, folder / f"rank{rank}.pt")
    distributed.stop()
    assert not distributed.is_initialized()
    assert distributed.world_size() == 1


if __name__ == "__main__":
    main(Path(sys.argv[1]))
