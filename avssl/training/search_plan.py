"""Arithmetic of CMA's searches of positives: operations, messages and memory of a process.

Dimensions: N rows, W processes, S rows of a process, D numbers of a row (of both memories, if both are compared),
P positives, L lists, M lists that are searched.
"""

from __future__ import annotations

from dataclasses import dataclass

from avssl.objectives.cma import CMA
from avssl.objectives.inverted_lists import ITERATIONS, ROWS_A_CENTER, Lists
from avssl.objectives.neighbors import BLOCK_ELEMENTS

GPU_TERAFLOPS = 100.0
"""Assumed speed of products of a process in bfloat16, a quarter of what an H100 or H200 reaches."""
FAISS_TERAFLOPS = 0.1
"""Assumed speed of faiss on the processor cores of a process."""

_FLOAT, _HALF, _NUMBER, _LIST = 4, 2, 8, 4


@dataclass(frozen=True)
class Corpus:
    """The memory that is searched."""

    num_rows: int
    """N."""
    num_processes: int
    """W."""
    width: int
    """Numbers of a row in one memory."""
    num_memories: int
    """1 or 2."""
    num_positives: int
    """P."""
    is_divided: bool
    """True if each process keeps its share of the rows only."""

    @property
    def share(self) -> int:
        """S."""
        return -(-self.num_rows // self.num_processes)

    @property
    def row_size(self) -> int:
        """D."""
        return self.width * self.num_memories


@dataclass(frozen=True)
class SearchCost:
    """Cost of one search for one process."""

    operations: float
    """Floating-point operations of all processes together; a multiply-add counts as two."""
    hours: float
    """At the assumed speeds."""
    received_bytes: float
    """Bytes that a process receives from the others."""
    memory_bytes: float
    """Memory of a process beside its memory rows and positives."""


def exact_cost(corpus: Corpus) -> SearchCost:
    """Return the cost of comparing all rows with all others, in blocks."""
    operations = 2.0 * corpus.num_rows**2 * corpus.row_size
    searched = corpus.share if corpus.is_divided else corpus.num_rows
    block = BLOCK_ELEMENTS["cuda"] * _HALF * corpus.num_memories
    memory = searched * corpus.row_size * (_FLOAT + _HALF) + block
    received = _received(corpus, _NUMBER) if corpus.is_divided else _gathered_positives(corpus)
    return SearchCost(operations, _hours(operations / corpus.num_processes, GPU_TERAFLOPS), received, memory)


def list_cost(corpus: Corpus, lists: Lists, num_searches: int = 1) -> SearchCost:
    """Return the cost of comparing each row with those of M of L lists; rows are divided for it in any case.

    Args:
        corpus: What is searched.
        lists: L and M.
        num_searches: Searches of each query: 2 for the agreement "union", which finds the nearest of each modality.
    """
    rows, size, count = corpus.num_rows, corpus.row_size, lists.count_for(corpus.num_rows)
    probes = min(lists.probes, count)
    find_lists = 2.0 * rows * count * size
    compare = 2.0 * rows * probes * rows / count * size * num_searches
    k_means = 2.0 * ROWS_A_CENTER * count * count * size * ITERATIONS
    by_faiss = compare / corpus.num_processes + k_means  # rank 0 finds the centers
    # The lists of a row are found twice: to put it into one, and to search in several.
    hours = _hours(2 * find_lists / corpus.num_processes, GPU_TERAFLOPS) + _hours(by_faiss, FAISS_TERAFLOPS)
    sample = ROWS_A_CENTER * count * size * _FLOAT
    received = _received(corpus, _NUMBER + _LIST * probes) + sample * (1 - 1 / corpus.num_processes)
    if not corpus.is_divided:
        received += _gathered_positives(corpus)
    memory = corpus.share * (2 * size * _FLOAT + _NUMBER) + sample
    return SearchCost(2 * find_lists + compare + k_means, hours, received, memory)


def cost_lines(objective: CMA, num_rows: int, num_processes: int, num_searches: int) -> list[str]:
    """Describe the searches of a run: by the exact product, and within lists."""
    both = objective.agreement in ("consensus", "union")
    corpus = Corpus(
        num_rows,
        num_processes,
        objective.bank.video.shape[1],
        2 if both else 1,
        objective.num_positives,
        objective.division.requested,
    )
    lists = objective.lists or Lists()
    count, probes = lists.count_for(num_rows), min(lists.probes, lists.count_for(num_rows))
    kinds = {
        "exact": (exact_cost(corpus), f"at an assumed {GPU_TERAFLOPS:g} TFLOP/s a process"),
        f"{probes} of {count} lists (ivf)": (
            list_cost(corpus, lists, 2 if objective.agreement == "union" else 1),
            f"at an assumed {FAISS_TERAFLOPS:g} TFLOP/s of faiss a process",
        ),
    }
    chosen = "exact" if objective.lists is None else next(name for name in kinds if name != "exact")
    return [
        f"  search    {num_searches} searches, {name}{', as set' if name == chosen else ''}: "
        f"{cost.operations / 1e15:.3g} PFLOP, each {cost.hours:.2g} h {speed}; "
        f"{_gib(cost.received_bytes)} received and {_gib(cost.memory_bytes)} of memory a process"
        for name, (cost, speed) in kinds.items()
    ]


def _received(corpus: Corpus, about_query: int) -> float:
    """Return the bytes of the queries of all others, and of the P scores and rows from each for the own ones."""
    queries = (corpus.num_rows - corpus.share) * (corpus.row_size * _FLOAT + about_query)
    found = corpus.share * corpus.num_positives * (_FLOAT + _NUMBER) * (corpus.num_processes - 1)
    return float(queries + found)


def _gathered_positives(corpus: Corpus) -> float:
    return float((corpus.num_rows - corpus.share) * corpus.num_positives * _NUMBER)


def _hours(operations: float, teraflops: float) -> float:
    return operations / (teraflops * 1e12) / 3600


def _gib(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.3g} GiB"
