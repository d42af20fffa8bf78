"""Print the cost lines of a config's header, counted without data, without a GPU and without computing anything.

    python benchmarks/config_cost.py configs/avid_kinetics.yaml --rows 232067 --processes 8

``avssl.engine.step_cost`` counts operations and memory on tensors without values, forward and backward through the
networks and forward through a momentum model if there is one; objectives and transforms are left out. Memory for the
backward pass is what torch keeps for all clips of a process on a CPU in bf16; a GPU keeps about as much. GPU hours
divide the operations by an assumed speed, 50 TFLOP/s or --tflops; ``benchmarks/gpu.py`` measures the speed of a GPU.
"""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from avssl.config import Config, load_config
from avssl.core.batch import Patches
from avssl.engine import Precision, StepCost, state_bytes, step_cost
from avssl.training.build import build_model, build_transform, needs_of

ASSUMED_TFLOPS = 50.0


def model_cost(config: Config, num_clips: int, precision: Precision) -> StepCost:
    """Return the cost of a step on ``num_clips`` clips: all views, and the momentum model if there is one."""
    sampling, size = config.sampling, config.transform.video.size
    sound = torch.zeros(1, round(sampling.audio_seconds * sampling.sample_rate_hz))
    spectrogram = build_transform(config).spectrogram(sound)
    needs = needs_of(config)
    num_views = num_clips * needs.num_views
    with FakeTensorMode():
        model = build_model(config)
        target = None if needs.target_momentum is None else build_model(config).requires_grad_(False)
        handle = precision.apply(model, "cpu")
        video = torch.empty(num_views, 3, sampling.num_frames, size, size)
        audio = torch.empty(num_views + needs.negative_sounds, *spectrogram.shape[1:])

        def run() -> Tensor:
            sounds, needs_maps = audio[:num_views], needs.maps
            if target is not None:
                with torch.no_grad():
                    target(video, sounds, needs_maps=needs_maps, needs_patches=needs.masked is not None)
            keys = torch.arange(num_views) if needs.masked is not None else None
            out = model(video, sounds, needs_maps=needs_maps, negative_audio=audio[num_views:], keys=keys)
            parts = (vars(x).values() if isinstance(x, Patches) else (x,) for x in vars(out).values())
            return sum(x.sum() for part in parts for x in part if isinstance(x, Tensor))

        cost = step_cost(model, run)
        handle.remove()
    return cost


def memory_bytes(config: Config, rows: int) -> int:
    """Return the size of an objective's two memory banks, 0 if it has none."""
    if not needs_of(config).memory:
        return 0
    return (
        2
        * rows
        * config.model.head.options()["out_features"]
        * (4 if config.objective.options()["dtype"] == "fp32" else 2)
    )


def describe(config: Config, rows: int, processes: int, tflops: float | None) -> str:
    """Return the sentences of a header, without GPU hours if ``tflops`` is None."""
    model, optim = build_model(config), config.optim
    local_batch = optim.batch_size // processes
    cost = model_cost(config, local_batch, Precision("bf16", "channels_last"))
    clips = optim.epochs * (rows // optim.batch_size) * optim.batch_size
    flops = cost.flops / local_batch * clips
    state = state_bytes(model, optim.name, averaged=config.train.ema_decay is not None)
    if needs_of(config).target_momentum is not None:
        state += sum(x.numel() * x.element_size() for x in model.state_dict().values())
    bank = memory_bytes(config, rows)
    parts = [f"{_size(state)} of weights, gradients and optimizer"]
    parts += [f"{_size(bank)} of memory rows in {config.objective.options()['dtype']}"] if bank else []
    parts += [f"{_size(cost.saved_bytes)} kept for the backward pass of {local_batch} clips in bf16"]
    sizes = (f"{_parameters(encoder) / 1e6:.1f} M" for encoder in (model.video_encoder, model.audio_encoder))
    hours = "" if tflops is None else f", {flops / tflops / 3.6e15:.3g} GPU hours at an assumed {tflops:g} TFLOP/s"
    return (
        f"{cost.flops / local_batch / 1e9:.3g} GFLOP a clip, forward and backward (networks of {' and '.join(sizes)} "
        f"parameters); {_spaced(clips)} clips in {optim.epochs} epochs: {_power(flops)} FLOP{hours}, decoding not "
        f"counted. Memory of a process: {', '.join(parts)}."
    )


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _power(number: float) -> str:
    return f"{number:.2g}".replace("e+", "e")


def _spaced(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2g} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2g} MB"


def main() -> None:
    """Print the sentences, wrapped as in a header."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--rows", type=int, required=True, help="Rows of the training manifest.")
    parser.add_argument("--processes", type=int, default=1, help="Processes that share the batch.")
    parser.add_argument("--tflops", type=float, default=ASSUMED_TFLOPS, help="Assumed speed of a GPU in training.")
    parser.add_argument(
        "--cpu", action="store_true", help="Leave out GPU hours: a run on a CPU measures its time when it starts."
    )
    options = parser.parse_args()
    tflops = None if options.cpu else options.tflops
    text = describe(load_config(options.config), options.rows, options.processes, tflops)
    print(textwrap.fill(text, 120, initial_indent="#           ", subsequent_indent="#           "))


if __name__ == "__main__":
    main()
