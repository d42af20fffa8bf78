"""Compiled parts of a step: one program each for batches of any canvas, and runs that resume exactly."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
from engine_toy import ToyLoader, ToyTask

from avssl.config import config_from_dict
from avssl.core.needs import TemporalWindows
from avssl.engine import Checkpointer, LoopSettings, Precision, WarmupCosine, create_optimizer, fit, load_checkpoint
from avssl.engine.compilation import compiled

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from compile import trace
from made_up import CONFIGS, made_up_batch, ready_task, small, supervised_tasks

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
SMALL = {path.stem.removeprefix("soundingshapes_"): path for path in CONFIGS}
SETTINGS = {
    "a memory": (small(SMALL["avid"]), "model"),
    "maps, silence and two views": (small(SMALL["dense_av"]), "all"),
    "masks": (small(SMALL["cav_mae"]), "model"),
    "chunks": (config_from_dict({"train": {"embed_chunk_size": 3}, "objective": {"name": "swav"}}), "model"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_part_of_a_step_is_one_program_for_all_canvases(name):
    config, what = SETTINGS[name]
    found = trace(ready_task(config), config, what)
    assert found.is_whole, found
    assert found.parts == (3 if what == "all" else 2)


@pytest.mark.parametrize("layout", ["channels_last", "channels_last_2d"])
def test_the_networks_of_a_classifier_are_whole_programs_in_bf16_too(layout):
    precision = Precision("bf16", layout)
    found = trace(supervised_tasks()["classify"], config_from_dict({}), "model", precision)
    assert found.is_whole, found


def test_compiled_transforms_equal_the_plain_ones():
    video = {"preset": "simclr", "size": 32, "hue": 0.1, "erase_probability": 0.5}
    config = config_from_dict({"transform": {"video": video, "audio": {"gain": (0.5, 1.5)}}})
    task, batches = ready_task(config), [made_up_batch(config, TemporalWindows(), hw) for hw in ((36, 36), (40, 49))]
    plain = [task.transform(batch) for batch in batches]
    with compiled(task, "transforms", backend="aot_eager"):  # g++ takes minutes for its kernels
        for batch, expected in zip(batches, plain, strict=True):
            found = task.transform(batch)
            torch.testing.assert_close(found.video, expected.video, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(found.audio, expected.audio, rtol=1e-5, atol=2e-5)  # of 100 dB


def run(folder, what, total, resume=False):
    task, loader = ToyTask(), ToyLoader()
    task.model[3].p = 0.0  # a compiled program drops other places
    optimizer = create_optimizer(task, "sgd", lr=0.1, weight_decay=0.1)  # Adam would enlarge what rounding leaves of 0
    settings = LoopSettings(total_steps=total, steps_per_epoch=4, checkpoint_every=2, compile=what)
    schedule = WarmupCosine(0.01, total_steps=4)
    checkpointer = Checkpointer(folder, keep_last=4)
    fit(task, loader, optimizer, schedule, settings=settings, checkpointer=checkpointer, progress=False, resume=resume)
    return load_checkpoint(checkpointer.path(total))["task"]


@pytest.mark.skipif(shutil.which("g++") is None, reason="kernels of a CPU are compiled by g++")
def test_a_compiled_run_resumes_bit_for_bit_and_equals_the_plain_one(tmp_path):
    whole = run(tmp_path / "whole", "model", 4)
    run(tmp_path / "parts", "model", 2)
    resumed = run(tmp_path / "parts", "model", 4, resume=True)
    plain = run(tmp_path / "plain", "none", 4)
    run(tmp_path / "other", "none", 2)
    compiled_later = run(tmp_path / "other", "model", 4, resume=True)
    assert whole.keys() == plain.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
        torch.testing.assert_close(value, plain[name], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(value, compiled_later[name], rtol=1e-4, atol=1e-5)
