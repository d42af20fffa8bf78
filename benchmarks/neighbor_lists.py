"""Time and recall of CMA's search within lists (objective.search ivf), beside the exact search of the same memory.

    python benchmarks/neighbor_lists.py                  200 000 rows, 1 thread, about 8 minutes
    python benchmarks/neighbor_lists.py --rows 50000     half a minute

Memories are made up: ``clusters`` are rows around centers that video and audio share, as classes of clips would be;
``directions`` are random unit vectors without any structure, the worst case for lists. Recall is the share of the exact
search's positives that the lists give. The searches take turns, and the shortest time of each counts; building the
lists is part of it, as CMA builds them for every search.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from avssl.core.divided_rows import Division
from avssl.objectives.divided_neighbors import divided_agreements
from avssl.objectives.inverted_lists import Lists
from avssl.objectives.neighbors import top_agreements

NUM_POSITIVES, WIDTH, ROWS_A_CLUSTER, SPREAD = 32, 128, 100, 1.0


def memories(num_rows: int, kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return (N, D) video and audio rows."""
    generator = torch.Generator().manual_seed(seed)
    video, audio = torch.randn(2, num_rows, WIDTH, generator=generator).unbind()
    if kind == "clusters":
        centers = torch.randn(2, num_rows // ROWS_A_CLUSTER, WIDTH, generator=generator)
        cluster = torch.randint(num_rows // ROWS_A_CLUSTER, (num_rows,), generator=generator)
        video, audio = centers[0, cluster] + SPREAD * video, centers[1, cluster] + SPREAD * audio
    return video, audio


def recall(found: Tensor, expected: Tensor) -> float:
    """Return the share of the expected rows that are found."""
    blocks = zip(found.split(4096), expected.split(4096), strict=True)
    hits = sum(int((ours[:, :, None] == theirs[:, None]).any(dim=1).sum()) for ours, theirs in blocks)
    return hits / expected.numel()


def measure(kind: str, options: argparse.Namespace) -> list[str]:
    """Return the lines of one kind of memory."""
    video, audio = memories(options.rows, kind, options.seed)
    arguments = video, audio, NUM_POSITIVES, options.agreement
    division = Division(options.rows, requested=True)

    def within(probes: int) -> Callable[[], Tensor]:
        return lambda: divided_agreements(*arguments, division, Lists(options.lists, probes))

    searches: dict[str, Callable[[], Tensor]] = {"exact": lambda: top_agreements(*arguments)}
    count = Lists(options.lists).count_for(options.rows)
    searches |= {f"{probes} of {count} lists": within(probes) for probes in options.probes}
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    found = {}
    for _ in range(options.repeats):
        for name, search in searches.items():
            start = time.process_time()
            found[name] = search()
            seconds[name].append(time.process_time() - start)
    exact = min(seconds["exact"])
    return [
        f"| {kind} | {name} | {min(times):.1f} | {exact / min(times):.2f} | {recall(found[name], found['exact']):.3f} |"
        for name, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="N")
    parser.add_argument("--probes", type=int, nargs="+", default=[8, 32], help="lists that are searched")
    parser.add_argument("--lists", type=int, default=0, help="lists; 0 for four times the square root of N")
    parser.add_argument("--agreement", default="consensus", choices=["consensus", "union", "video", "audio"])
    parser.add_argument("--memory", nargs="+", default=["clusters", "directions"], choices=["clusters", "directions"])
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{options.rows} rows of {WIDTH}, {NUM_POSITIVES} positives, {options.agreement}, {options.threads} threads,")
    print(f"CPU seconds, shortest of {options.repeats}, seed {options.seed}\n")
    print("| memory | search | CPU seconds | exact / it | recall |\n| --- | --- | ---: | ---: | ---: |")
    for kind in options.memory:
        print("\n".join(measure(kind, options)), flush=True)


if __name__ == "__main__":
    main()
