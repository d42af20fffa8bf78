"""Plan two trainings on a cluster by arithmetic: hours, bytes, cores, storage, network, and what breaks first.

    python benchmarks/cluster_plan.py                        AVID on AudioSet-2M, and a ViT-L pair on 100 M clips
    python benchmarks/cluster_plan.py --run vit_l --clips 32 --nodes 16

Nothing here has run on a cluster. A step takes its roofline's time (benchmarks/roofline.py: counted operations and
bytes, and an H200's data sheet) divided by the share of the bound that is reached, which is an assumption. Decoding and
bytes on disk are those that benchmarks/loader.py measured. Every number that is neither counted nor measured is an
option, with its source in --help. AVID's loss is counted as InfoNCE, and its memory bank by its size. A resource that
is used by more than 100 % breaks: the step waits for it, or the run does not start. The plan of a run
with its own settings and rows is that of ``avssl pretrain --dry-run --world-size N``, which takes the time of a step
from here (``--step-seconds``).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from config_cost import memory_bytes, model_cost
from gpu_plan import Case, vit_pair
from roofline import LAUNCH_MICROSECONDS, VARIANTS, accelerator, trace_step

from avssl.config import Config, load_config
from avssl.engine import Precision, state_bytes
from avssl.training.build import build_model, build_sampling

CONFIG = Path(__file__).parents[1] / "configs" / "avid_audioset.yaml"
COUNTED_CLIPS = 2
"""Clips whose memory is counted."""


@dataclass(frozen=True)
class Run:
    """A training to plan. Sources of the defaults are in ``--help``."""

    title: str
    case: Case
    config: Callable[[int], Config]
    rows: int
    epochs: int
    clips: int
    """Clips of a step on one GPU."""
    row_seconds: float = 10.0


def _avid(clips: int) -> Config:
    config = load_config(CONFIG)
    return replace(config, optim=replace(config.optim, batch_size=clips))


def _runs() -> dict[str, Run]:
    avid, vit = load_config(CONFIG), vit_pair("ViT-L/16 pair", 1024, 24, 16)
    case = Case("AVID's pair", avid.model.video, avid.model.audio, avid.sampling.num_frames, avid.transform.video.size)
    rows, epochs, clips = 1_784_108, avid.optim.epochs, avid.optim.batch_size // 64
    return {
        "avid": Run("AVID on AudioSet-2M (configs/avid_audioset.yaml)", case, _avid, rows, epochs, clips),
        "vit_l": Run("A ViT-L pair with InfoNCE on 100 M clips", vit, vit.config, 100_000_000, 10, 64),
    }


@dataclass(frozen=True)
class Cluster:
    """The machines, and what is assumed of them."""

    nodes: int
    gpus: int
    gpu_gb: float
    cores: int
    host_gb: float
    disk_tb: float
    storage_gb_s: float
    nvlink_gb_s: float
    network_gbit_s: float
    pcie_gb_s: float
    feeding_gb_s: float
    of_bound: float
    variant: str
    launch_us: float
    decode_ms_per_frame: float
    copy_mib_per_hour: float

    @property
    def world(self) -> int:
        """GPUs of all nodes."""
        return self.nodes * self.gpus


@dataclass(frozen=True)
class Counted:
    """Numbers of one GPU's step, counted by running it on tensors without values."""

    flops: int
    """Operations of the networks."""
    bound_seconds: float
    share: float
    """Share of the ceiling of bf16 products at the bound."""
    parameters: int
    state_bytes: int
    activation_bytes: int
    bank_bytes: int
    clip_bytes: int
    """Bytes of a clip on its way to the device."""


@dataclass(frozen=True)
class Resource:
    """Need of a run for one resource, and the amount that is there."""

    name: str
    needed: float
    there: float
    unit: str
    source: str

    @property
    def used(self) -> float:
        return self.needed / self.there


# ---------------------------------------------------------------- arithmetic


def count(run: Run, cluster: Cluster) -> Counted:
    """Count a step of the run on one GPU."""
    config = run.config(run.clips)
    row = trace_step(run.case, run.clips).row(cluster.variant, cluster.launch_us / 1e6)
    model = build_model(config)
    cost = model_cost(run.config(COUNTED_CLIPS), COUNTED_CLIPS, Precision("bf16", "channels_last"))
    sampling = build_sampling(config)
    side = sampling.short_side or config.transform.video.size
    return Counted(
        flops=cost.flops * run.clips // COUNTED_CLIPS,
        bound_seconds=row["ms"] / 1000,
        share=row["share"],
        parameters=sum(x.numel() for x in model.parameters()),
        state_bytes=state_bytes(model, config.optim.name),
        activation_bytes=cost.saved_bytes * run.clips // COUNTED_CLIPS,
        bank_bytes=memory_bytes(config, run.rows),
        clip_bytes=round(sampling.num_frames * side * side * 4 / 3 * 1.5) + 4 * sampling.num_samples,
    )


def all_reduce_seconds(num_bytes: float, cluster: Cluster) -> float:
    """Return the time of a sum over all GPUs: within each node, between nodes a share on each GPU's port, and back.

    Patarasuk and Yuan, 2009, https://doi.org/10.1016/j.jpdc.2008.09.002: each rank sends 2 (n - 1) / n of the bytes.
    """
    within = 2 * (cluster.gpus - 1) / cluster.gpus * num_bytes / (cluster.nvlink_gb_s * 1e9)
    between = 2 * (cluster.nodes - 1) / cluster.nodes * num_bytes / cluster.gpus / (cluster.network_gbit_s / 8 * 1e9)
    return within + between


def resources(run: Run, counted: Counted, cluster: Cluster) -> list[Resource]:
    """Return what the run needs of each resource, the scarcest first."""
    step = counted.bound_seconds / cluster.of_bound
    clips_per_node = cluster.gpus * run.clips / step
    config = run.config(run.clips)
    sampling = config.sampling
    row_bytes = cluster.copy_mib_per_hour * 2**20 * run.row_seconds / 3600
    read_seconds = min(run.row_seconds, sampling.audio_seconds + sampling.num_frames / sampling.frames_per_second)
    read_bytes = row_bytes * read_seconds / run.row_seconds
    decode_seconds = cluster.decode_ms_per_frame / 1000 * sampling.num_frames
    network = all_reduce_seconds(4 * counted.parameters, cluster)
    memory = counted.state_bytes + counted.activation_bytes + counted.bank_bytes
    device_bytes = run.clips * counted.clip_bytes / step
    ahead = clips_per_node * counted.clip_bytes * 2 / 1e9
    cores = cluster.cores - cluster.gpus  # one for each training process
    found = [
        Resource("GPU memory", memory / 1e9, cluster.gpu_gb, "GB a GPU", "weights, optimizer, activations, bank"),
        Resource("decoding", clips_per_node * decode_seconds, cores, "cores a node", "loader.py"),
        Resource("reading", clips_per_node * read_bytes / 1e9, cluster.storage_gb_s, "GB/s a node", "loader.py"),
        Resource("local copy", run.rows * row_bytes / 1e12, cluster.disk_tb, "TB a node", "all rows on each node"),
        Resource("gradients", network, step, "s a step", "NVLink and network, hidden behind backward up to 100 %"),
        Resource("feeding", device_bytes / 1e9, cluster.feeding_gb_s, "GB/s a GPU", "the training process, loader.py"),
        Resource("transfer", device_bytes / 1e9, cluster.pcie_gb_s, "GB/s a GPU", "planes over PCIe"),
        Resource("host memory", ahead, cluster.host_gb, "GB a node", "clips of 2 s that wait for the GPUs"),
    ]
    return sorted(found, key=lambda resource: -resource.used)


def describe(run: Run, counted: Counted, cluster: Cluster) -> str:
    """Return the plan of a run as Markdown."""
    step, world = counted.bound_seconds / cluster.of_bound, cluster.world
    steps = run.epochs * (run.rows // (run.clips * world))
    hours, clips = steps * step / 3600, steps * run.clips * world
    copy_tb = run.rows * cluster.copy_mib_per_hour * 2**20 * run.row_seconds / 3600 / 1e12
    gradient = all_reduce_seconds(4 * counted.parameters, cluster)
    rows = f"{run.rows / 1e6:.3g} M rows of {run.row_seconds:g} s"
    facts = {
        "clips": f"{rows}, {run.epochs} epochs: {clips / 1e9:.3g} G clips",
        "batch": f"{run.clips} clips on each of {cluster.nodes} x {cluster.gpus} GPUs: {run.clips * world}",
        "networks": f"{counted.parameters / 1e6:.1f} M parameters; {counted.flops / run.clips / 1e9:.4g} GFLOP a clip",
        "operations": f"{counted.flops * steps * world:.2g} FLOP",
        "step": f"{1000 * counted.bound_seconds:.1f} ms at the roofline ({cluster.variant}, {counted.share:.0%} of the "
        f"ceiling), {1000 * step:.1f} ms at {cluster.of_bound:.0%} of it ({counted.share * cluster.of_bound:.0%})",
        "speed": f"{run.clips / step:.0f} clips/s a GPU, {run.clips * world / step:.0f} in all",
        "**time**": f"**{hours:.3g} h, {hours * world:.3g} GPU hours**",
        "copy": f"{copy_tb:.3g} TB of prepared clips",
        "gradients": f"{4 * counted.parameters / 1e9:.3g} GB a step, {1000 * gradient:.2g} ms over the network",
        "checkpoint": f"{counted.state_bytes / 4 * 3 / 1e9:.3g} GB of weights and optimizer"
        + (f", {counted.bank_bytes / 1e9:.3g} GB of memory rows" if counted.bank_bytes else ""),
    }
    table = resources(run, counted, cluster)
    lines = [f"## {run.title}", "", "| | |", "| --- | --- |", *(f"| {name} | {text} |" for name, text in facts.items())]
    lines += ["", "| resource | needed | there | used | |", "| --- | ---: | ---: | ---: | --- |"]
    lines += [f"| {x.name} | {x.needed:.3g} {x.unit} | {x.there:.3g} | {x.used:.0%} | {x.source} |" for x in table]
    broken = [x for x in table if x.used > 1]
    end = f"First to break: {table[0].name}, at {table[0].used:.0%}"
    return "\n".join([*lines, "", end + (f"; {len(broken)} do not suffice." if broken else "; all suffice.")])


# ---------------------------------------------------------------- options

_DATA_SHEET = "https://www.nvidia.com/en-us/data-center/dgx-h200/"
_LOADER = "docs/data.md, measured by benchmarks/loader.py"
OPTIONS: dict[str, tuple[float, str]] = {
    "--nodes": (8, "Machines."),
    "--gpus": (8, f"GPUs of a machine; {_DATA_SHEET}"),
    "--gpu-gb": (141, f"Memory of a GPU in GB; {_DATA_SHEET}"),
    "--cores": (112, f"Processor cores of a machine; {_DATA_SHEET}"),
    "--host-gb": (2000, f"Memory of a machine in GB; {_DATA_SHEET}"),
    "--disk-tb": (30.7, f"Local disks of a machine in TB; {_DATA_SHEET}"),
    "--storage-gb-s": (8, "Reading from shared storage, in GB/s of each machine; an assumption: measure yours."),
    "--nvlink-gb-s": (450, f"NVLink of a GPU in GB/s and direction, half of the sheet's 900; {_DATA_SHEET}"),
    "--network-gbit-s": (400, f"Network port of each GPU in Gb/s; {_DATA_SHEET}"),
    "--pcie-gb-s": (55, "Host to GPU in GB/s; an assumption: PCIe 5.0 x16 is 63 GB/s without its overhead."),
    "--feeding-gb-s": (
        5.0,
        "What a training process takes in, in GB/s; benchmarks/loader.py --feeding measured by processor time: 23 500 "
        "clips of 214 kB a second; an assumption that larger clips cost as much a byte.",
    ),
    "--of-bound": (
        0.6,
        "Share of the roofline that is reached; an assumption until benchmarks/gpu.py has run. Megatron-LM reaches 52 "
        "%% of the ceiling (Narayanan et al., 2021, https://arxiv.org/abs/2104.04473, table 1).",
    ),
    "--launch-us": (LAUNCH_MICROSECONDS, "Time of the host for a kernel in µs; an assumption."),
    "--decode-ms-per-frame": (
        1000 / 116 / 32,
        f"Time of a core for a frame of a 256-pixel copy, in ms; {_LOADER}: 32 x 224.",
    ),
    "--copy-mib-per-hour": (567, f"Prepared copy with short side 256, in MiB an hour; {_LOADER}."),
}


def main() -> None:
    """Print the plans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runs = _runs()
    parser.add_argument("--run", choices=list(runs), help="Only this run.")
    parser.add_argument("--rows", type=int, help="Rows; AudioSet's that AVID's authors still found, or 100 M.")
    parser.add_argument("--epochs", type=int, help="Epochs; of AVID's paper, or 10, an assumption.")
    parser.add_argument("--clips", type=int, help="Clips a step on one GPU; 40 as in AVID's paper, or 64.")
    for option, (default, text) in OPTIONS.items():
        kind = int if option in ("--nodes", "--gpus") else float
        parser.add_argument(option, type=kind, default=default, help=f"{text} Default {default:.4g}.")
    parser.add_argument("--variant", choices=list(VARIANTS), default="eager", help="Kernels, as in roofline.py.")
    options = vars(parser.parse_args())
    name = options.pop("run")
    changes = {key: options.pop(key) for key in ("rows", "epochs", "clips")}
    changes = {key: value for key, value in changes.items() if value is not None}
    keep, cluster = accelerator(), Cluster(**options)
    for run in runs.values() if name is None else [runs[name]]:
        changed = replace(run, **changes)
        print(f"{describe(changed, count(changed, cluster), cluster)}\n", flush=True)
    assert keep, "libraries must live as long as the device is used"


if __name__ == "__main__":
    main()
