"""Start of a run from the weights of another run, or after torchrun restarted its processes."""

from __future__ import annotations

import logging

from avssl.config import Config, ConfigError
from avssl.core import distributed
from avssl.core.sharded import full, mesh_of
from avssl.engine import Checkpointer
from avssl.training.run_directory import RunDirectory
from avssl.training.tasks import PretrainTask

_LOGGER = logging.getLogger(__name__)


def mark_begun(run: RunDirectory) -> None:
    """Set the flag by which processes that torchrun restarts know that this run was already started."""
    distributed.set_flag(_flag(run))


def after_restart(run: RunDirectory, config: Config, resume: bool, overwrite: bool) -> tuple[Config, bool, bool]:
    """Return settings, ``resume`` and ``overwrite``, changed if torchrun restarted the processes of this run.

    The run is then resumed if it has a checkpoint, and else replaced.
    """
    if not distributed.has_flag(_flag(run)):
        return config, resume, overwrite
    if Checkpointer(run.checkpoints).files():
        return run.read_config(), True, True
    return config, resume, True


def _flag(run: RunDirectory) -> str:
    return f"began {run.path.resolve()}"


def load_run(source: str, task: PretrainTask) -> None:
    """Load the weights and statistics of another run, and those objective buffers that this one has too.

    A momentum model starts from the same weights if the other run had none.

    Raises:
        ConfigError: If there is no checkpoint, or a tensor has another shape there.
    """
    wanted = task.state_dict()
    mesh = mesh_of(wanted.values())  # a divided memory is read by parts
    state = Checkpointer(RunDirectory(source).checkpoints, mesh=mesh).load_latest()
    if state is None:
        raise ConfigError(f"train.init_from ({source}): there is no checkpoint of a run.")
    theirs = {name: x if name.startswith("objective.") else full(x) for name, x in state["task"].items()}
    copied = {f"target.{name}": value for name, value in theirs.items() if name.startswith("model.")}
    theirs = copied | theirs
    fitting = {k: v for k, v in theirs.items() if k in wanted or not k.startswith(("objective.", "target."))}
    for name in sorted(name for name in {*wanted, *fitting} if not name.startswith("objective.")):
        there, here = (tuple(tensors[name].shape) if name in tensors else None for tensors in (fitting, wanted))
        if there != here:
            raise ConfigError(
                f"train.init_from ({source}): {name} is {there} there and {here} here. Use the same model "
                "and transform settings."
            )
    task.load_state_dict(fitting, strict=False)
    if distributed.is_main():
        _LOGGER.info("starts from %s, step %d", source, state["step"])
