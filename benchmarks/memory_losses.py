"""Objectives with a memory of N rows, for losses.py: steps of AVID and CMA, and CMA's search beside a plain loop.

Compared functions take turns (A B A B ...) within one process, so that other load on the machine affects all alike;
numbers are medians over the rounds, ratios medians of the rounds' own ratios.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from peak_memory import peak, reset_peak
from torch import Tensor

from avssl.core.batch import BatchIndex, Embeddings
from avssl.core.draws import clip_key
from avssl.objectives import AVID, CMA, InfoNCE, MemoryRows, Objective
from avssl.objectives.neighbors import top_agreements

NUM_POSITIVES, BATCH_SIZE, STEPS_AT_ONCE = 32, 32, 5
LOOP_BATCH = 16
# Pairs of a query and a row in the search whose results are compared: all queries of 20 000 rows, some of more rows.
MOST_PAIRS = 20_000**2
# Queries of a timed search, which pays for the preparation of all rows, too.
TIMED_QUERIES = 2000
THREADS = (1, 2)
# Rounds begin within this time; a measurement takes up to three times as long with its first calls and last round.
BUDGET_SECONDS = 30.0
MOST_ROUNDS = 15
MOST_SECONDS = 3 * BUDGET_SECONDS
# Two neighbors this near are equal in float32.
SAME_COSINE = 1e-6


class Seconds(NamedTuple):
    """Seconds of one call."""

    wall: float
    cpu: float


Times = Mapping[tuple[str, int], list[Seconds]]


def measure_search(num_rows: int, size: int, device: str) -> dict[str, Any]:
    """Measure the blocked search and the loop for each number of threads; raise if their neighbors differ."""
    video, audio = memories(num_rows, size, device)
    queries = min(num_rows, MOST_PAIRS // num_rows)
    searches: dict[str, Callable[[int], Tensor]] = {
        "loop": lambda count: loop_search(video, audio, count),
        "blocked": lambda count: top_agreements(video, audio, NUM_POSITIVES, "consensus", slice(0, count)),
    }
    extra, found = {}, {}
    for name, search in searches.items():
        found[name], extra[name] = extra_mib(partial(search, queries), partial(search, LOOP_BATCH), device)
    differ, distance = difference(video, audio, found["loop"], found["blocked"])
    if distance > SAME_COSINE:
        raise AssertionError(f"the searches differ in {differ} queries, by up to {distance:.2g}.")
    timed_queries = min(queries, TIMED_QUERIES)
    times = take_turns({name: partial(search, timed_queries) for name, search in searches.items()}, device)
    return {
        "compared": queries,
        "queries": timed_queries,
        "differ": differ,
        "distance": distance,
        "ratio": {str(threads): median_ratios(times, threads) for _, threads in times},
        "timings": timings(times, extra, per=timed_queries),
    }


def measure_step(num_rows: int, size: int, device: str) -> dict[str, Any]:
    """Measure value, gradient and update for each number of threads, and InfoNCE, without a memory, for scale."""
    rows = MemoryRows(torch.arange(num_rows), torch.arange(num_rows))
    cma = CMA(rows, size, loss="nce_frozen", num_positives=NUM_POSITIVES)
    near = (torch.arange(num_rows)[:, None] + 1 + 7 * torch.arange(NUM_POSITIVES)) % num_rows
    cma.load_state_dict(cma.state_dict() | {"found": near.sort(dim=1).values})
    objectives: dict[str, Objective] = {
        "info_nce": InfoNCE(pooling="pooled"),
        "avid": AVID(rows, size, loss="nce_frozen"),
        "cma": cma,
    }
    calls = {name: steps_of(objective.to(device), num_rows, size, device) for name, objective in objectives.items()}
    extra = {name: extra_mib(call, call, device)[1] for name, call in calls.items()}
    times = take_turns(calls, device)
    return {"batch": BATCH_SIZE, "timings": timings(times, extra, per=STEPS_AT_ONCE)}


def memories(num_rows: int, size: int, device: str) -> tuple[Tensor, Tensor]:
    """Return rows in groups of about 50 that are similar in both modalities, as in a trained memory."""
    generator = torch.Generator().manual_seed(0)
    group = torch.randint(max(1, num_rows // 50), (num_rows,), generator=generator)
    centers = torch.randn(2, int(group.max()) + 1, size, generator=generator)
    video, audio = centers[:, group] + torch.randn(2, num_rows, size, generator=generator)
    return video.to(device), audio.to(device)


def loop_search(video: Tensor, audio: Tensor, num_queries: int) -> Tensor:
    """Return (Q, P) int64 ascending: the best rows of each query, a few queries at a time in float32."""
    video, audio = F.normalize(video, dim=1), F.normalize(audio, dim=1)
    found = torch.empty(num_queries, NUM_POSITIVES, dtype=torch.int64, device=video.device)
    for rows in torch.arange(num_queries, device=video.device).split(LOOP_BATCH):
        scores = torch.minimum(video[rows] @ video.T, audio[rows] @ audio.T)
        scores[torch.arange(len(rows)), rows] = -torch.inf
        found[rows] = scores.topk(NUM_POSITIVES, dim=1).indices.sort(dim=1).values
    return found


def difference(video: Tensor, audio: Tensor, one: Tensor, other: Tensor) -> tuple[int, float]:
    """Return how many queries have different neighbors, and by how much their agreements differ, in float64."""
    rows = (one != other).any(dim=1).nonzero()[:, 0]
    units = [F.normalize(memory.double(), dim=1) for memory in (video, audio)]
    agreements = [
        torch.minimum(*(torch.einsum("qd,qpd->qp", unit[rows], unit[found[rows]]) for unit in units)).sort(dim=1).values
        for found in (one, other)
    ]
    return len(rows), float((agreements[0] - agreements[1]).abs().max()) if len(rows) else 0.0


def steps_of(objective: Objective, num_rows: int, size: int, device: str) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)
    video, audio = (torch.randn(BATCH_SIZE, size, generator=generator).to(device).requires_grad_() for _ in range(2))
    row = torch.randint(num_rows, (STEPS_AT_ONCE, BATCH_SIZE), generator=generator)
    indices = [BatchIndex(r, r, clip_key(0, number, r)).to(device) for number, r in enumerate(row)]

    def steps() -> None:
        for index in indices:
            online = Embeddings(video, audio)
            objective(online, None, index).total.backward()
            objective.update(online.detach(), None, index)

    return steps


def extra_mib(call: Callable[[], Any], before: Callable[[], Any], device: str) -> tuple[Any, float]:
    """Return a call's result and its peak of memory above the start; ``before`` loads the code."""
    before()
    if device == "cpu":
        ctypes.CDLL(None).malloc_trim(0)  # otherwise it would reuse freed memory unnoticed
    in_use = reset_peak(device)
    result = call()
    return result, (peak(device) - in_use) / 2**20


def take_turns(calls: Mapping[str, Callable[[], Any]], device: str) -> Times:
    """Run at least three rounds, then as many as begin within the budget; on a GPU with one number of threads."""
    times = defaultdict(list)
    began = time.perf_counter()
    for number in range(MOST_ROUNDS):
        if number >= 3 and time.perf_counter() - began > BUDGET_SECONDS:
            break
        for threads in THREADS if device == "cpu" else THREADS[:1]:
            torch.set_num_threads(threads)
            for name, call in calls.items():
                times[name, threads].append(timed(call, device))
    return times


def timed(call: Callable[[], Any], device: str) -> Seconds:
    wall, cpu = time.perf_counter(), time.process_time()
    call()
    if device == "cuda":
        torch.cuda.synchronize()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu)


def median_ratios(times: Times, threads: int) -> Seconds:
    """Return the ratio of the loop's time to the search's."""
    rounds = list(zip(times["loop", threads], times["blocked", threads], strict=True))
    wall, cpu = (statistics.median(loop[clock] / blocked[clock] for loop, blocked in rounds) for clock in (0, 1))
    return Seconds(wall, cpu)


def timings(times: Times, extra: Mapping[str, float], per: int) -> list[dict[str, Any]]:
    """Return the milliseconds of each query or step."""
    return [
        {
            "name": name,
            "threads": threads,
            "wall_ms": 1000 * statistics.median(seconds.wall for seconds in rounds) / per,
            "cpu_ms": 1000 * statistics.median(seconds.cpu for seconds in rounds) / per,
            "rounds": len(rounds),
            "extra_mib": extra[name],
        }
        for (name, threads), rounds in times.items()
    ]


def search_table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown line for each search, size and number of threads; ratios are loop to search."""
    lines = [
        "| N | D | threads | queries | search | wall ms / query | CPU ms / query | rounds | extra MiB | wall | CPU |",
        "| ---: | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row, one in by_threads(rows):
        ratios = row["ratio"][str(one["threads"])] if one["name"] == "blocked" else [1, 1]
        times = " | ".join(f"{ratio:.2f}" for ratio in ratios)
        lines.append(f"{place(row, one)} | {row['queries']} | {one['name']} | {numbers(one, digits=3)} | {times} |")
    return "\n".join(lines)


def step_table(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown line for each objective, size and number of threads."""
    lines = [
        "| N | D | threads | objective | wall ms / step | CPU ms / step | rounds | extra MiB |",
        "| ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"{place(row, one)} | {one['name']} | {numbers(one, digits=2)} |" for row, one in by_threads(rows)]
    return "\n".join(lines)


def by_threads(rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    for row in rows:
        for timing in sorted(row["timings"], key=lambda timing: timing["threads"]):
            yield row, timing


def place(row: Mapping[str, Any], timing: Mapping[str, Any]) -> str:
    return f"| {row['N']} | {row['D']} | {timing['threads']}"


def numbers(timing: Mapping[str, Any], digits: int) -> str:
    wall, cpu = (f"{timing[key]:.{digits}f}" for key in ("wall_ms", "cpu_ms"))
    return f"{wall} | {cpu} | {timing['rounds']} | {timing['extra_mib']:.1f}"
